# SPDX-License-Identifier: BSD-3-Clause
"""The command line of ``virtiofsd-py bench``."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from virtiofsd_py.bench import chart, compare, daemons, goals, machine, report
from virtiofsd_py.bench.frontend import Refused
from virtiofsd_py.bench.loads import LOADS, Client, Load, Tree, tree_in
from virtiofsd_py.bench.session import DEPTH_MAX, QUEUES_MAX, BadReply, Session

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_GOALS_MISSED: Final = 3
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

exit status: 0; 1: the first daemon answered wrongly or not at all; 2: wrong command line; 3: with
--goals, one was missed.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as end:
        return EXIT_USAGE if end.code else EXIT_OK
    try:
        return _run(options)
    except (BadReply, Refused, OSError, ValueError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
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


def _parser() -> argparse.ArgumentParser:
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
    sleeps = "the first daemon again, without polling before it sleeps; nobody's peer"
    add("--start-sleeping", metavar="NAME=COMMAND", type=_named, help=sleeps)
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
    add("--goals", action="store_true", help="judge the first daemon by the project's goals")
    add("--goals-only", action="store_true", help="measure only what they ask for")
    add("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    add("--svg", type=Path, metavar="FILE", help="draw processor times there")
    add("--quiet", action="store_true", help="do not say on standard error what is going on")
    return parser


def _run(options: argparse.Namespace) -> int:
    if not options.socket and not options.start:
        raise Refused("name a daemon by --socket or --start")
    if options.socket and not options.share:
        raise Refused("--socket needs --share, the directory that is shared")
    if options.start_sleeping:
        options.start.append(options.start_sleeping)
    results = compare.Results([name for name, _ in (*options.socket, *options.start)])
    results.sleeping = options.start_sleeping[0] if options.start_sleeping else None
    if len(set(results.subjects)) < len(results.subjects):
        raise Refused("two daemons have the same name")
    with ExitStack() as stack:

        def share_in(place: str) -> Tree:
            share = options.share or Path(
                stack.enter_context(tempfile.TemporaryDirectory(dir=place, prefix="bench-"))
            )
            return stack.enter_context(tree_in(share.resolve(strict=True)))

        tree = share_in(_ON_DISK)
        stack.enter_context(daemons.prioritised(options.nice))
        stack.enter_context(daemons.pinned(options.cpus))
        loads = [load for load in options.load or LOADS if _cells(options, load)]
        in_memory = [load for load in loads if load.in_memory and not options.share]
        _measure(options, [load for load in loads if load not in in_memory], tree, results)
        if in_memory:
            _measure(options, in_memory, share_in(_IN_MEMORY), results)
        _measure_footprints(options, tree, results)
    judged = goals.judge(results) if options.goals else []
    text = report.everything(results, judged)
    sys.stdout.write(text)
    if options.markdown:
        page = options.markdown.read_text() if options.markdown.exists() else ""
        when = f"Measured {machine.describe()}, {_settings(options)}.\n"
        options.markdown.write_text(report.put_into(page, f"{when}\n{text}"))
    if options.svg:
        options.svg.write_text(chart.cpu_chart(results))
    if results.subjects[0] in results.failures:
        return EXIT_FAILED
    return EXIT_GOALS_MISSED if any(v.met is False for v in judged) else EXIT_OK


def _settings(options: argparse.Namespace) -> str:
    """Return how it was measured, in words."""
    words = [f"{options.repeat} turns of {options.seconds:g} s"]
    if options.queues > 1:
        words.append(f"{options.queues} request queues")
    if options.cpus and options.daemon_cpus:
        words.append("front-end and daemons on processors of their own")
    return ", ".join(words)


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
    options: argparse.Namespace, loads: Sequence[Load], tree: Tree, results: compare.Results
) -> None:
    if not loads:
        return
    for load in loads:
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
        for load in loads:
            plan = compare.Plan(load, _cells(options, load), options.seconds, options.repeat)
            compare.measure(plan, subjects, tree, results, lambda line: _say(options, line))


def _cells(options: argparse.Namespace, load: Load) -> list[compare.Cell]:
    if options.goals_only:
        return [cell for cell in goals.GOAL_CELLS if cell.load == load.key]
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
