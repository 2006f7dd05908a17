# SPDX-License-Identifier: BSD-3-Clause
"""What goes into the C core and comes out of it, as frozen records.

Nothing here needs the core, so that a watch client can use it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from virtiofsd_py._records import RecordType


@dataclass(frozen=True, slots=True)
class Upcall:
    """A request that Python is to serve; ``vfsd_engine_upcall``.

    Attributes:
        id: by which `Engine.answer_upcall` knows it; no other has it.
        opcode: one of `engine_config.EngineConfig.upcalls`.
        nodeid: the object.
        unique: the request's number.
        uid: who asks, as the guest knows them; so are the next two.
        gid: see `uid`.
        pid: see `uid`.
        body: everything behind the header; the guest's bytes, unchecked.
        room_bytes: the most that the payload of the answer may have.
    """

    id: int
    opcode: int
    nodeid: int
    unique: int
    uid: int
    gid: int
    pid: int
    body: bytes
    room_bytes: int


class Answerable(Protocol):
    """What of an `Upcall` an answer needs."""

    @property
    def id(self) -> int: ...  # noqa: D102 - see Upcall
    @property
    def opcode(self) -> int: ...  # noqa: D102
    @property
    def room_bytes(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Stats:
    """What the guest holds now."""

    inodes: int
    open_files: int


@dataclass(frozen=True, slots=True)
class WatchSpec:
    """One thing that a consumer watches; ``vfsd_watch_spec``.

    Attributes:
        id: the consumer's own number for it, in each record.
        mask: event bits of inotify or fanotify.
        recursive: whether directories below are watched too.
        path: from the share on, without "." and ".."; empty for the share itself.
    """

    id: int
    mask: int
    recursive: bool
    path: bytes


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What a consumer wants to receive; ``vfsd_watch_request``.

    Attributes:
        ring_bytes: room for records: a power of two from 64 KiB to 64 MiB.
        subtypes: for each type of record that is wanted, a bit for each subtype. LOSS and WATCH are
            sent anyway.
        watches: at most 64.
    """

    ring_bytes: int
    subtypes: Mapping[RecordType, int]
    watches: Sequence[WatchSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class MountReport:
    """A change of a mount below the share, or of its superblock; ``vfsd_watch_mount``.

    Attributes:
        type: MOUNT or SUPERBLOCK.
        subtype: enum vfsd_mount_change or vfsd_superblock_change.
        number: of the mount.
        major: of the superblock.
        minor: likewise.
        readonly: whether the mount is.
        superblock_readonly: whether the filesystem is.
        path: from the share on.
        kind: of filesystem.
    """

    type: RecordType
    subtype: int
    number: int
    major: int
    minor: int
    readonly: bool
    superblock_readonly: bool
    path: bytes
    kind: bytes
