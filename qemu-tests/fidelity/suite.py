# SPDX-License-Identifier: BSD-3-Clause
"""Every scenario by every actor, compared with a local file system."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from runguest import paths
from runguest.agent import Agent, Guest, LineProcess

from . import rules
from .runner import Observation, ScenarioError, Seat, Stage
from .scenario import FANOTIFY, Scenario

_LOCAL: Final = b"/tmp/fidelity"
"""On a file system of the guest's own (tmpfs)."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes the changes, and which daemon reports them to the observer.

    Attributes:
        by: ``guest``: the observer's own; ``host``; ``guest2``: another one.
        paced: the next system call waits until the last one's events have come.
        daemon_args: for the daemons.
    """

    by: str
    paced: bool = False
    daemon_args: tuple[str, ...] = ()

    def is_exact(self) -> bool:
        """The observer gets all of its changes, one by one: a fanotify group may merge alike."""
        return not self.daemon_args and (self.by == "guest" or (self.by == "host" and self.paced))


_SERVER: Final = ("--fsnotify=server",)
ACTORS: Final[Mapping[str, Actor]] = {
    "guest": Actor("guest"),
    "host": Actor("host", paced=True),
    "host-burst": Actor("host"),
    "guest2": Actor("guest2", paced=True),
    "guest2-burst": Actor("guest2"),
    "server-guest": Actor("guest", daemon_args=_SERVER),
    "server-host": Actor("host", daemon_args=_SERVER),
    "server-guest2": Actor("guest2", daemon_args=_SERVER),
}
"""The names that rules go by."""


@dataclass(slots=True)
class Verdict:
    """How one actor did.

    Attributes:
        actor: its name.
        identical: scenarios with the same sequences in every way of watching.
        by_rule: scenario to the rules that explain all its differences.
        faults: scenario to its other differences, readable.
    """

    actor: str
    identical: list[str] = field(default_factory=list)
    by_rule: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def summary(self) -> str:
        """One line."""
        total = len(self.identical) + len(self.by_rule) + len(self.faults)
        line = f"{self.actor:14} {len(self.identical)} of {total} identical"
        used = sorted({name for names in self.by_rule.values() for name in names})
        if used:
            line += f", {len(self.by_rule)} by rule ({', '.join(used)})"
        return line + (f", {len(self.faults)} DIFFERENT" if self.faults else "")


class Suite:
    """Guests as they are needed, and the truth."""

    def __init__(self, home: Path, vmm: str, scenarios: Sequence[Scenario], quick: bool) -> None:
        """Starts nothing yet.

        Args:
            home: an empty directory for shares and logs.
            vmm: ``uml`` or ``qemu``.
            scenarios: what to run.
            quick: watch each in two ways only: the first, and of the others one in turns.
        """
        self._home = home
        self._vmm = vmm
        self._scenarios = [
            (scenario, way)
            for number, scenario in enumerate(scenarios)
            for way in _ways(scenario, number, quick)
        ]
        self._truth: dict[tuple[str, str], Observation] = {}

    def run(self, names: Sequence[str]) -> Iterator[Verdict]:
        """The verdicts on these actors. Each set of guests is booted once.

        Raises:
            GuestFailedError: a guest did.
        """
        for daemon_args in dict.fromkeys(ACTORS[name].daemon_args for name in names):
            chosen = [name for name in names if ACTORS[name].daemon_args == daemon_args]
            second = any(ACTORS[name].by == "guest2" for name in chosen)
            with self._seats(daemon_args, second) as seats:
                if not self._truth:
                    self._truth = self.learn(seats["guest"].agent)
                for name in chosen:
                    yield self._judge(name, seats)

    @contextmanager
    def _seats(self, daemon_args: Sequence[str], second: bool) -> Iterator[dict[str, Seat]]:
        """By name: ``guest``, ``guest2`` if there is a ``second``, ``host`` and ``helper``."""
        home = self._home / (daemon_args[0].strip("-") if daemon_args else "merged")
        share = home / "share"
        share.mkdir(parents=True)
        options = [f"--daemon-arg={a}" for a in ("--cache=always", "--xattr", *daemon_args)]
        seats = {}
        with ExitStack() as stack:
            for name in ("guest", "guest2")[: 1 + second]:
                guest = stack.enter_context(Guest(self._vmm, share, home / name, options))
                seats[name] = Seat(Agent(guest), os.fsencode(paths.GUEST_SHARE))
            for name in ("host", "helper"):
                argv = [os.fspath(paths.TOOLS / "agent")]
                process = stack.enter_context(LineProcess(argv, home / f"{name}.log"))
                seats[name] = Seat(Agent(process), os.fsencode(share))
            yield seats

    def learn(self, agent: Agent) -> dict[tuple[str, str], Observation]:
        """What a local file system of the guest shows, by scenario and way."""
        agent.call("mkdir", _LOCAL, 0o755)
        seat = Seat(agent, _LOCAL)
        stage = Stage(seat, seat, None, paced=False)
        return {(s.id, way): stage.run(s, s.ways[way]) for s, way in self._scenarios}

    def _judge(self, name: str, seats: Mapping[str, Seat]) -> Verdict:
        actor = ACTORS[name]
        root = name.encode()
        below = {key: Seat(seat.agent, seat.root + b"/" + root) for key, seat in seats.items()}
        seats["helper"].agent.call("mkdir", below["helper"].root, 0o755)
        stage = Stage(below["guest"], below[actor.by], below["helper"], actor.paced)
        verdict = Verdict(name)
        excused: dict[str, list[str]] = {}
        for scenario, way in self._scenarios:
            if way == FANOTIFY and not actor.is_exact():
                continue
            local = self._truth[scenario.id, way]
            try:
                seen = stage.run(scenario, scenario.ways[way])
            except ScenarioError as error:
                verdict.faults.setdefault(scenario.id, []).append(f"{way}: {error}")
                continue
            used = rules.explain(name, scenario, way, local, seen)
            if used is None:
                verdict.faults.setdefault(scenario.id, []).extend(_difference(way, local, seen))
            elif used:
                excused.setdefault(scenario.id, []).extend(used)
        ids = dict.fromkeys(scenario.id for scenario, _ in self._scenarios)
        verdict.by_rule = {i: sorted(set(excused[i])) for i in excused if i not in verdict.faults}
        verdict.identical = [i for i in ids if i not in verdict.faults and i not in excused]
        return verdict


def _ways(scenario: Scenario, number: int, quick: bool) -> list[str]:
    first, *others = scenario.ways
    return [first, *(others[number % len(others) :][:1] if quick and others else others)]


def _difference(way: str, local: Observation, seen: Observation) -> Iterator[str]:
    for index, (ours, theirs) in enumerate(zip(local, seen, strict=True)):
        if ours != theirs:
            yield f"{way}, observer {index}:"
            yield f"  local: {', '.join(ours) or 'nothing'}"
            yield f"  here:  {', '.join(theirs) or 'nothing'}"


def report(verdict: Verdict, out: TextIO) -> None:
    """Prints a verdict, faults last."""
    print(verdict.summary(), file=out)
    for scenario, lines in verdict.faults.items():
        print(f"  {scenario}", file=out)
        for line in lines:
            print(f"    {line}", file=out)
    out.flush()
