# SPDX-License-Identifier: BSD-3-Clause
"""Wiring: from `Options` to a served front-end, and everything back in order at the end.

Start: pid lock, socket, limits, sandbox (groups, namespaces or root, system calls, capabilities),
umask, engine, readiness. One front-end is served; when it goes, or SIGINT or SIGTERM comes, rings
stop before the tables they use, and socket and lock leave the filesystem.

With a sandbox there are two processes from then on: see `virtiofsd_py.sandbox.guardian`.
"""

from __future__ import annotations

import fcntl
import grp
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from virtiofsd_py import engine as core
from virtiofsd_py import idmap, limits, sandbox, systemlog, xattrmap
from virtiofsd_py._declared import CoreLogLevel
from virtiofsd_py.device import VirtioFsDevice
from virtiofsd_py.ending import Ending
from virtiofsd_py.engine_config import EngineConfig
from virtiofsd_py.errors import ConfigError, EngineError, StartError
from virtiofsd_py.fsnotify.control import Control, WatchSocket
from virtiofsd_py.fsnotify.mounts import MountWatch
from virtiofsd_py.fsnotify.request import default_socket
from virtiofsd_py.fuse import Handlers
from virtiofsd_py.options import (
    FileHandles,
    Fsnotify,
    FsnotifyDialect,
    LogLevel,
    MigrationMode,
    Options,
)
from virtiofsd_py.sandbox import capabilities
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
# Descriptors the daemon needs for itself, whatever its guest holds: rings, memory, transient opens.
_NOFILE_OWN: Final = 1024
# Of the descriptors that the guest might hold, consumers get one in this many.
_CONSUMERS_PART: Final = 8
_SOCKET_PATH_BYTES: Final = 107  # unix(7)

_NATIVE_LEVELS: Final = {
    CoreLogLevel.ERROR: logging.ERROR,
    CoreLogLevel.WARN: logging.WARNING,
    CoreLogLevel.INFO: logging.INFO,
    CoreLogLevel.DEBUG: logging.DEBUG,
}
_CORE_LEVELS: Final = {
    LogLevel.OFF: -1,
    LogLevel.ERROR: CoreLogLevel.ERROR,
    LogLevel.WARN: CoreLogLevel.WARN,
    LogLevel.INFO: CoreLogLevel.INFO,
    LogLevel.DEBUG: CoreLogLevel.DEBUG,
    LogLevel.TRACE: CoreLogLevel.DEBUG,
}


def run(options: Options, extensions: Handlers | None = None) -> int:
    """Serve one front-end from start to end.

    Args:
        options: what was asked for.
        extensions: opcodes that Python serves; what they need is imported already, for inside the
            sandbox nothing can be.

    Returns:
        The exit status: 0 when the front-end went or a signal ended us. What the sandboxed process
        died of, its guardian dies of too.

    Raises:
        ConfigError: options ask for what cannot be done here.
        StartError: the share or the socket cannot be used, or the sandbox cannot be made.
        OSError: the host refused something else at start.
        EngineError: the core could not be set up.
    """
    _check_user(options)
    # Nothing is made yet: a share that does not answer may be given up by any signal.
    _check_share(options.shared_dir)
    end = _run(options, extensions or Handlers())
    return end.imitate() if isinstance(end, sandbox.Ended) else end


def _run(options: Options, extensions: Handlers) -> int | sandbox.Ended:
    # Everything in `outside` is undone by a call, not by a finaliser: see below.
    with _end_signals() as ended, closing(_ServiceManager()) as manager, ExitStack() as outside:
        if options.socket_path is not None:
            outside.enter_context(_PidLock(f"{options.socket_path}.pid"))
        listener = outside.enter_context(_listen(options))
        consumers = _listen_for_consumers(options)
        if consumers is not None:
            outside.enter_context(consumers)
        quota = _raise_file_limit(options.rlimit_nofile)
        watches = limits.watch_limits()
        place = sandbox.enter(_plan(options), lambda: manager.notify("READY=1"))
        if isinstance(place, sandbox.Ended):
            return place
        if place.apart:
            outside.pop_all()  # The guardian undoes it; from here other files have these names.
            manager.close()
        os.umask(0)
        with Ending(ended, place.announce_end, outside.close) as ending:
            return _serve_one(
                options, extensions, place, listener, consumers, ended, ending, quota, watches
            )


def _serve_one(
    options: Options,
    extensions: Handlers,
    place: sandbox.Inside,
    listener: Listener,
    consumers: WatchSocket | None,
    ended: socket.socket,
    ending: Ending,
    quota: int,
    watches: limits.WatchLimits,
) -> int:
    with ExitStack() as stack:
        root_fd = os.dup(place.root_fd)
        engine = stack.enter_context(_make_engine(options, extensions, place, quota, watches))
        fsnotify = _decide_fsnotify(options, engine, watches)
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
        # What Python functions remember is not in the state that is transferred.
        if extensions.opcodes:
            features &= ~ProtocolFeature.DEVICE_STATE
        watch: dict[int, Callable[[], bool]] = {
            ended.fileno(): lambda: False,
            engine.log_fd: lambda: _pass_on_log(engine),
            engine.upcall_fd: lambda: _serve_extensions(engine, extensions),
        }
        stack.callback(_pass_on_log, engine)
        table = place.mounts
        mounts = MountWatch(
            table.fd, table.notify_fd, table.share, root_fd, engine, events=table.events
        )
        stack.callback(mounts.close)
        watch[mounts.fileno()] = mounts.serve
        if fsnotify and options.announce_submounts:
            mounts.hold_for_guest()
        if consumers is not None:
            control = Control(consumers.sock, engine, mounts)
            stack.callback(control.close)
            watch[control.fileno()] = control.serve
        _log.info(
            "event=ready pid=%d share=%s sandbox=%s seccomp=%s fsnotify=%s",
            place.pid,
            options.shared_dir,
            options.sandbox,
            options.seccomp,
            fsnotify,
        )
        place.announce_ready()
        connection = listener.accept(watch)
        if connection is None:
            return 0
        with connection, Server(device, protocol_features=features) as server:
            ending.attend(connection)
            return _serve(connection, server, watch, ending)


def _serve(
    connection: Connection,
    server: Server,
    watch: dict[int, Callable[[], bool]],
    ending: Ending,
) -> int:
    _log.info("event=connected")
    try:
        gone = serve(connection, server, watch)
    except (ProtocolError, TransportError) as error:
        _log.error("event=cut_off reason=%s", error)
        ending.begin(1)
        return 1
    _log.info("event=%s", "disconnected" if gone else "interrupted")
    ending.begin(0)
    return 0


def _num_rings() -> int:
    """Count rings: hiprio, notification, and as many request queues as any front-end may want."""
    return 2 + _REQUEST_RINGS_MAX


def _check_user(options: Options) -> None:
    if os.geteuid() == 0 and (options.uid_map or options.gid_map):
        name = "--uid-map" if options.uid_map else "--gid-map"
        raise ConfigError(f"{name}: only for other users than root; see --translate-uid")


def _check_share(path: str) -> None:
    try:
        sandbox.check_share(path)
    except OSError as error:
        raise StartError(f"--shared-dir {path}: {error.strerror}") from error


def _plan(options: Options) -> sandbox.Plan:
    return sandbox.Plan(
        mode=options.sandbox,
        shared_dir=options.shared_dir,
        uid_map=options.uid_map,
        gid_map=options.gid_map,
        seccomp=options.seccomp,
        capabilities=capabilities.kept(
            file_handles=options.inode_file_handles is not FileHandles.NEVER
            or options.migration_mode is MigrationMode.FILE_HANDLES,
            changes=options.modcaps,
        ),
        reconnect=systemlog.connect if options.syslog else lambda: None,
    )


class _PidLock:
    """The file that says whose socket it is: locked while it is ours, then removed."""

    def __init__(self, path: str) -> None:
        """Make and lock it.

        Raises:
            StartError: another process holds it, or it cannot be made.
        """
        self._path = path
        try:
            self._fd = self._lock()
            os.ftruncate(self._fd, 0)
            os.write(self._fd, b"%d\n" % os.getpid())
        except BlockingIOError as error:
            raise StartError(f"--socket-path {path}: another daemon serves there") from error
        except OSError as error:
            raise StartError(f"--socket-path {path}: {error.strerror}") from error

    def __enter__(self) -> None:
        """Be locked for the length of a block."""

    def __exit__(self, *_: object) -> None:
        """Remove, then unlock."""
        with suppress(OSError):
            os.unlink(self._path)
        os.close(self._fd)

    def _lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            fd = os.open(self._path, flags, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its last holder may have removed it between our opening and locking it.
                if os.path.samestat(os.fstat(fd), os.lstat(self._path)):
                    return fd
            except FileNotFoundError:
                pass
            except OSError:
                os.close(fd)
                raise
            os.close(fd)


def _listen(options: Options) -> Listener:
    try:
        if options.fd is not None:
            return Listener.from_fd(options.fd)
        assert options.socket_path is not None, "options have one of the two"
        group = _group_id(options.socket_group)
        path = Path(options.socket_path)
        listener = Listener.bind(path, 0o700 if group is None else 0o770)
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


def _listen_for_consumers(options: Options) -> WatchSocket | None:
    path = options.watch_socket
    if path is None and options.socket_path is not None:
        path = default_socket(options.socket_path)
        if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
            _log.warning("event=no_watch_socket reason=the path would be too long")
            return None
    if not path:
        return None
    try:
        return WatchSocket(Path(path))
    except OSError as error:
        raise StartError(f"--watch-socket {path}: {error.strerror}") from error


def _raise_file_limit(wanted: int | None) -> int:
    """Set the descriptor limit and return the guest's share of it.

    Args:
        wanted: limit to set; 0 leaves it, None means as many as the kernel lets us, at most a
            million, and not so many that the host has none left for others.

    Raises:
        StartError: an explicit limit cannot be set.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = limits.files_of_daemon()
    if wanted != 0:
        target = most if wanted is None else wanted
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, max(target, hard)))
            soft = target
        except (OSError, ValueError) as error:
            if wanted is not None:
                raise StartError(f"--rlimit-nofile {wanted}: {error}") from error
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
                soft = hard
    if not wanted:
        soft = min(soft, most)
    return max(soft - _NOFILE_OWN, soft // 2)


def _make_engine(
    options: Options,
    extensions: Handlers,
    place: sandbox.Inside,
    quota: int,
    watches: limits.WatchLimits,
) -> core.Engine:
    return core.Engine(
        EngineConfig(
            options=options,
            root_fd=place.root_fd,
            proc_self_fd=place.proc_self_fd,
            mount_table_fd=place.mounts.fd,
            num_rings=_num_rings(),
            log_level=_CORE_LEVELS[options.log_level],
            max_fds=quota - quota // _CONSUMERS_PART,
            fsnotify_max_marks=watches.marks.of_guest(options.fsnotify_max_watches),
            fsnotify_max_watches=watches.watches.of_guest(options.fsnotify_max_watches),
            watch_max_fds=quota // _CONSUMERS_PART,
            watch_max_marks=watches.marks.part,
            watch_max_watches=watches.watches.part,
            xattrmap=_xattrmap(options),
            uids=idmap.compile_table(options.translate_uid),
            gids=idmap.compile_table(options.translate_gid),
            upcalls=extensions.opcodes,
        )
    )


def _xattrmap(options: Options) -> Sequence[xattrmap.Rule]:
    """Return the rules; the host's trusted attributes are for guests only if rules say so."""
    if options.xattrmap or "sys_admin" not in _plan(options).capabilities:
        return options.xattrmap
    return xattrmap.WITHOUT_TRUSTED


def _decide_fsnotify(options: Options, engine: core.Engine, watches: limits.WatchLimits) -> bool:
    """Offer remote events only where the host can deliver them; say so where it cannot."""
    if options.fsnotify is Fsnotify.OFF:
        return False
    try:
        obstacle = engine.probe_fsnotify()
    except EngineError as error:
        _log.warning("event=no_remote_fsnotify reason=%s guests=local_events_only", error)
        return False
    if obstacle:
        _log.warning("event=fsnotify_fallback mode=%s reason=%s", Fsnotify.SERVER, obstacle)
    by_inotify = (
        obstacle
        or options.fsnotify is Fsnotify.SERVER
        or options.fsnotify_dialect is FsnotifyDialect.RFC2021
    )
    limit = watches.watches if by_inotify else watches.marks
    _log.info(
        "event=watch_limit guest=%d consumers=%d host=%d of=%s",
        limit.of_guest(options.fsnotify_max_watches),
        limit.part,
        limit.host,
        limit.name,
    )
    return True


def _serve_extensions(engine: core.Engine, extensions: Handlers) -> bool:
    engine.serve_upcalls(lambda upcall: extensions.serve(upcall, engine), extensions.forget)
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


class _ServiceManager:
    """A socket to systemd, made while we may, if that started us and wants to know (sd_notify(3)).

    It would send to any other name of this network namespace as well: it goes with the first
    message, and no guest is served while it is there.
    """

    def __init__(self) -> None:
        """Connect."""
        self._sock: socket.socket | None = None
        address = os.environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._sock.connect(address.replace("@", "\0", 1))
        except OSError:
            self.close()

    def notify(self, state: str) -> None:
        """Send one message, the last one."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.send(state.encode())
        self.close()

    def close(self) -> None:
        """Send nothing any more."""
        if self._sock is not None:
            self._sock.close()
        self._sock = None
