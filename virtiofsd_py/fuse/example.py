# SPDX-License-Identifier: BSD-3-Clause
"""An opcode tried out: CHECKSUM, by which a guest learns the digest of a file it need not read.

Request: the node id of a file, and ``struct checksum_in { u64 offset; u64 length; }``, where length
0 is all that follows. Reply: ``struct checksum_out { u64 length; u8 sha256[32]; }``. EINVAL for a
body of another size, ESTALE for a node that the guest does not hold, EISDIR or EBADF for no file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from typing import Final

from virtiofsd_py.fuse.handlers import Handlers, Request

CHECKSUM: Final = 4000
_IN: Final = struct.Struct("=QQ")
_OUT: Final = struct.Struct("=Q32s")
_CHUNK_BYTES: Final = 1 << 20
# What one request may keep the control thread busy with.
_MAX_BYTES: Final = 64 << 20

handlers = Handlers()


@handlers.serves(CHECKSUM)
def checksum(request: Request) -> bytes:
    """Serve one.

    Raises:
        OSError: see above; EFBIG for more than 64 MiB at once.
    """
    reader = request.reader()
    offset, length = reader.fields_untrusted(_IN)
    reader.end_untrusted()
    fd = request.nodes.open_node(request.raw.nodeid, os.O_RDONLY | os.O_NONBLOCK)
    try:
        left = max(0, os.fstat(fd).st_size - offset)
        if length:
            left = min(left, length)
        if left > _MAX_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        digest = hashlib.sha256()
        total = 0
        while left and (data := os.pread(fd, min(left, _CHUNK_BYTES), offset + total)):
            digest.update(data)
            total += len(data)
            left -= len(data)
    finally:
        os.close(fd)
    return _OUT.pack(total, digest.digest())
