# SPDX-License-Identifier: BSD-3-Clause
"""Turn C headers into the C source of an extension of ``virtiofsd_py``.

Run by meson: ``python ffi_build.py MODULE HEADER OUTPUT.c CDEF...``. The declarations are the whole
surface between Python and C; the header includes the same files, so they cannot drift.

Spec: cffi documentation, "Preparing and Distributing modules", API mode, out of line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import cffi

# Guards and inclusions: the headers given include each other, and nothing else that matters here.
_PREPROCESSOR = re.compile(r"^#(?:include|ifndef|endif|define \w+$).*", re.MULTILINE)


def main(module: str, header: str, output: Path, cdefs: Sequence[Path]) -> None:
    """Write the extension's C source.

    Args:
        module: dotted name of the extension.
        header: what declares the functions to the C compiler.
        output: file to write.
        cdefs: headers in the C subset that cffi reads, each behind what it needs. Lines for the
            preprocessor are skipped, but for constants (#define).

    Raises:
        cffi.CDefError: a declaration cffi cannot read.
        OSError: a file cannot be read or written.
    """
    builder = cffi.FFI()
    for cdef in cdefs:
        builder.cdef(_PREPROCESSOR.sub("", cdef.read_text(encoding="utf-8")))
    builder.set_source(module, f'#include "{header}"\n')
    builder.emit_c_code(str(output))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), [Path(name) for name in sys.argv[4:]])
