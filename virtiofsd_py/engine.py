# SPDX-License-Identifier: BSD-3-Clause
"""The C core as one Python class.

Every negative return becomes an `EngineError` here. No request and no event passes through, but for
requests of opcodes that Python has registered (`Engine.serve_upcalls`); calls are rare and come
from one control thread (`log_lines` too; not `Engine.answer_upcall`).
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

from virtiofsd_py._declared import CoreLogLevel
from virtiofsd_py._native import ffi, lib
from virtiofsd_py.engine_config import EngineConfig, raw_config
from virtiofsd_py.errors import EngineError, check
from virtiofsd_py.structures import Answerable, MountReport, Stats, Upcall, WatchRequest
from virtiofsd_py.vhost_user import MemoryRegion, VringSetup

_log = logging.getLogger(__name__)

MAX_RINGS: Final[int] = lib.VFSD_RINGS_MAX
NOTIFY_BUF_BYTES: Final[int] = lib.vfsd_engine_notify_buf_bytes()
"""What the configuration space has to ask the driver for (notify_buf_size)."""

# A guest that never stops asking must not keep the control thread from everything else.
_UPCALL_BATCH: Final = 16


def _handle(handler: Callable[[Upcall], bytes | None], upcall: Upcall) -> bytes | int | None:
    """Return the payload, an errno, or None for an answer that comes later."""
    try:
        return handler(upcall)
    except OSError as error:
        return error.errno or errno.EIO
    except Exception:
        _log.exception("event=handler_failed opcode=%s", upcall.opcode)
        return errno.EIO


def _or_none(fd: int | None) -> int:
    """Return the descriptor as C takes it: -1 is none."""
    return -1 if fd is None else fd


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
        raw, _keep = raw_config(config)
        out = ffi.new("vfsd_engine **")
        check(lib.vfsd_engine_create(raw, out), "engine")
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
        check(min(fell_back, 0), "remote fsnotify")
        return EngineError(-why[0], "fanotify") if fell_back else None

    def set_features(self, features: int) -> None:
        """Take the acknowledged virtio features, before any ring is started.

        Raises:
            EngineError: EINVAL for the notification queue without `fsnotify`, EBUSY for
                a change while rings run.
        """
        check(lib.vfsd_engine_set_features(self._raw, features), "features")

    def set_memory(self, regions: Sequence[MemoryRegion]) -> None:
        """Replace the memory table whole; running rings pause meanwhile.

        Raises:
            EngineError: a region cannot be mapped; the old table stays.
        """
        raw = ffi.new(
            "vfsd_engine_region[]",
            [
                (r.guest_address, r.size_bytes, r.user_address, r.mmap_offset_bytes, r.fd)
                for r in regions
            ],
        )
        check(lib.vfsd_engine_set_memory(self._raw, raw, len(regions)), "memory table")

    def start_vring(self, index: int, vring: VringSetup) -> None:
        """Start a ring.

        Raises:
            EngineError: EFAULT for addresses outside guest memory, EINVAL for a bad size or index.
        """
        raw = ffi.new(
            "vfsd_engine_vring *",
            {
                "num": vring.num,
                "desc_uva": vring.desc_user_address,
                "avail_uva": vring.avail_user_address,
                "used_uva": vring.used_user_address,
                "base": vring.base,
                "enabled": vring.enabled,
                "kick_fd": vring.kick_fd,
                "call_fd": _or_none(vring.call_fd),
                "err_fd": _or_none(vring.err_fd),
                "log_used": vring.log_address is not None,
                "log_gpa": vring.log_address or 0,
            },
        )
        check(lib.vfsd_engine_start_vring(self._raw, index, raw), f"ring {index}")

    def stop_vring(self, index: int) -> int:
        """Stop a ring and return its next available index; nothing is placed on it afterwards.

        Raises:
            EngineError: EINVAL for a bad index.
        """
        return check(lib.vfsd_engine_stop_vring(self._raw, index), f"ring {index}")

    def enable_vring(self, index: int, enabled: bool) -> None:
        """Let a started ring be served, or rest.

        Raises:
            EngineError: see `start_vring`.
        """
        check(lib.vfsd_engine_enable_vring(self._raw, index, enabled), f"ring {index}")

    def set_call(self, index: int, fd: int | None) -> None:
        """Replace the call descriptor of a started ring.

        Raises:
            EngineError: EINVAL if the ring is not started; `fd` is closed all the same.
        """
        check(lib.vfsd_engine_set_call(self._raw, index, _or_none(fd)), f"ring {index}")

    def set_err(self, index: int, fd: int | None) -> None:
        """Replace the error descriptor of a started ring.

        Raises:
            EngineError: EINVAL if the ring is not started; `fd` is closed all the same.
        """
        check(lib.vfsd_engine_set_err(self._raw, index, _or_none(fd)), f"ring {index}")

    def set_log(self, fd: int | None, size_bytes: int = 0, offset_bytes: int = 0) -> None:
        """Replace the dirty log, or drop it; running rings pause meanwhile.

        Raises:
            EngineError: EINVAL for a file that is shorter, or too short for the memory table; the
                old log stays and `fd` is closed.
        """
        fd = _or_none(fd)
        check(lib.vfsd_engine_set_log(self._raw, fd, size_bytes, offset_bytes), "dirty log")

    def set_log_fd(self, fd: int | None) -> None:
        """Replace the descriptor that is written to after pages have been marked."""
        check(lib.vfsd_engine_set_log_fd(self._raw, _or_none(fd)), "dirty log")

    def set_logging(self, enabled: bool) -> None:
        """Mark what is written to the guest's buffers, or no more; running rings pause meanwhile.

        Raises:
            EngineError: EINVAL if the log is too short for the memory table.
        """
        check(lib.vfsd_engine_set_logging(self._raw, enabled), "dirty log")

    def set_vring_log(self, index: int, log_gpa: int | None) -> None:
        """Mark what is written to the used ring of a started ring, or no more.

        Raises:
            EngineError: EINVAL if the ring is not started.
        """
        enabled = log_gpa is not None
        check(
            lib.vfsd_engine_set_vring_log(self._raw, index, enabled, log_gpa or 0), f"ring {index}"
        )

    def save(self, fd: int) -> None:
        """Begin to write the guest's session to `fd`, which the engine owns; no ring is started.

        Raises:
            EngineError: ENOENT if an inode cannot be described; the log says more.
        """
        check(lib.vfsd_engine_save(self._raw, fd), "device state")

    def load(self, fd: int) -> None:
        """Begin to read a session from `fd`, which the engine owns; no ring is started.

        Raises:
            EngineError: out of memory or descriptors.
        """
        check(lib.vfsd_engine_load(self._raw, fd), "device state")

    def finish_transfer(self) -> None:
        """End `save` or `load`; a session that was read is in force, or on error there is none.

        Raises:
            EngineError: EBADMSG for what is no sound state, ENOENT if an inode is not found,
                ECANCELED if the other end is not done.
        """
        check(lib.vfsd_engine_finish_transfer(self._raw), "device state")

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
        return check(number, "watch client"), ring_fd[0]

    def remove_consumer(self, number: int) -> None:
        """Remove a consumer and its watches.

        Raises:
            EngineError: ENOENT if there is none of this number.
        """
        check(lib.vfsd_engine_remove_consumer(self._raw, number), "watch client")

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

    def log_lines(self) -> Iterator[tuple[CoreLogLevel, str]]:
        """Take the log lines that the core's threads have left."""
        line = ffi.new("char[]", lib.VFSD_LOG_LINE_BYTES)
        level = ffi.new("int *")
        while lib.vfsd_engine_next_log(self._raw, line, level):
            yield CoreLogLevel(level[0]), os.fsdecode(ffi.string(line))
