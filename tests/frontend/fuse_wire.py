# SPDX-License-Identifier: BSD-3-Clause
"""FUSE's wire, as far as the tests speak it: numbers, and a `struct` for each record.

Spec: Linux include/uapi/linux/fuse.h, protocol 7.41, and the additions of remote fsnotify.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Self

ROOT_ID = 1
KERNEL_VERSION = 7
KERNEL_MINOR_VERSION = 41


class Opcode(enum.IntEnum):
    """Request codes."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53
    FSNOTIFY = 3072
    HOLD = 3074


class InitFlag(enum.IntFlag):
    """INIT flags of both words."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    SUBMOUNTS = 1 << 27
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    SECURITY_CTX = 1 << 32
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    ALLOW_IDMAP = 1 << 40
    HAS_STATX_ATTR = 1 << 58
    HAS_HOLD = 1 << 59
    HAS_FSNOTIFY = 1 << 60


class SetattrValid(enum.IntFlag):
    """Which fields of SETATTR count."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    LOCKOWNER = 1 << 9
    CTIME = 1 << 10
    KILL_SUIDGID = 1 << 11


FSNOTIFY_SB = 1 << 0

IN_HEADER = struct.Struct("=IIQQIIIHH")
OUT_HEADER = struct.Struct("=IiQ")
FORGET_IN = struct.Struct("=Q")
FORGET_ONE = struct.Struct("=QQ")
BATCH_FORGET_IN = struct.Struct("=II")
GETATTR_IN = struct.Struct("=IIQ")
SETATTR_IN = struct.Struct("=IIQQQQQQIIIIIIII")
MKNOD_IN = struct.Struct("=IIII")
MKDIR_IN = struct.Struct("=II")
RENAME_IN = struct.Struct("=Q")
RENAME2_IN = struct.Struct("=QII")
LINK_IN = struct.Struct("=Q")
OPEN_IN = struct.Struct("=II")
OPEN_OUT = struct.Struct("=QII")
CREATE_IN = struct.Struct("=IIII")
RELEASE_IN = struct.Struct("=QIIQ")
FLUSH_IN = struct.Struct("=QIIQ")
READ_IN = struct.Struct("=QQIIQII")
WRITE_IN = struct.Struct("=QQIIQII")
WRITE_OUT = struct.Struct("=II")
FSYNC_IN = struct.Struct("=QII")
INTERRUPT_IN = struct.Struct("=Q")
ACCESS_IN = struct.Struct("=II")
FSNOTIFY_IN = struct.Struct("=QII")
SETXATTR_IN = struct.Struct("=IIII")
SETXATTR_IN_OLD = struct.Struct("=II")
GETXATTR_IN = struct.Struct("=II")
GETXATTR_OUT = struct.Struct("=II")
FALLOCATE_IN = struct.Struct("=QQQII")
LSEEK_IN = struct.Struct("=QQII")
LSEEK_OUT = struct.Struct("=Q")
COPY_FILE_RANGE_IN = struct.Struct("=QQQQQQQ")
COPY_FILE_RANGE_OUT = struct.Struct("=Q")
SYNCFS_IN = struct.Struct("=Q")
IOCTL_IN = struct.Struct("=QIIQII")
IOCTL_OUT = struct.Struct("=iIII")
STATX_IN = struct.Struct("=IIQII")
INIT_IN = struct.Struct("=IIIII11I")
INIT_OUT = struct.Struct("=IIIIHHIIHHI6II")
STATFS_OUT = struct.Struct("=QQQQQIIII6I")
_ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
_ATTR_OUT = struct.Struct("=QII")
_ENTRY_OUT = struct.Struct("=QQQQII")
_DIRENT = struct.Struct("=QQII")

ATTR_OUT_BYTES = _ATTR_OUT.size + _ATTR.size
ENTRY_OUT_BYTES = _ENTRY_OUT.size + _ATTR.size


@dataclass(frozen=True, slots=True)
class Attr:
    """struct fuse_attr."""

    ino: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    blksize: int
    flags: int

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        return cls(*_ATTR.unpack(raw))


@dataclass(frozen=True, slots=True)
class AttrReply:
    """struct fuse_attr_out."""

    valid_s: int
    valid_ns: int
    attr: Attr

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        seconds, nanoseconds, _ = _ATTR_OUT.unpack_from(raw)
        return cls(seconds, nanoseconds, Attr.parse(raw[_ATTR_OUT.size :]))


@dataclass(frozen=True, slots=True)
class Entry:
    """struct fuse_entry_out."""

    nodeid: int
    generation: int
    entry_valid_s: int
    attr_valid_s: int
    entry_valid_ns: int
    attr_valid_ns: int
    attr: Attr

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        head = _ENTRY_OUT.size
        fields = _ENTRY_OUT.unpack_from(raw)
        return cls(*[*fields, Attr.parse(raw[head : head + _ATTR.size])])


@dataclass(frozen=True, slots=True)
class Opened:
    """struct fuse_open_out."""

    fh: int
    open_flags: int

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        fh, open_flags, _ = OPEN_OUT.unpack(raw)
        return cls(fh, open_flags)


@dataclass(frozen=True, slots=True)
class InitReply:
    """struct fuse_init_out with the words that the tests look at."""

    major: int
    minor: int
    max_readahead: int
    flags: InitFlag
    max_background: int
    congestion_threshold: int
    max_write: int
    time_gran: int
    max_pages: int
    fsnotify_server_mask: int

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        fields = INIT_OUT.unpack(raw)
        flags = fields[3]
        if flags & InitFlag.INIT_EXT:
            flags |= fields[10] << 32
        return cls(*[*fields[:3], InitFlag(flags), *fields[4:9], fields[-1]])


_STATX_OUT = struct.Struct("=QII2Q")
_STATX = struct.Struct("=IIQIIIHHQQQQ" + "qIi" * 4 + "IIII14Q")


@dataclass(frozen=True, slots=True)
class Statx:
    """struct fuse_statx_out with what the tests look at; times are (s, ns)."""

    valid_s: int
    mask: int
    attributes: int
    nlink: int
    uid: int
    gid: int
    mode: int
    ino: int
    size: int
    attributes_mask: int
    btime: tuple[int, int]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        valid_s, *_ = _STATX_OUT.unpack_from(raw)
        assert len(raw) == _STATX_OUT.size + _STATX.size
        f = _STATX.unpack_from(raw, _STATX_OUT.size)
        return cls(valid_s, f[0], f[2], f[3], f[4], f[5], f[6], f[8], f[9], f[11], (f[15], f[16]))


@dataclass(frozen=True, slots=True)
class Dirent:
    """One name of READDIR, with its entry if it came from READDIRPLUS."""

    ino: int
    offset: int
    type: int
    name: bytes
    entry: Entry | None = None

    @classmethod
    def parse_all(cls, raw: bytes, *, plus: bool = False) -> list[Self]:
        """Decode a whole reply, strictly."""
        found = []
        while raw:
            entry = None
            head = 0
            if plus:
                entry = Entry.parse(raw)
                head = ENTRY_OUT_BYTES
            ino, offset, namelen, kind = _DIRENT.unpack_from(raw, head)
            at = head + _DIRENT.size
            size = -(-(at + namelen) // 8) * 8
            assert 0 < namelen <= 255, f"a name of {namelen} bytes"
            assert size <= len(raw), "a directory entry is cut off"
            assert not any(raw[at + namelen : size]), "padding that is not zero"
            found.append(cls(ino, offset, kind, raw[at : at + namelen], entry))
            raw = raw[size:]
        return found


@dataclass(frozen=True, slots=True)
class Statfs:
    """struct fuse_kstatfs."""

    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    bsize: int
    namelen: int
    frsize: int

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        return cls(*STATFS_OUT.unpack(raw)[:8])
