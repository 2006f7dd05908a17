# SPDX-License-Identifier: BSD-3-Clause
"""Turn ``native.cdef.h`` into the C source of the extension ``virtiofsd_py._native``.

Run by meson: ``python ffi_build.py native.cdef.h OUTPUT.c``. The declarations are the whole surface
between Python and C; ``engine.h`` includes the same file, so they cannot drift.

Spec: cffi documentation, "Preparing and Distributing modules", API mode, out of line.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cffi

MODULE = "virtiofsd_py._native"
PRELUDE = '#include "engine.h"\n'


def main(cdef: Path, output: Path) -> None:
    """Write the extension's C source.

    Args:
        cdef: declarations in the C subset that cffi reads: no preprocessor but constant #defines.
        output: file to write.

    Raises:
        cffi.CDefError: a declaration cffi cannot read.
        OSError: a file cannot be read or written.
    """
    builder = cffi.FFI()
    builder.cdef(cdef.read_text(encoding="utf-8"))
    builder.set_source(MODULE, PRELUDE)
    builder.emit_c_code(str(output))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
