# SPDX-License-Identifier: BSD-3-Clause
"""``virtiofsd-py watch``: prints the events in the share of a running daemon, a line each.

Nothing here writes or exits; `virtiofsd_py.cli` does. What reads the ring is imported after the
command line is read; the daemon's core never is.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import select
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from virtiofsd_py.errors import ConfigError, StartError
from virtiofsd_py.options import PROGRAM, SOCKET

if TYPE_CHECKING:
    from virtiofsd_py.fsnotify import Record, Request, Subscription

COMMAND: Final = "watch"
_NAME: Final = f"{PROGRAM} {COMMAND}"

_USED: Final = frozenset({"access", "close_write", "close_nowrite", "open"})
_ALL: Final = (1 << 64) - 1
_ENDS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What the command shows.

    Attributes:
        socket: the daemon's watch socket.
        paths: what is watched, from the share on; none is the whole share.
        as_json: whether each line is a JSON object.
        subtypes: a bit for each subtype, of each type of record by its number.
        complain: whether it is shown that errors of a filesystem will not be reported.
        follow: whether to wait for a daemon, and for the next one when it has ended.
    """

    socket: str
    paths: tuple[str, ...] = ()
    as_json: bool = False
    subtypes: Mapping[int, int] = field(default_factory=dict)
    complain: bool = False
    follow: bool = False


class _Parser(argparse.ArgumentParser):
    """argparse without its printing and exiting."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{COMMAND}: {message}; see {_NAME} --help")


def _types() -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return each type of record that can be asked for: its number, and the names of its kinds."""
    from virtiofsd_py.fsnotify.records import TYPES

    return {
        name: (number, tuple(kind.name.lower() for kind in kinds or ()))
        for name, (number, kinds) in TYPES.items()
    }


def _build_parser() -> _Parser:
    types = _types()
    used = [f"event:{kind}" for kind in types["event"][1] if kind in _USED]
    parser = _Parser(
        prog=_NAME,
        usage=f"{_NAME} --socket-path PATH [--follow] [--json] [--type TYPE,...] [PATH ...]",
        description="Show what happens in the share of a running daemon, until interrupted or the "
        "daemon ends. PATH is from the share on, as in the guest; a directory stands for all that "
        "is below it. Without one the whole share is watched. Only the daemon's user may.",
        epilog="Exit status: 0 when interrupted (SIGINT, SIGTERM) or when the daemon has ended, 1 "
        "if it cannot be watched, 2 for a wrong command line.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28, width=96),
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="what to watch")
    parser.add_argument(
        "--socket-path",
        metavar="PATH",
        help="the daemon's vhost-user socket, as given to the daemon",
    )
    parser.add_argument(
        "--watch-socket", metavar="PATH", help="its watch socket, if that has a path of its own"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="wait for the daemon to start, and for the next one whenever it has ended",
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="TYPE,...",
        help="show these only, and what is lost; repeatable. TYPE is "
        f"{', '.join(types)}, or one kind of it: "
        + ", ".join(f"{name}:{kind}" for name, (_, kinds) in types.items() for kind in kinds)
        + f" (default: all but {', '.join(used)})",
    )
    parser.add_argument("-h", "--help", action="store_true", help="this page")
    return parser


def help_text() -> str:
    """Return the help page, ending in a newline."""
    return _build_parser().format_help()


def parse(argv: Sequence[str]) -> WatchOptions | None:
    """Read what follows ``watch``.

    Returns:
        What to show, or None if help is asked for.

    Raises:
        ConfigError: something is unknown, missing or not accepted.
    """
    try:
        found, unknown = _build_parser().parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{COMMAND}: {error}; see {_NAME} --help") from None
    if found.help:
        return None
    if unknown:
        raise ConfigError(f"{COMMAND}: {unknown[0]}: unknown option; see {_NAME} --help")
    return WatchOptions(
        socket=_socket(found.socket_path, found.watch_socket),
        paths=tuple(found.paths),
        as_json=found.json,
        subtypes=_subtypes(found.type),
        complain=bool(found.type),
        follow=found.follow,
    )


def _socket(socket_path: str | None, watch_socket: str | None) -> str:
    name, given = "--watch-socket", watch_socket
    if given is None:
        name, given = "--socket-path", socket_path
    if given is None:
        raise ConfigError(f"{COMMAND}: --socket-path: missing; name the daemon's vhost-user socket")
    if name == "--socket-path":
        given = f"{given}.watch" if given else given
    try:
        return str(SOCKET.parse(given))
    except ValueError:
        raise ConfigError(
            f"{COMMAND}: {name}: {given!r} is not accepted; use {SOCKET.accepts}"
        ) from None


def _subtypes(given: Sequence[str]) -> dict[int, int]:
    """Return a bit for each kind of each type that is asked for."""
    types = _types()
    subtypes: dict[int, int] = {}
    for item in ",".join(given).split(",") if given else types:
        name, colon, kind = item.partition(":")
        number, kinds = types.get(name, (0, ()))
        if not number or (colon and kind not in kinds):
            accepted = [*types] if not number else [f"{name}:{each}" for each in kinds]
            raise ConfigError(
                f"{COMMAND}: --type: {item!r} is not accepted; use {', '.join(accepted)}"
            )
        bits = 1 << kinds.index(kind) if colon else _default_bits(name, kinds)
        subtypes[number] = subtypes.get(number, 0) | bits
    return subtypes


def _default_bits(name: str, kinds: Sequence[str]) -> int:
    """Return the kinds of a type that is given alone: of events, those that change something."""
    if name != "event":
        return _ALL
    return sum(1 << i for i, kind in enumerate(kinds) if kind not in _USED)


def run(options: WatchOptions) -> Iterator[str]:
    """Yield a line for each record, until a signal or the daemon ends it.

    SIGINT and SIGTERM end it between two lines; a second one ends the process at once.

    Raises:
        StartError: the daemon cannot be reached, refuses, or does not watch a path.
        EngineError: its ring is malformed.
        BadRecord: a record in it is.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        wakeup = signal.set_wakeup_fd(theirs.fileno())
        before = {each: signal.signal(each, _end) for each in _ENDS}
        try:
            yield from _lines(options, ours)
        finally:
            signal.set_wakeup_fd(wakeup)
            for each, handler in before.items():
                signal.signal(each, handler)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)


def _lines(options: WatchOptions, end: socket.socket) -> Iterator[str]:
    """Yield lines until `end` is readable, or the daemon ends that is not to be followed."""
    from virtiofsd_py import fsnotify

    mask = options.subtypes.get(fsnotify.RecordType.FSNOTIFY, 0)
    request = fsnotify.Request(
        watches=tuple(fsnotify.Watch(path, mask) for path in options.paths or ("",)),
        subtypes={fsnotify.RecordType(n): bits for n, bits in options.subtypes.items()},
    )
    while (events := _subscribe(options, request, end)) is not None:
        with events:
            yield from _records(events, options, end)
            if not (options.follow and events.ended):
                return


def _subscribe(options: WatchOptions, request: Request, end: socket.socket) -> Subscription | None:
    """Connect to the daemon, once there is one if it is to be followed; None: `end` came first."""
    from virtiofsd_py import fsnotify

    try:
        if not options.follow:
            return fsnotify.Subscription(options.socket, request)
        from virtiofsd_py.fsnotify.arrival import SocketArrival

        with SocketArrival(options.socket) as arrival:
            poller = select.poll()
            poller.register(arrival, select.POLLIN)
            poller.register(end, select.POLLIN)
            while True:
                try:
                    return fsnotify.Subscription(options.socket, request)
                except (FileNotFoundError, ConnectionError):
                    pass  # None, or one that is about to end.
                except fsnotify.Refused as error:
                    if error.errno != errno.ECONNRESET:
                        raise  # else it has ended before it was ready
                while not arrival.has_changed():
                    if any(fd == end.fileno() for fd, _ in poller.poll()):
                        return None
    except OSError as error:
        place = error.filename or options.socket
        raise StartError(f"{COMMAND}: {place}: {error.strerror}") from error
    except fsnotify.Refused as error:
        raise StartError(f"{COMMAND}: {options.socket}: {error}") from error


def _records(events: Subscription, options: WatchOptions, end: socket.socket) -> Iterator[str]:
    """Yield lines until `end` is readable, or the daemon ends."""
    poller = select.poll()
    poller.register(events, select.POLLIN)
    poller.register(end, select.POLLIN)
    while not events.ended:
        while (record := events.next_now()) is not None:
            if not _is_shown(record, options):
                continue
            yield json.dumps(record.as_object()) if options.as_json else str(record)
            if any(fd == end.fileno() for fd, _ in poller.poll(0)):
                return
        if not events.ended and any(fd == end.fileno() for fd, _ in poller.poll()):
            return


def _is_shown(record: Record, options: WatchOptions) -> bool:
    """Return whether to show `record`; raise a StartError if it says that a path is not watched."""
    from virtiofsd_py.fsnotify import Status, WatchStatus

    if not isinstance(record, WatchStatus):
        return True
    if record.status is Status.FAILED:
        raise StartError(f"{COMMAND}: {record.path or '.'}: {os.strerror(record.error)}")
    # Without --type errors are wanted where the daemon may see them, and no message otherwise.
    return record.status is not Status.NO_ERRORS or options.complain
