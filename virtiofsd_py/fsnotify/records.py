# SPDX-License-Identifier: BSD-3-Clause
"""What a watch client receives, as frozen records.

Events of everything that is watched, and of names in watched directories, are reported, whether the
host or a guest has caused them. `Origin` says which, where the host reports it (fanotify). That a
guest reads a directory is not reported, because it looks the same as the daemon's own scans.

A `Loss` stands where records are missing, because the reader was slow or the host's own queue was
full. Directories that appeared meanwhile are found all the same, and watched from then on.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from virtiofsd_py.engine import RecordType, RingEntry
from virtiofsd_py.errors import VirtiofsdError

_EVENT: Final = struct.Struct("=IIIiII")
_MOUNT: Final = struct.Struct("=QIIIIII")
_IS_DIR: Final = 0x4000_0000
_FOUND: Final = 1


class BadRecord(VirtiofsdError):
    """A record is malformed: its writer is not the daemon, or is another version of it."""


class EventKind(IntEnum):
    """What happened, as the number of its bit in inotify(7) and fanotify(7)."""

    ACCESS = 0
    MODIFY = 1
    ATTRIB = 2
    CLOSE_WRITE = 3
    CLOSE_NOWRITE = 4
    OPEN = 5
    MOVED_FROM = 6
    MOVED_TO = 7
    CREATE = 8
    DELETE = 9
    DELETE_SELF = 10
    MOVE_SELF = 11


class Origin(IntEnum):
    """Who has caused an event; enum vfsd_origin."""

    UNKNOWN = 0
    HOST = 1
    GUEST = 2


class Status(IntEnum):
    """How a watch has changed; enum vfsd_watch_status."""

    READY = 0
    FAILED = 1
    INCOMPLETE = 2
    GONE = 3
    NO_ERRORS = 4


class MountChange(IntEnum):
    """How a mount has changed; enum vfsd_mount_change.

    BOUND is mounted, too: a part of a filesystem, or one that is mounted elsewhere already.
    """

    MOUNTED = 0
    BOUND = 1
    UNMOUNTED = 2
    READONLY = 3
    READWRITE = 4


class SuperblockChange(IntEnum):
    """How a whole filesystem has changed; enum vfsd_superblock_change."""

    READONLY = 0
    READWRITE = 1


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a file or directory.

    Attributes:
        kind: what.
        path: where, as it was called then, from the share on; empty for the share itself. What is
            watched itself goes by the path that was asked for, even after it was renamed. Bytes
            that are no UTF-8 are as `os.fsdecode` has them.
        is_dir: whether it is a directory.
        cookie: the same in both halves of a rename, else 0.
        origin: who has caused it.
        found: the daemon's first scan of a new directory found it. The event of its creation may
            come as well.
        watch: index of the `Watch` in the request that this is for.
    """

    kind: EventKind
    path: str
    is_dir: bool
    cookie: int
    origin: Origin
    found: bool
    watch: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Records are missing here.

    Attributes:
        count: how many; what the host itself lost counts as one.
    """

    count: int


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """The state of a watch has changed.

    Attributes:
        status: READY: from here on no event is missed. FAILED: it is not watched. INCOMPLETE: this
            directory below it, and what that contains, is not. GONE: what was watched has been
            removed, or moved out of the share. NO_ERRORS: the errors of this filesystem are not
            reported, for want of CAP_SYS_ADMIN, or because it reports none at all.
        path: of what.
        error: errno of a failure, else 0.
        watch: see `Event`.
    """

    status: Status
    path: str
    error: int
    watch: int


@dataclass(frozen=True, slots=True)
class MountEvent:
    """A mount below the share has appeared, gone or changed, or its filesystem has.

    Attributes:
        change: what happened.
        path: where, from the share on; empty for the filesystem that the share itself is on.
        filesystem: its type.
        device: major and minor number of the superblock.
        readonly: whether the mount is, now or at last.
        superblock_readonly: whether the filesystem is.
        watch: see `Event`.
    """

    change: MountChange | SuperblockChange
    path: str
    filesystem: str
    device: tuple[int, int]
    readonly: bool
    superblock_readonly: bool
    watch: int


@dataclass(frozen=True, slots=True)
class FilesystemError:
    """A filesystem of the host has reported an error.

    Attributes:
        path: the directory at fault, if that is watched; else the root of the filesystem.
        error: errno of the first error.
        count: how many there were since the last record, this one included.
        watch: see `Event`.
    """

    path: str
    error: int
    count: int
    watch: int


Record: TypeAlias = Event | FilesystemError | MountEvent | Loss | WatchStatus


def decode_untrusted(entry: RingEntry) -> Record | None:
    """Make a record of what is in the ring.

    Args:
        entry: each byte is copied once, for the producer may still write to it.

    Returns:
        The record, or None for a type that this version does not know.

    Raises:
        BadRecord: its contents contradict each other. Nothing else.
    """
    if entry.type == RecordType.LOSS:
        return Loss(entry.lost)
    if entry.type in (RecordType.MOUNT, RecordType.SUPERBLOCK):
        return _mount_untrusted(entry)
    if entry.type not in (RecordType.FSNOTIFY, RecordType.WATCH, RecordType.ERROR):
        return None
    raw = bytes(entry.payload)
    if len(raw) < _EVENT.size:
        raise BadRecord(f"event ring: a record of {len(raw)} bytes")
    mask, cookie, origin, error, flags, path_bytes = _EVENT.unpack_from(raw)
    if path_bytes != len(raw) - _EVENT.size:
        raise BadRecord(f"event ring: a path of {path_bytes} bytes in {len(raw)}")
    path = os.fsdecode(raw[_EVENT.size :])
    if entry.type == RecordType.ERROR:
        return FilesystemError(path, error, cookie, entry.watch)
    try:
        if entry.type == RecordType.WATCH:
            return WatchStatus(Status(entry.subtype), path, error, entry.watch)
        return Event(
            EventKind(entry.subtype),
            path,
            bool(mask & _IS_DIR),
            cookie,
            Origin(origin),
            bool(flags & _FOUND),
            entry.watch,
        )
    except ValueError as error_:
        raise BadRecord(f"event ring: {error_}") from None


def _mount_untrusted(entry: RingEntry) -> MountEvent:
    raw = bytes(entry.payload)
    if len(raw) < _MOUNT.size:
        raise BadRecord(f"event ring: a record of {len(raw)} bytes")
    _number, major, minor, flags, path_bytes, kind_bytes, _ = _MOUNT.unpack_from(raw)
    text = raw[_MOUNT.size :]
    if path_bytes + kind_bytes != len(text):
        raise BadRecord(f"event ring: a path of {path_bytes} bytes in {len(raw)}")
    changes = MountChange if entry.type == RecordType.MOUNT else SuperblockChange
    try:
        change = changes(entry.subtype)
    except ValueError as error:
        raise BadRecord(f"event ring: {error}") from None
    return MountEvent(
        change,
        os.fsdecode(text[:path_bytes]),
        os.fsdecode(text[path_bytes:]),
        (major, minor),
        bool(flags & 1),
        bool(flags & 2),
        entry.watch,
    )
