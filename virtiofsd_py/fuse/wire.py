# SPDX-License-Identifier: BSD-3-Clause
"""What Python has to know of FUSE's wire: opcodes, limits, and a cursor for bodies.

Spec: Linux include/uapi/linux/fuse.h, protocol 7.45.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Any, Final

from virtiofsd_py._declared import Opcode

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_PAYLOAD_BYTES",
    "NEVER_UP",
    "Opcode",
    "Reader",
]

MAX_BODY_BYTES: Final = 80 << 10
"""The longest body that goes up; longer requests are refused with EINVAL."""

MAX_PAYLOAD_BYTES: Final = 128 << 10
"""The longest payload that comes back, whatever room the guest leaves."""

_NAME_MAX: Final = 255


NEVER_UP: Final = frozenset(
    {
        *(Opcode.INIT, Opcode.DESTROY, Opcode.RELEASE, Opcode.RELEASEDIR, Opcode.FSNOTIFY),
        *(Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT),
    }
)
"""What begins and ends things, or has no reply: the core's alone."""


class Reader:
    """A forward-only cursor over a request's body. What is missing is the guest's fault: EINVAL."""

    def __init__(self, body: bytes) -> None:
        """Start at the beginning of `body`."""
        self._body = body
        self._at = 0

    @property
    def left_bytes(self) -> int:
        """How much has not been read."""
        return len(self._body) - self._at

    def fields_untrusted(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Read one fixed struct.

        Raises:
            OSError: EINVAL, there is less.
        """
        return layout.unpack(self.bytes_untrusted(layout.size))

    def bytes_untrusted(self, count: int) -> bytes:
        """Read exactly `count` bytes.

        Raises:
            OSError: EINVAL, there are fewer.
        """
        if not 0 <= count <= self.left_bytes:
            raise _invalid()
        self._at += count
        return self._body[self._at - count : self._at]

    def name_untrusted(self) -> bytes:
        """Read a NUL-terminated name of one path component, as C would accept it.

        Raises:
            OSError: EINVAL for an empty one, dots, a slash or no NUL; ENAMETOOLONG.
        """
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise _invalid()
        name = self._body[self._at : end]
        if name in (b"", b".", b"..") or b"/" in name:
            raise _invalid()
        if len(name) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        self._at = end + 1
        return name

    def end_untrusted(self) -> None:
        """Make sure that nothing is left.

        Raises:
            OSError: EINVAL, something is.
        """
        if self.left_bytes:
            raise _invalid()


def _invalid() -> OSError:
    return OSError(errno.EINVAL, os.strerror(errno.EINVAL))
