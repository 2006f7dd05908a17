# SPDX-License-Identifier: BSD-3-Clause
"""Turn a ``*.cdef.h`` into the C source of an extension of ``virtiofsd_py``.

Run by meson: ``python ffi_build.py MODULE HEADER CDEF OUTPUT.c``. The declarations are the whole
surface between Python and C; the header includes the same file, so they cannot drift.

Spec: cffi documentation, "Preparing and Distributing modules", API mode, out of line.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cffi


def main(module: str, header: str, cdef: Path, output: Path) -> None:
    """Write the extension's C source.

    Args:
        module: dotted name of the extension.
        header: what declares the functions to the C compiler.
        cdef: declarations in the C subset that cffi reads: no preprocessor but constant #defines.
        output: file to write.

    Raises:
        cffi.CDefError: a declaration cffi cannot read.
        OSError: a file cannot be read or written.
    """
    builder = cffi.FFI()
    builder.cdef(cdef.read_text(encoding="utf-8"))
    builder.set_source(module, f'#include "{header}"\n')
    builder.emit_c_code(str(output))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
