# SPDX-License-Identifier: BSD-3-Clause
"""The command line of ``virtiofsd-py bench``."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from virtiofsd_py.bench import compare, daemons, report
from virtiofsd_py.bench.frontend import Refused
from virtiofsd_py.bench.loads import LOADS, Client, Load, Tree, tree_in
from virtiofsd_py.bench.session import DEPTH_MAX, QUEUES_MAX, BadReply, Session

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_ON_DISK: Final = "/var/tmp"  # unlike many a /tmp
_IN_MEMORY: Final = "/dev/shm"

_FEWER_INODES: Final = 10_000
"""For a daemon that needs a descriptor for each, and may not have so many."""

_EPILOG: Final = f"""
The daemon that is named first is compared with the better of the others. In COMMAND, {{fd}} stands
for the number of a listening descriptor and {{share}} for the shared directory, as in

  --start "ours=virtiofsd-py --fd {{fd}} --shared-dir {{share}} --sandbox chroot"

LOAD is one of {", ".join(load.key for load in LOADS)},
or a pattern such as 'read*'. Tables go to standard output; a rate counts requests, or entries of
READDIRPLUS, or whole rounds of CREATE, RELEASE, UNLINK and FORGET.

exit status: 0; 1: the first daemon answered wrongly or not at all; 2: wrong command line.
"""

CellsOf = Callable[[Load], list[compare.Cell]]


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    parser = argument_parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as end:
        return EXIT_USAGE if end.code else EXIT_OK
    return status_of(parser.prog, lambda: _run(options))


def status_of(prog: str, run: Callable[[], int]) -> int:
    """Return the exit status of `run`; what keeps it from an end is a line on standard error."""
    try:
        return run()
    except (BadReply, Refused, OSError, ValueError) as error:
        sys.stderr.write(f"{prog}: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    return (name, value) if equals and "/" not in name else ("daemon", text)


def _loads(text: str) -> list[Load]:
    found = [load for load in LOADS if fnmatch.fnmatch(load.key, text)]
    if not found:
        raise argparse.ArgumentTypeError(f"there is no {text!r}")
    return found


def _depths(text: str) -> list[int]:
    depths = [int(word) for word in text.split(",")]
    if not all(1 <= depth <= DEPTH_MAX for depth in depths):
        raise argparse.ArgumentTypeError(f"from 1 to {DEPTH_MAX}")
    return depths


def _modes(text: str) -> list[bool]:
    modes = {"sleeping": False, "awake": True}
    if not modes.keys() >= set(text.split(",")):
        raise argparse.ArgumentTypeError("sleeping, awake or both with a comma")
    return [modes[word] for word in text.split(",")]


def _cpus(text: str) -> set[int]:
    return {int(word) for word in text.split(",")}


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="virtiofsd-py bench",
        description="Measure virtio-fs daemons by driving them as Linux does, without a guest.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    named: dict[str, object] = {"type": _named, "action": "append", "default": []}
    add("--socket", metavar="[NAME=]PATH", help="a daemon that listens there", **named)  # type: ignore[arg-type]
    add("--start", metavar="NAME=COMMAND", help="a daemon to start and end", **named)  # type: ignore[arg-type]
    add("--share", type=Path, metavar="DIR", help="what they share, default temporary directories")
    add("--load", type=_loads, action="extend", metavar="LOAD", help="default all; repeatable")
    add("--depth", type=_depths, default=[1, 4, 32], metavar="N,…", help="default 1,4,32")
    add("--seconds", type=float, default=0.3, metavar="S", help="of one turn, default 0.3")
    add("--repeat", type=int, default=7, metavar="N", help="turns of each, default 7")
    add("--queues", type=int, choices=range(1, QUEUES_MAX + 1), default=1, help="default 1")
    awake = "sleeping: until the daemon signals, default; awake: looking for replies meanwhile"
    add("--front-end", type=_modes, default=[False], metavar="MODE,…", help=awake)
    add("--cpus", type=_cpus, metavar="N,…", help="where the front-end runs")
    add("--daemon-cpus", type=_cpus, metavar="N,…", help="where daemons run that are started")
    age = "how old files are when they are first looked up, default 0"
    add("--age", type=float, default=0.0, metavar="S", help=age)
    add("--nice", type=int, default=0, metavar="N", help="priority of all that is measured")
    add("--starts", type=int, default=0, metavar="N", help="time so many starts of each")
    add("--inodes", type=int, default=0, metavar="N", help="see the memory for so many inodes")
    add("--quiet", action="store_true", help="do not say on standard error what is going on")
    return parser


def _run(options: argparse.Namespace) -> int:
    results = measure(options)
    sys.stdout.write(report.everything(results))
    return EXIT_FAILED if results.subjects[0] in results.failures else EXIT_OK


def measure(
    options: argparse.Namespace, *, cells_of: CellsOf | None = None, sleeping: str | None = None
) -> compare.Results:
    """Measure what the command line asks for.

    Args:
        options: the command line.
        cells_of: the rows to measure of a load, instead of those that the command line names.
        sleeping: see `compare.Results`.

    Raises:
        Refused: the command line makes no sense, or a daemon cannot be brought up.
    """
    if not options.socket and not options.start:
        raise Refused("name a daemon by --socket or --start")
    if options.socket and not options.share:
        raise Refused("--socket needs --share, the directory that is shared")
    results = compare.Results([name for name, _ in (*options.socket, *options.start)], sleeping)
    if len(set(results.subjects)) < len(results.subjects):
        raise Refused("two daemons have the same name")
    of_load = cells_of or partial(_cells, options)
    cells = {load: of_load(load) for load in options.load or LOADS}
    with ExitStack() as stack:

        def share_in(place: str) -> Tree:
            share = options.share or Path(
                stack.enter_context(tempfile.TemporaryDirectory(dir=place, prefix="bench-"))
            )
            return stack.enter_context(tree_in(share.resolve(strict=True)))

        tree = share_in(_ON_DISK)
        stack.enter_context(daemons.prioritised(options.nice))
        stack.enter_context(daemons.pinned(options.cpus))
        in_memory = {
            load: of for load, of in cells.items() if of and load.in_memory and not options.share
        }
        on_disk = {load: of for load, of in cells.items() if of and load not in in_memory}
        _measure(options, on_disk, tree, results)
        if in_memory:
            _measure(options, in_memory, share_in(_IN_MEMORY), results)
        _measure_footprints(options, tree, results)
    return results


def _say(options: argparse.Namespace, line: str) -> None:
    if not options.quiet:
        sys.stderr.write(f"  {line}\n")


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say whom it was about if a daemon cannot be brought up."""
    try:
        yield
    except (BadReply, Refused, OSError) as error:
        raise Refused(f"{name}: {error}") from None


def _measure(
    options: argparse.Namespace,
    cells: Mapping[Load, Sequence[compare.Cell]],
    tree: Tree,
    results: compare.Results,
) -> None:
    if not cells:
        return
    for load in cells:
        tree.prepare(load)
    time.sleep(options.age)
    with ExitStack() as stack:
        subjects = []

        def add(name: str, session: Session, pid: int) -> None:
            client = Client(stack.enter_context(session), tree)
            subjects.append(compare.Subject(name, client, daemons.family(pid)))

        for name, path in options.socket:
            with _naming(name):
                session = Session.connect(path, queues=options.queues)
                add(name, session, session.peer_pid)
        for name, command in options.start:
            with _naming(name):
                sock, process = stack.enter_context(
                    daemons.started(command, tree.path.parent, options.daemon_cpus)
                )
                add(name, Session(sock, queues=options.queues), process.pid)
        for load, of in cells.items():
            plan = compare.Plan(load, of, options.seconds, options.repeat)
            compare.measure(plan, subjects, tree, results, lambda line: _say(options, line))


def _cells(options: argparse.Namespace, load: Load) -> list[compare.Cell]:
    return [
        compare.Cell(load.key, depth, awake)
        for depth in options.depth
        for awake in options.front_end
    ]


def _measure_footprints(options: argparse.Namespace, tree: Tree, results: compare.Results) -> None:
    def attempt(name: str, command: str, inodes: int) -> None:
        _say(options, f"{name}: start" + (f", {inodes} inodes" if inodes else ""))
        with results.attempt(name, f"{inodes} inodes" if inodes else "start"):
            found = compare.footprint(command, tree, inodes, options.daemon_cpus)
            results.footprints.setdefault(name, []).append(found)

    different = [(name, command) for name, command in options.start if name != results.sleeping]
    for _ in range(options.starts):
        for name, command in different:
            attempt(name, command, 0)
    for name, command in different if options.inodes else ():
        attempt(name, command, options.inodes)
        if not any(found.inodes for found in results.footprints.get(name, [])):
            attempt(name, command, min(options.inodes, _FEWER_INODES))
