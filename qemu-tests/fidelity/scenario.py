# SPDX-License-Identifier: BSD-3-Clause
"""Scenarios as data: ``scenarios.txt``, and the ways in which each is watched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Final

from runguest.events import Mask

FILE: Final = Path(__file__).with_name("scenarios.txt")

NARROW: Final[Mapping[str, Mask]] = {
    "names": Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO,
    "contents": Mask.MODIFY | Mask.CLOSE_WRITE,
    "selves": Mask.ATTRIB | Mask.DELETE_SELF | Mask.MOVE_SELF,
    "visits": Mask.OPEN | Mask.ACCESS | Mask.CLOSE_NOWRITE,
}
"""Partial masks that each scenario is also watched with."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One watch.

    Attributes:
        name: what is watched, below the scenario's directory.
        mask: events and flags, as for ``inotify_add_watch()``.
        fanotify: by a mark, of a group that reports names; with those events of ``mask``.
    """

    name: str
    mask: Mask = Mask.ALL
    fanotify: bool = False


Observers = Sequence[Sequence[Watch]]
"""The watches of each inotify instance or fanotify group."""

FANOTIFY: Final = "fanotify"
"""The way with such a group."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the script, and what the observer does after it.

    Attributes:
        script: for ``guest/script.h``; may be empty.
        watch: name that every instance then begins to watch, or None.
        unwatch: name that every instance then ceases to watch, or None.
    """

    script: str
    watch: str | None = None
    unwatch: str | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the file; see there.

    Attributes:
        id: its name.
        given: script that makes what exists.
        before: script of the actor before anybody watches.
        phases: what the actor does, in parts if the observer does something in between.
        watched: what is watched.
        ways: how, by name.
    """

    id: str
    given: str
    before: str
    phases: Sequence[Phase]
    watched: Sequence[str]
    ways: Mapping[str, Observers]

    @property
    def parallel(self) -> bool:
        """Parts of it run at the same time, so that their order is nobody's promise."""
        return any("|" in phase.script for phase in self.phases)


def parse(text: str) -> list[Scenario]:
    """Reads the format of ``scenarios.txt``.

    Raises:
        ValueError: a line is wrong; says which.
    """
    scenarios: dict[str, Scenario] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        columns = [column.strip() for column in line.split("::")]
        if len(columns) != 4 or not columns[0] or columns[0] in scenarios:
            raise ValueError(f"line {number}: not a new NAME :: GIVEN :: SCRIPT :: WATCHED")
        name, given, script, watched = columns
        before, arrow, act = script.partition(">>")
        if not arrow:
            before, act = "", script
        try:
            watches = [_watch(word) for word in watched.split()]
        except KeyError as error:
            raise ValueError(f"line {number}: no such mask: {error}") from error
        names = list(dict.fromkeys(watch.name for watch in watches))
        ways = {"as written": [watches]} if ":" in watched else _ways(names)
        # Events of several processes are not merged locally; to a guest the host's are all one's.
        if ":" not in watched and "(" not in act and "@unwatch" not in act:
            ways[FANOTIFY] = [[Watch(name, fanotify=True) for name in names]]
        scenarios[name] = Scenario(name, given, before.strip(), _phases(act), names, ways)
    return list(scenarios.values())


def load() -> list[Scenario]:
    """The scenarios of ``FILE``."""
    return parse(FILE.read_text())


def _watch(word: str) -> Watch:
    name, colon, mask = word.partition(":")
    return Watch(name, reduce(or_, (Mask[bit] for bit in mask.split(","))) if colon else Mask.ALL)


def _phases(script: str) -> list[Phase]:
    phases = []
    # Odd parts are the observer's verbs, each followed by a name.
    parts = re.split(r"@(watch|unwatch) +(\S+?) *(?:;|$)", script)
    for before, verb, name in zip(parts[0::3], parts[1::3], parts[2::3], strict=False):
        phases.append(Phase(before.strip(" ;"), **{verb: name}))
    return [*phases, Phase(parts[-1].strip(" ;"))]


def _ways(names: Sequence[str]) -> dict[str, Observers]:
    """All of them in one instance and each in one of its own, at the same time; then fewer."""
    everything = [Watch(name) for name in names]
    ways: dict[str, Observers] = {"together": [everything, *([watch] for watch in everything)]}
    if len(names) > 1:
        ways |= {f"only {watch.name}": [[watch]] for watch in everything}
    for title, mask in NARROW.items():
        ways[title] = [[Watch(name, mask) for name in names]]
    return ways
