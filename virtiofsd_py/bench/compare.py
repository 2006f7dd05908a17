# SPDX-License-Identifier: BSD-3-Clause
"""Which load on which daemon when, and what came of it.

All daemons are up all the time; each gets its turn at a load before any gets the next, so that
whatever else the machine does hits them all. What is compared is one turn with its neighbours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from virtiofsd_py.bench import daemons
from virtiofsd_py.bench.frontend import Refused
from virtiofsd_py.bench.loads import MIB, Client, Load, Tree
from virtiofsd_py.bench.session import BadReply, Gone, Kind, Names, Outcome, Session, Work

BARE: Final = "bare"
"""Stands for plain system calls where daemons have their names."""
WARM_UP_S: Final = 0.05
AWAKE_US: Final = 10_000
"""How long a front-end that is awake looks for a reply before it sleeps after all."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn. Times are microseconds; of CPU per unit.

    Attributes:
        rate: units a second.
        cpu_us: the daemon's processor time.
        p50_us: latency.
        p99_us: likewise.
        front_end: what part of the time the front-end's threads were running; 1.0: one of them all
            the time.
        batch: requests for each time that the daemon went to sleep.
    """

    rate: float
    cpu_us: float
    p50_us: float
    p99_us: float
    front_end: float
    batch: float = float("nan")


@dataclass(frozen=True, slots=True)
class Footprint:
    """A daemon by itself.

    Attributes:
        ready_ms: from its start to its reply to INIT.
        idle_bytes: resident then.
        inodes: how many were looked up next; 0: none.
        inode_bytes: resident memory that each of them took.
    """

    ready_ms: float
    idle_bytes: int
    inodes: int = 0
    inode_bytes: float = 0.0


class Cell(NamedTuple):
    """A row of the tables.

    Attributes:
        load: its key.
        depth: requests in flight in each queue.
        awake: whether the front-end looks for replies all the time, instead of sleeping until it is
            signalled.
    """

    load: str
    depth: int
    awake: bool = False


@dataclass(slots=True)
class Results:
    """Everything that was measured.

    Attributes:
        subjects: names of the daemons, the one that is judged first.
        sleeping: the one that is the first again, but does not look for requests before it goes to
            sleep; it is nobody's peer. None: there is none.
        samples: by cell and daemon, in order of time.
        bare: by key of the load.
        footprints: by daemon.
        failures: by daemon, then by title of the load or what else was asked of it: what it did
            wrong.
        gone: daemons that answer no more.
    """

    subjects: list[str]
    sleeping: str | None = None
    samples: dict[Cell, dict[str, list[Sample]]] = field(default_factory=dict)
    bare: dict[str, list[Sample]] = field(default_factory=dict)
    footprints: dict[str, list[Footprint]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    @contextmanager
    def attempt(self, name: str, what: str) -> Iterator[None]:
        """Note what a daemon does wrong meanwhile, and go on."""
        try:
            yield
        except (BadReply, Refused) as error:
            self.failures.setdefault(name, {}).setdefault(what, str(error))
            if isinstance(error, Gone | Refused):
                self.gone.add(name)

    def may_try(self, name: str, what: str) -> bool:
        """Tell whether a daemon still answers, and has not failed at this."""
        return name not in self.gone and what not in self.failures.get(name, {})


@dataclass(slots=True)
class Subject:
    """A daemon with a session.

    Attributes:
        name: for tables.
        client: what was looked up and opened.
        pids: whose processor time counts.
    """

    name: str
    client: Client
    pids: list[int]

    def turn(self, work: Work, load: Load) -> Sample:
        """Do `work` once."""
        sleeps, cpu_ns = daemons.sleeps(self.pids), daemons.cpu_ns(self.pids)
        outcome = self.client.session.run(work)
        cpu_ns, sleeps = daemons.cpu_ns(self.pids) - cpu_ns, daemons.sleeps(self.pids) - sleeps
        sample = _sample(outcome, cpu_ns, load, work.request_bytes)
        return replace(sample, batch=outcome.requests / max(sleeps, 1))


def _sample(outcome: Outcome, cpu_ns: int, load: Load, request_bytes: int) -> Sample:
    # Where requests may not be as long as the load wants them, more of them are a unit.
    units = outcome.units * (request_bytes / MIB if load.request_bytes == MIB else 1)
    return Sample(
        rate=units * 1e9 / outcome.wall_ns,
        cpu_us=max(cpu_ns, 1) / 1e3 / units,  # the clock may not have moved in a short turn
        p50_us=outcome.p50_ns / 1e3,
        p99_us=outcome.p99_ns / 1e3,
        front_end=outcome.cpu_ns / outcome.wall_ns,
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """How to measure.

    Attributes:
        load: which.
        cells: the rows, all of that load.
        seconds: of one turn.
        repeats: turns of each daemon at each load.
    """

    load: Load
    cells: Sequence[Cell]
    seconds: float
    repeats: int


Say = Callable[[str], None]


def measure(
    plan: Plan, subjects: Sequence[Subject], tree: Tree, results: Results, say: Say
) -> None:
    """Measure a load; a daemon that answers wrongly is left out of the rest of it.

    What the load needs is there.
    """
    load = plan.load
    works: dict[str, Work] = {}
    for subject in subjects:
        if results.may_try(subject.name, load.title):
            with results.attempt(subject.name, load.title):
                works[subject.name] = subject.client.prepare(load)
    for cell in plan.cells:
        say(f"{load.title}, QD {cell.depth}" + (", front-end awake" if cell.awake else ""))
        for turn in range(-1, plan.repeats):
            _take_turns(plan, subjects, cell, turn, works, results)
            if turn >= 0 and cell == plan.cells[0]:
                outcome = tree.run_bare(load, plan.seconds / 2)
                bare = _sample(outcome, outcome.cpu_ns, load, load.request_bytes)
                results.bare.setdefault(load.key, []).append(bare)
    for subject in subjects:
        names = works[subject.name].names if subject.name in works else None
        if names is not None and subject.name not in results.gone:
            with results.attempt(subject.name, load.title):
                subject.client.session.forget(names)
    for subject in subjects:  # what it did before it failed is no figure either
        if not results.may_try(subject.name, load.title):
            for cell in plan.cells:
                results.samples[cell].pop(subject.name, None)
    if load.kind is Kind.WRITE:
        tree.check_data(load)


def _take_turns(
    plan: Plan,
    subjects: Sequence[Subject],
    cell: Cell,
    turn: int,
    works: Mapping[str, Work],
    results: Results,
) -> None:
    """Let each daemon have its turn; the first, number -1, is short and does not count.

    Another one begins each time: who comes behind the system calls alone finds other caches.
    """
    load = plan.load
    seconds = plan.seconds if turn >= 0 else min(plan.seconds, WARM_UP_S)
    poll_us = AWAKE_US if cell.awake else 0
    samples = results.samples.setdefault(cell, {})
    first = turn % len(subjects)
    for subject in (*subjects[first:], *subjects[:first]):
        if not results.may_try(subject.name, load.title):
            continue
        with results.attempt(subject.name, load.title):
            work = replace(works[subject.name], depth=cell.depth, seconds=seconds, poll_us=poll_us)
            if load.kind is Kind.READDIRPLUS:
                count = cell.depth * subject.client.session.queues
                work = replace(work, handles=subject.client.handles(load, count))
            sample = subject.turn(work, load)
            if turn >= 0:
                samples.setdefault(subject.name, []).append(sample)


def footprint(command: str, tree: Tree, inodes: int, cpus: Set[int] | None) -> Footprint:
    """Start a daemon, see how long that takes and what it needs, and end it.

    Args:
        command: see `daemons.started`.
        tree: where the names are.
        inodes: how many to look up; 0: none.
        cpus: where it may run.
    """
    directory = tree.make_names(inodes) if inodes else None
    began = time.monotonic()
    with ExitStack() as stack:
        sock, process = stack.enter_context(daemons.started(command, tree.path.parent, cpus))
        session = stack.enter_context(Session(sock))
        ready_ms = (time.monotonic() - began) * 1e3
        pids = daemons.family(process.pid)
        idle = daemons.resident_bytes(pids)
        if directory is None:
            return Footprint(ready_ms, idle)
        names = Names(inodes)
        nodeid = session.lookup(session.lookup(1, tree.path.name), directory.name)
        session.run(Work(kind=Kind.LOOKUP, depth=32, units=inodes, nodeid=nodeid, names=names))
        more = daemons.resident_bytes(pids) - idle
        return Footprint(ready_ms, idle, inodes, more / inodes)


def median(values: Sequence[float]) -> float:
    """Return the middle one; of nothing, not a number."""
    return statistics.median(values) if values else float("nan")


Value = Callable[[Sample], float]


def rate(sample: Sample) -> float:
    """Units a second: more is better."""
    return sample.rate


def cpu(sample: Sample) -> float:
    """Processor time for a unit: less is better."""
    return sample.cpu_us


def p50(sample: Sample) -> float:
    """Latency: less is better."""
    return sample.p50_us


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours to a peer's.

    Attributes:
        peer: which one.
        value: median.
        low: least.
        high: greatest.
    """

    peer: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it with its spread."""
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


def ratio(results: Results, cell: Cell, value: Value, subject: str | None = None) -> Ratio | None:
    """Compare a daemon, the first by default, with the best of its peers; None: there are none.

    A ratio is the median over rounds of one turn by its neighbour of the same round; its spread is
    the least and the greatest of them.
    """
    sides = results.samples.get(cell, {})
    ours = sides.get(subject or results.subjects[0], [])
    not_peers = {results.subjects[0], results.sleeping}
    peers = {name: turns for name, turns in sides.items() if name not in not_peers and turns}
    if not ours or not peers:
        return None
    best = max if value is rate else min
    peer = best(peers, key=lambda name: median([value(turn) for turn in peers[name]]))
    each = [value(a) / value(b) for a, b in zip(ours, peers[peer], strict=False)]
    return Ratio(peer, median(each), min(each), max(each))


def inode_bytes(footprints: Sequence[Footprint]) -> float | None:
    """Return the median of what an inode takes, or None."""
    each = [f.inode_bytes for f in footprints if f.inodes]
    return median(each) if each else None
