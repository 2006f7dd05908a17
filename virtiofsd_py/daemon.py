# SPDX-License-Identifier: BSD-3-Clause
"""Wiring: from `Options` to a served front-end, and everything back in order at the end.

Start: share, socket, limits, engine, readiness. One front-end is served; when it goes, or SIGINT or
SIGTERM comes, rings stop before the tables they use, and the socket leaves the filesystem.
"""

from __future__ import annotations

import grp
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from virtiofsd_py import engine as core
from virtiofsd_py.device import VirtioFsDevice
from virtiofsd_py.errors import EngineError, StartError
from virtiofsd_py.options import Fsnotify, LogLevel, Options
from virtiofsd_py.vhost_user import (
    DEFAULT_PROTOCOL_FEATURES,
    Connection,
    Listener,
    ProtocolError,
    ProtocolFeature,
    Server,
    TransportError,
    serve,
)

_log = logging.getLogger(__name__)
_native_log = logging.getLogger("virtiofsd_py.native")

_REQUEST_RINGS_MAX: Final = 64
_NOFILE_WANTED: Final = 1_000_000
# Descriptors the daemon needs for itself, whatever its guest holds: rings, memory, transient opens.
_NOFILE_OWN: Final = 1024

_NATIVE_LEVELS: Final = {
    core.LogLevel.ERROR: logging.ERROR,
    core.LogLevel.WARN: logging.WARNING,
    core.LogLevel.INFO: logging.INFO,
    core.LogLevel.DEBUG: logging.DEBUG,
}
_CORE_LEVELS: Final = {
    LogLevel.OFF: core.LogLevel.SILENT,
    LogLevel.ERROR: core.LogLevel.ERROR,
    LogLevel.WARN: core.LogLevel.WARN,
    LogLevel.INFO: core.LogLevel.INFO,
    LogLevel.DEBUG: core.LogLevel.DEBUG,
    LogLevel.TRACE: core.LogLevel.DEBUG,
}


def run(options: Options) -> int:
    """Serve one front-end from start to end.

    Args:
        options: what was asked for.

    Returns:
        The exit status: 0 when the front-end went or a signal ended us.

    Raises:
        StartError: the share or the socket cannot be used.
        OSError: the host refused something else at start.
        EngineError: the core could not be set up.
    """
    with ExitStack() as stack:
        root_fd = _open_share(options.shared_dir)
        stack.callback(_close_quietly, root_fd)
        ended = stack.enter_context(_end_signals())
        listener = stack.enter_context(_listen(options))
        quota = _raise_file_limit(options.rlimit_nofile)
        os.umask(0)
        engine = stack.enter_context(_make_engine(options, os.dup(root_fd), quota))
        fsnotify = _decide_fsnotify(options, engine)
        device = VirtioFsDevice(
            engine,
            num_rings=_num_rings(),
            num_request_queues=options.num_request_queues,
            tag=options.tag or "",
            fsnotify=fsnotify,
        )
        stack.callback(device.close)
        features = DEFAULT_PROTOCOL_FEATURES
        # The front-end reads notify_buf_size from the configuration space.
        if options.tag is None and not fsnotify:
            features &= ~ProtocolFeature.CONFIG
        watch: dict[int, Callable[[], bool]] = {
            ended.fileno(): lambda: False,
            engine.log_fd: lambda: _pass_on_log(engine),
        }
        stack.callback(_pass_on_log, engine)
        _log.info("event=ready share=%s fsnotify=%s", options.shared_dir, fsnotify)
        _tell_service_manager("READY=1")
        connection = listener.accept(watch)
        if connection is None:
            return 0
        with connection, Server(device, protocol_features=features) as server:
            return _serve(connection, server, watch)


def _serve(connection: Connection, server: Server, watch: dict[int, Callable[[], bool]]) -> int:
    _log.info("event=connected")
    try:
        gone = serve(connection, server, watch)
    except (ProtocolError, TransportError) as error:
        _log.error("event=cut_off reason=%s", error)
        return 1
    _log.info("event=%s", "disconnected" if gone else "interrupted")
    return 0


def _num_rings() -> int:
    """Count rings: hiprio, notification, and as many request queues as any front-end may want."""
    return 2 + _REQUEST_RINGS_MAX


def _open_share(path: str) -> int:
    """Open the shared directory, and make sure that it can be read."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StartError(f"--shared-dir {path}: {error.strerror}") from error


def _listen(options: Options) -> Listener:
    try:
        if options.fd is not None:
            return Listener.from_fd(options.fd)
        assert options.socket_path is not None, "options have one of the two"
        group = _group_id(options.socket_group)
        path = Path(options.socket_path)
        listener = Listener.bind(path, 0o600 if group is None else 0o660)
    except TransportError as error:
        name = "--fd" if options.fd is not None else "--socket-path"
        raise StartError(f"{name} {error}") from error
    if group is not None:
        try:
            os.chown(path, -1, group)
        except OSError as error:
            listener.close()
            raise StartError(f"--socket-group {options.socket_group}: {error.strerror}") from error
    return listener


def _group_id(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise StartError(f"--socket-group {name}: no such group") from None


def _raise_file_limit(wanted: int | None) -> int:
    """Set the descriptor limit and return the guest's share of it.

    Args:
        wanted: limit to set; 0 leaves it, None means as many as the kernel lets us, at most a
            million.

    Raises:
        StartError: an explicit limit cannot be set.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted != 0:
        nr_open = int(Path("/proc/sys/fs/nr_open").read_text())
        target = min(_NOFILE_WANTED, nr_open) if wanted is None else wanted
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, max(target, hard)))
            soft = target
        except (OSError, ValueError) as error:
            if wanted is not None:
                raise StartError(f"--rlimit-nofile {wanted}: {error}") from error
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
                soft = hard
    return max(soft - _NOFILE_OWN, soft // 2)


def _make_engine(options: Options, root_fd: int, quota: int) -> core.Engine:
    return core.Engine(
        core.EngineConfig(
            root_fd=root_fd,
            proc_self_fd=os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
            num_rings=_num_rings(),
            cache=core.Cache[options.cache.name],
            file_handles=core.FileHandles[options.inode_file_handles.name],
            readdirplus=options.readdirplus,
            readonly=options.readonly,
            allow_direct_io=options.allow_direct_io,
            preserve_noatime=options.preserve_noatime,
            announce_submounts=options.announce_submounts,
            max_open_files=quota,
            fsnotify=options.fsnotify is not Fsnotify.OFF,
            fsnotify_ring_bytes=options.fsnotify_ring_kib * 1024,
            fsnotify_max_watches=options.fsnotify_max_watches,
            log_level=_CORE_LEVELS[options.log_level],
        )
    )


def _decide_fsnotify(options: Options, engine: core.Engine) -> bool:
    """Offer remote events only where the host can deliver them; say so where it cannot."""
    if options.fsnotify is Fsnotify.OFF:
        return False
    try:
        engine.probe_fsnotify()
    except EngineError as error:
        _log.warning("event=no_remote_fsnotify reason=%s guests=local_events_only", error)
        return False
    return True


def _pass_on_log(engine: core.Engine) -> bool:
    for level, line in engine.log_lines():
        _native_log.log(_NATIVE_LEVELS[level], "%s", line)
    return True


@contextmanager
def _end_signals() -> Iterator[socket.socket]:
    """Turn SIGINT and SIGTERM into bytes on a socket, for the length of a block."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    ends = (signal.SIGINT, signal.SIGTERM)
    with ours, theirs:
        before = {number: signal.signal(number, lambda *_: None) for number in ends}
        wakeup = signal.set_wakeup_fd(theirs.fileno())
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)


def _tell_service_manager(state: str) -> None:
    """Send `state` to systemd if it started us and wants to know (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
        sock.sendto(state.encode(), address.replace("@", "\0", 1))


def _close_quietly(fd: int) -> None:
    with suppress(OSError):
        os.close(fd)
