# SPDX-License-Identifier: BSD-3-Clause
"""The C core as one Python class: the only module that imports the compiled extension.

Every negative return becomes an `EngineError` here. No request and no event passes through, but for
requests of opcodes that Python has registered (`Engine.serve_upcalls`); calls are rare and come
from one control thread (`log_lines` too; not `Engine.answer_upcall`).
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import Any, Final, Protocol, Self

from virtiofsd_py._native import ffi, lib
from virtiofsd_py.errors import EngineError

_log = logging.getLogger(__name__)

MAX_RINGS: Final[int] = lib.VFSD_RINGS_MAX
NOTIFY_BUF_BYTES: Final[int] = lib.vfsd_engine_notify_buf_bytes()
"""What the configuration space has to ask the driver for (notify_buf_size)."""


class Cache(IntEnum):
    """enum vfsd_cache."""

    AUTO = 0
    ALWAYS = 1
    METADATA = 2
    NEVER = 3


class FileHandles(IntEnum):
    """enum vfsd_handle_policy."""

    NEVER = 0
    PREFER = 1
    MANDATORY = 2


class Fsnotify(IntEnum):
    """enum vfsd_fsnotify."""

    OFF = 0
    MERGED = 1
    SERVER = 2


class FsnotifyDialect(IntEnum):
    """enum vfsd_fsnotify_dialect."""

    NATIVE = 0
    RFC2021 = 1


class LogLevel(IntEnum):
    """enum vfsd_log_level, and silence."""

    SILENT = -1
    ERROR = 0
    WARN = 1
    INFO = 2
    DEBUG = 3


class RecordType(IntEnum):
    """enum vfsd_record_type; of the records that watch clients read."""

    FSNOTIFY = 1
    LOSS = 2
    WATCH = 3
    ERROR = 4
    MOUNT = 5
    SUPERBLOCK = 6


class XattrType(IntEnum):
    """enum vfsd_xattr_type."""

    PREFIX = 0
    OK = 1
    BAD = 2
    UNSUPPORTED = 3


class XattrScope(IntEnum):
    """enum vfsd_xattr_scope."""

    CLIENT = 1
    SERVER = 2
    ALL = 3


class IdEffect(IntEnum):
    """enum vfsd_id_effect."""

    SHIFT = 0
    SQUASH = 1
    FORBID = 2


@dataclass(frozen=True, slots=True)
class XattrRule:
    """One rule for names of extended attributes; ``vfsd_engine_xattr_rule``. No NUL in bytes."""

    type: XattrType
    scope: XattrScope
    key: bytes
    prepend: bytes


@dataclass(frozen=True, slots=True)
class IdRange:
    """`count` ids from `first` on, and what becomes of them; ``vfsd_engine_id_range``."""

    first: int
    count: int
    to: int
    effect: IdEffect


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What the core is told once; see ``vfsd_engine_config`` in native/device/native.cdef.h.

    Attributes:
        root_fd: O_PATH descriptor of the shared directory; the engine owns it.
        proc_self_fd: O_PATH descriptor of /proc/self/fd; the engine owns it.
        mount_table_fd: /proc/self/mountinfo, which the engine opens anew; 0: names of directories
            that are listed often cannot be known by their numbers.
        num_rings: rings a front-end may start, at most `MAX_RINGS`.
        pool_threads: threads for each ring of ordinary requests; 0 is 1.
        poll_us: how long such a thread polls before it sleeps, in microseconds.
        allow_mmap: whether the guest may map files shared that it does not cache.
        killpriv_v2: whether the guest leaves the clearing of set-user-id bits to us.
        xattr: whether there are extended attributes; `posix_acl`, `security_label` need them.
        xattrmap: rules for their names, the first that matches decides; empty: the host's names.
        uid_to_host: how the guest's user ids are translated; ranges in ascending order, without
            overlaps, as in the next three.
        uid_to_guest: how the host's are.
        gid_to_host: the same for group ids.
        gid_to_guest: likewise.
        upcalls: opcodes that `Engine.serve_upcalls` serves.
        max_open_files: descriptors the guest may make us hold, for inodes and open files together;
            0 means no quota.
        watch_max_fds: descriptors that watch clients may make the daemon hold; 0 means no quota.
        fsnotify: who raises what in the guest; the notification queue exists unless it is off.
        fsnotify_dialect: what the guest's kernel speaks.
        fsnotify_max_marks: fanotify marks that the guest may cause; 0 means the host's own limit.
        fsnotify_max_watches: inotify watches, where it comes to those.
        watch_max_marks: fanotify marks that watch clients may cause.
        watch_max_watches: likewise.
        migrate_by_handle: a migration tells inodes by file handle where it can, not by path.
        migrate_guest_error: one that is not found fails alone, not the migration.
        migrate_verify: what is found has to have the file handle that the source saw.
        migrate_confirm: paths are looked up again before they are told.
    """

    root_fd: int
    proc_self_fd: int
    num_rings: int
    mount_table_fd: int = 0
    pool_threads: int = 0
    poll_us: int = 0
    cache: Cache = Cache.AUTO
    file_handles: FileHandles = FileHandles.NEVER
    readdirplus: bool = True
    writeback: bool = False
    readonly: bool = False
    allow_direct_io: bool = False
    preserve_noatime: bool = False
    allow_project_ids: bool = False
    announce_submounts: bool = True
    allow_mmap: bool = False
    killpriv_v2: bool = False
    xattr: bool = False
    posix_acl: bool = False
    security_label: bool = False
    xattrmap: Sequence[XattrRule] = ()
    uid_to_host: Sequence[IdRange] = ()
    uid_to_guest: Sequence[IdRange] = ()
    gid_to_host: Sequence[IdRange] = ()
    gid_to_guest: Sequence[IdRange] = ()
    upcalls: Sequence[int] = ()
    max_write_bytes: int = 1 << 20
    max_open_files: int = 0
    watch_max_fds: int = 0
    fsnotify: Fsnotify = Fsnotify.MERGED
    fsnotify_dialect: FsnotifyDialect = FsnotifyDialect.NATIVE
    fsnotify_ring_bytes: int = 1 << 20
    fsnotify_max_marks: int = 0
    fsnotify_max_watches: int = 0
    watch_max_marks: int = 0
    watch_max_watches: int = 0
    log_level: LogLevel = LogLevel.INFO
    migrate_by_handle: bool = False
    migrate_guest_error: bool = False
    migrate_verify: bool = False
    migrate_confirm: bool = False


@dataclass(frozen=True, slots=True)
class Region:
    """One region of guest memory; ``vfsd_engine_region``. The engine owns `fd` from the call on."""

    gpa: int
    size_bytes: int
    uva: int
    mmap_offset_bytes: int
    fd: int


@dataclass(frozen=True, slots=True)
class Vring:
    """One ring; ``vfsd_engine_vring``. The engine owns the descriptors once it is called."""

    num: int
    desc_uva: int
    avail_uva: int
    used_uva: int
    base: int
    enabled: bool
    kick_fd: int
    call_fd: int | None
    err_fd: int | None
    log_gpa: int | None = None


@dataclass(frozen=True, slots=True)
class Upcall:
    """A request that Python is to serve; ``vfsd_engine_upcall``.

    Attributes:
        id: by which `Engine.answer_upcall` knows it; no other has it.
        opcode: one of `EngineConfig.upcalls`.
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


@dataclass(frozen=True, slots=True)
class RingEntry:
    """A record in a ring that another process fills; ``vfsd_ring_entry``.

    Attributes:
        type: a `RecordType`, or a number that means nothing to us.
        subtype: what kind of that.
        watch: the `WatchSpec` that it is about, or 0.
        payload: the ring's own memory, not copied: good until the next entry is asked for. Somebody
            may be writing to it, so read a value once.
        lost: in a loss, how many records are missing at this place.
    """

    type: int
    subtype: int
    watch: int
    payload: memoryview
    lost: int


# A guest that never stops asking must not keep the control thread from everything else.
_UPCALL_BATCH: Final = 16
# What is a pointer and a count in C.
_TABLE_FIELDS: Final = {
    *("xattrmap", "uid_to_host", "uid_to_guest", "gid_to_host", "gid_to_guest", "upcalls"),
}


def _handle(handler: Callable[[Upcall], bytes | None], upcall: Upcall) -> bytes | int | None:
    """Return the payload, an errno, or None for an answer that comes later."""
    try:
        return handler(upcall)
    except OSError as error:
        return error.errno or errno.EIO
    except Exception:
        _log.exception("event=handler_failed opcode=%s", upcall.opcode)
        return errno.EIO


def _check(result: int, what: str) -> int:
    if result < 0:
        raise EngineError(-result, what)
    return result


def _raw_config(config: EngineConfig) -> tuple[Any, list[Any]]:
    """Return the C struct, and what it points to, to be kept as long."""
    tables = (config.uid_to_host, config.uid_to_guest, config.gid_to_host, config.gid_to_guest)
    rules = [
        (r.type, r.scope, ffi.new("char[]", r.key), ffi.new("char[]", r.prepend))
        for r in config.xattrmap
    ]
    raw_rules = ffi.new("vfsd_engine_xattr_rule[]", rules)
    raw_tables = [
        ffi.new("vfsd_engine_id_range[]", [(r.first, r.count, r.to, r.effect) for r in table])
        for table in tables
    ]
    raw_upcalls = ffi.new("uint32_t[]", list(config.upcalls))
    names = set(EngineConfig.__dataclass_fields__) - _TABLE_FIELDS
    raw = ffi.new(
        "vfsd_engine_config *",
        {name: getattr(config, name) for name in names}
        | {
            "xattrmap": raw_rules,
            "xattrmap_rules": len(rules),
            "ids": raw_tables,
            "id_ranges": [len(table) for table in tables],
            "upcalls": raw_upcalls,
            "n_upcalls": len(config.upcalls),
        },
    )
    return raw, [rules, raw_rules, raw_tables, raw_upcalls]


def interrupt_threads() -> None:
    """Let the core's threads give up what they wait for in the kernel: see native/base/thread.h.

    Any thread may call it, whatever the control thread does; only for the end of the daemon.
    """
    lib.vfsd_engine_interrupt()


class Engine:
    """One virtio-fs device. A context manager: leaving it stops every ring and thread."""

    def __init__(self, config: EngineConfig) -> None:
        """Make the device; no thread serves anything yet.

        Raises:
            EngineError: out of memory, or a bad `config`; its descriptors are closed.
        """
        self._raw: Any = ffi.NULL
        self._answering = threading.Lock()  # held by answers, which are of any thread
        raw, _keep = _raw_config(config)
        out = ffi.new("vfsd_engine **")
        _check(lib.vfsd_engine_create(raw, out), "engine")
        self._raw = out[0]

    def close(self) -> None:
        """Stop every ring and thread and give everything back. Idempotent."""
        with self._answering:
            raw, self._raw = self._raw, ffi.NULL
        lib.vfsd_engine_destroy(raw)

    def __enter__(self) -> Self:
        """Be alive for the length of a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def probe_fsnotify(self) -> EngineError | None:
        """Find out whether remote events can be had on this host and share.

        Call it before any ring is started.

        Returns:
            None if they can be had as configured. Else why they cannot be merged with the guest's
            own, for which reason they come from the server alone from now on.

        Raises:
            EngineError: they cannot be had at all, for the reason its errno says.
        """
        why = ffi.new("int *")
        fell_back = lib.vfsd_engine_probe_fsnotify(self._raw, why)
        _check(min(fell_back, 0), "remote fsnotify")
        return EngineError(-why[0], "fanotify") if fell_back else None

    def set_features(self, features: int) -> None:
        """Take the acknowledged virtio features, before any ring is started.

        Raises:
            EngineError: EINVAL for the notification queue without `fsnotify`, EBUSY for
                a change while rings run.
        """
        _check(lib.vfsd_engine_set_features(self._raw, features), "features")

    def set_memory(self, regions: Sequence[Region]) -> None:
        """Replace the memory table whole; running rings pause meanwhile.

        Raises:
            EngineError: a region cannot be mapped; the old table stays.
        """
        raw = ffi.new(
            "vfsd_engine_region[]",
            [(r.gpa, r.size_bytes, r.uva, r.mmap_offset_bytes, r.fd) for r in regions],
        )
        _check(lib.vfsd_engine_set_memory(self._raw, raw, len(regions)), "memory table")

    def start_vring(self, index: int, vring: Vring) -> None:
        """Start a ring.

        Raises:
            EngineError: EFAULT for addresses outside guest memory, EINVAL for a bad size or index.
        """
        raw = ffi.new(
            "vfsd_engine_vring *",
            {
                "num": vring.num,
                "desc_uva": vring.desc_uva,
                "avail_uva": vring.avail_uva,
                "used_uva": vring.used_uva,
                "base": vring.base,
                "enabled": vring.enabled,
                "kick_fd": vring.kick_fd,
                "call_fd": -1 if vring.call_fd is None else vring.call_fd,
                "err_fd": -1 if vring.err_fd is None else vring.err_fd,
                "log_used": vring.log_gpa is not None,
                "log_gpa": vring.log_gpa or 0,
            },
        )
        _check(lib.vfsd_engine_start_vring(self._raw, index, raw), f"ring {index}")

    def stop_vring(self, index: int) -> int:
        """Stop a ring and return its next available index; nothing is placed on it afterwards.

        Raises:
            EngineError: EINVAL for a bad index.
        """
        return _check(lib.vfsd_engine_stop_vring(self._raw, index), f"ring {index}")

    def enable_vring(self, index: int, enabled: bool) -> None:
        """Let a started ring be served, or rest.

        Raises:
            EngineError: see `start_vring`.
        """
        _check(lib.vfsd_engine_enable_vring(self._raw, index, enabled), f"ring {index}")

    def set_call(self, index: int, fd: int | None) -> None:
        """Replace the call descriptor of a started ring.

        Raises:
            EngineError: EINVAL if the ring is not started; `fd` is closed all the same.
        """
        raw = -1 if fd is None else fd
        _check(lib.vfsd_engine_set_call(self._raw, index, raw), f"ring {index}")

    def set_err(self, index: int, fd: int | None) -> None:
        """Replace the error descriptor of a started ring.

        Raises:
            EngineError: EINVAL if the ring is not started; `fd` is closed all the same.
        """
        raw = -1 if fd is None else fd
        _check(lib.vfsd_engine_set_err(self._raw, index, raw), f"ring {index}")

    def set_log(self, fd: int | None, size_bytes: int = 0, offset_bytes: int = 0) -> None:
        """Replace the dirty log, or drop it; running rings pause meanwhile.

        Raises:
            EngineError: EINVAL for a file that is shorter, or too short for the memory table; the
                old log stays and `fd` is closed.
        """
        raw = -1 if fd is None else fd
        _check(lib.vfsd_engine_set_log(self._raw, raw, size_bytes, offset_bytes), "dirty log")

    def set_log_fd(self, fd: int | None) -> None:
        """Replace the descriptor that is written to after pages have been marked."""
        _check(lib.vfsd_engine_set_log_fd(self._raw, -1 if fd is None else fd), "dirty log")

    def set_logging(self, enabled: bool) -> None:
        """Mark what is written to the guest's buffers, or no more; running rings pause meanwhile.

        Raises:
            EngineError: EINVAL if the log is too short for the memory table.
        """
        _check(lib.vfsd_engine_set_logging(self._raw, enabled), "dirty log")

    def set_vring_log(self, index: int, log_gpa: int | None) -> None:
        """Mark what is written to the used ring of a started ring, or no more.

        Raises:
            EngineError: EINVAL if the ring is not started.
        """
        enabled = log_gpa is not None
        _check(
            lib.vfsd_engine_set_vring_log(self._raw, index, enabled, log_gpa or 0), f"ring {index}"
        )

    def save(self, fd: int) -> None:
        """Begin to write the guest's session to `fd`, which the engine owns; no ring is started.

        Raises:
            EngineError: ENOENT if an inode cannot be told; the log says more.
        """
        _check(lib.vfsd_engine_save(self._raw, fd), "device state")

    def load(self, fd: int) -> None:
        """Begin to read a session from `fd`, which the engine owns; no ring is started.

        Raises:
            EngineError: out of memory or descriptors.
        """
        _check(lib.vfsd_engine_load(self._raw, fd), "device state")

    def finish_transfer(self) -> None:
        """End `save` or `load`; a session that was read is in force, or on error there is none.

        Raises:
            EngineError: EBADMSG for what is no sound state, ENOENT if an inode is not found,
                ECANCELED if the other end is not done.
        """
        _check(lib.vfsd_engine_finish_transfer(self._raw), "device state")

    def cancel_transfer(self) -> None:
        """Give `save` or `load` up."""
        lib.vfsd_engine_cancel_transfer(self._raw)

    def stats(self) -> Stats:
        """Count what the guest holds."""
        raw = ffi.new("vfsd_engine_stats *")
        lib.vfsd_engine_get_stats(self._raw, raw)
        return Stats(inodes=raw.inodes, open_files=raw.open_files)

    @property
    def upcall_fd(self) -> int:
        """A descriptor that is readable as long as `serve_upcalls` has something to do."""
        return int(lib.vfsd_engine_upcall_fd(self._raw))

    def serve_upcalls(
        self,
        handler: Callable[[Upcall], bytes | None],
        gone: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Have requests that wait served, the oldest first, some of them: see `upcall_fd`.

        No queue waits for an answer. But nothing else is done on this thread while a handler runs,
        so it should be quick.

        Args:
            handler: returns the payload of the reply, or raises OSError with an errno for the
                guest, or returns None: then `answer_upcall` is called later. Any other exception is
                logged, and EIO to the guest.
            gone: called with the `Upcall.id` of one that was to be answered later and need not be
                any more: the guest has interrupted it, its session has ended, or its ring was
                stopped, in which case it comes again when the ring goes on, as another one.
        """
        raw = ffi.new("vfsd_engine_upcall *")
        for _ in range(_UPCALL_BATCH):
            if not lib.vfsd_engine_next_upcall(self._raw, raw):
                return
            if raw.gone:
                gone(raw.id)
                continue
            upcall = Upcall(
                raw.id,
                raw.opcode,
                raw.nodeid,
                raw.unique,
                raw.uid,
                raw.gid,
                raw.pid,
                bytes(ffi.buffer(raw.body, raw.body_bytes)),
                raw.room_bytes,
            )
            answer = _handle(handler, upcall)
            if answer is not None:
                self.answer_upcall(upcall, answer)

    def answer_upcall(self, upcall: Answerable, answer: bytes | int) -> bool:
        """Answer a request that `serve_upcalls` has handed out, once; any thread.

        Args:
            upcall: the request.
            answer: the payload of the reply, or an errno. A payload that is longer than
                `Upcall.room_bytes` is logged, and EIO to the guest.

        Returns:
            Whether somebody was still waiting for it.
        """
        error, payload = (0, answer) if isinstance(answer, bytes) else (answer, b"")
        with self._answering:
            if self._raw == ffi.NULL:
                return False
            result = lib.vfsd_engine_answer_upcall(
                self._raw, upcall.id, -error, payload, len(payload)
            )
        if result == -errno.EMSGSIZE:
            _log.error(
                "event=answer_too_long opcode=%s bytes=%s room=%s",
                upcall.opcode,
                len(payload),
                upcall.room_bytes,
            )
        return bool(result != -errno.ENOENT)

    def open_node(self, nodeid: int, flags: int) -> int:
        """Open a file or directory by the guest's name for it; the descriptor is the caller's.

        Args:
            nodeid: as in a request; any number may come.
            flags: as for ``os.open``.

        Raises:
            OSError: ESTALE if the guest does not hold it, EBADF if it is neither file nor
                directory, or what the host says.
        """
        fd = int(lib.vfsd_engine_open_node(self._raw, nodeid, flags))
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        return fd

    def add_consumer(self, request: WatchRequest, notify_fd: int) -> tuple[int, int]:
        """Add a watch client, which receives events of the share from then on.

        Args:
            request: what it wants to receive.
            notify_fd: a connected socket on which a byte is sent when records wait for a consumer
                that has read everything. It is shut down if the consumer corrupts its ring. Owned.

        Returns:
            The consumer's number, for `remove_consumer`, and the descriptor of its ring, which is
            borrowed until then.

        Raises:
            EngineError: EUSERS if there are too many, EINVAL for a bad `request`, or the host's
                error.
        """
        paths = [ffi.new("char[]", watch.path) for watch in request.watches]
        watches = ffi.new(
            "vfsd_watch_spec[]",
            [(w.id, w.mask, w.recursive, p) for w, p in zip(request.watches, paths, strict=True)],
        )
        raw = ffi.new(
            "vfsd_watch_request *",
            {
                "ring_bytes": request.ring_bytes,
                "types": sum(1 << kind for kind in request.subtypes),
                "watches": watches,
                "n_watches": len(paths),
            },
        )
        for kind, bits in request.subtypes.items():
            raw.subtypes[kind] = bits
        ring_fd = ffi.new("int *")
        number = lib.vfsd_engine_add_consumer(self._raw, raw, notify_fd, ring_fd)
        return _check(number, "watch client"), ring_fd[0]

    def remove_consumer(self, number: int) -> None:
        """Remove a consumer and its watches.

        Raises:
            EngineError: ENOENT if there is none of this number.
        """
        _check(lib.vfsd_engine_remove_consumer(self._raw, number), "watch client")

    def report_mount(self, mount: MountReport) -> None:
        """Report a change of a mount to the consumers that watch there."""
        path, kind = ffi.new("char[]", mount.path), ffi.new("char[]", mount.kind)
        raw = {
            "type": mount.type,
            "subtype": mount.subtype,
            "mnt_id": mount.number,
            "major": mount.major,
            "minor": mount.minor,
            "flags": mount.readonly | mount.superblock_readonly << 1,
            "path": path,
            "kind": kind,
        }
        lib.vfsd_engine_report_mount(self._raw, ffi.new("vfsd_watch_mount *", raw))

    def expire(self, dev: int, ino: int, name: bytes) -> None:
        """Have the guest look up again what is called `name` in this directory of the host."""
        lib.vfsd_engine_expire(self._raw, dev, ino, name)

    @property
    def log_fd(self) -> int:
        """A descriptor that is readable when `log_lines` has something."""
        return int(lib.vfsd_engine_log_fd(self._raw))

    def log_lines(self) -> Iterator[tuple[LogLevel, str]]:
        """Take the log lines that the core's threads have left."""
        line = ffi.new("char[]", lib.VFSD_LOG_LINE_BYTES)
        level = ffi.new("int *")
        while lib.vfsd_engine_next_log(self._raw, line, level):
            yield LogLevel(level[0]), os.fsdecode(ffi.string(line))


class ShmReader:
    """Reads an event ring that another process fills, and does not trust it.

    See native/watch/shm_reader.h, also for how to wait. One thread at a time.
    """

    def __init__(self, fd: int) -> None:
        """Map the ring; `fd` is borrowed.

        Raises:
            EngineError: EINVAL if it is no ring, or could be cut short.
        """
        self._raw: Any = ffi.NULL
        out = ffi.new("vfsd_shm_reader **")
        _check(lib.vfsd_shm_reader_create(fd, out), "event ring")
        self._raw = out[0]
        self._entry = ffi.new("vfsd_ring_entry *")
        self._payload = memoryview(b"")

    def next(self) -> RingEntry | None:
        """Release the last entry and return the oldest that is left, None if there is none now.

        Raises:
            EngineError: EBADMSG, from then on: the ring is malformed.
        """
        if self._raw == ffi.NULL:
            raise EngineError(errno.EBADF, "event ring")
        self._payload.release()
        lib.vfsd_shm_reader_release(self._raw)
        entry = self._entry
        if not _check(lib.vfsd_shm_reader_next(self._raw, entry), "event ring"):
            return None
        raw = ffi.buffer(entry.payload, entry.bytes) if entry.bytes else b""
        self._payload = memoryview(raw).toreadonly()
        return RingEntry(entry.type, entry.subtype, entry.watch, self._payload, entry.lost)

    def close(self) -> None:
        """Unmap it. Idempotent."""
        self._payload.release()
        raw, self._raw = self._raw, ffi.NULL
        lib.vfsd_shm_reader_destroy(raw)
