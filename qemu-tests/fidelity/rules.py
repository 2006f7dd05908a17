# SPDX-License-Identifier: BSD-3-Clause
"""What may differ from a local file system, for whom, and why. Everything else is a fault.

Each rule has its tests in ``cases/test_fidelity_rules.py``: what it excuses, and what it must not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .runner import Observation, Sighting
from .scenario import Scenario

Excuse = Callable[[Sighting, Sighting], bool]
"""Is (what is seen on a local file system, what was seen) a pair that the rule explains?"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason for a difference.

    Attributes:
        name: short.
        why: what cannot be known or promised, and what is promised all the same.
        actors: whose changes it is about; ``actors.py`` names them.
        parallel: it is only about scenarios with branches, else about all.
        excuses: tells.
    """

    name: str
    why: str
    actors: frozenset[str]
    parallel: bool
    excuses: Excuse

    def applies(self, actor: str, scenario: Scenario) -> bool:
        """Is the rule about this?"""
        return actor in self.actors and (scenario.parallel or not self.parallel)


def watch_of(event: str) -> str:
    """Which watch an event belongs to."""
    return event.split(" ")[0]


def kind_of(event: str) -> str:
    """Its bits, as in ``CREATE|ISDIR``."""
    return event.split(" ")[1]


def name_of(event: str) -> str:
    """The name it carries, or nothing."""
    words = event.split(" ")
    return words[2] if len(words) > 2 else ""


def projections(sighting: Sighting, key: Callable[[str], object]) -> dict[object, list[str]]:
    """The events of each key in their order."""
    parts: dict[object, list[str]] = {}
    for event in sighting:
        parts.setdefault(key(event), []).append(event)
    return parts


def squeeze(events: Sequence[str]) -> list[str]:
    """Without events that repeat the one before, which an unread queue merges."""
    return [event for event, _ in itertools.groupby(events)]


def uncookied(event: str) -> str:
    """Cookies count up in order of appearance, which says nothing once events are taken apart."""
    return " ".join(event.split(" ")[:3])


# -- the order of what happens at the same time --------------------------------------------------


def same_but_for_order_of_branches(local: Sighting, seen: Sighting) -> bool:
    """Each name's own events are the same, in the same order."""

    def parts(sighting: Sighting) -> dict[object, list[str]]:
        return {
            key: squeeze([uncookied(event) for event in events])
            for key, events in projections(sighting, lambda e: (watch_of(e), name_of(e))).items()
        }

    return parts(local) == parts(seen)


# -- what the host's queue merges ----------------------------------------------------------------

_CANONICAL: Final = (
    *("CREATE", "MOVED_FROM", "MOVED_TO", "MOVE_SELF", "OPEN", "ACCESS", "MODIFY", "ATTRIB"),
    *("CLOSE_WRITE", "CLOSE_NOWRITE", "DELETE_SELF", "DELETE", "IGNORED"),
)
_NAMES: Final = ("CREATE", "DELETE")
_RENAMES: Final = ("MOVED_FROM", "MOVED_TO")


def _merged(window: Sequence[str]) -> list[list[str]]:
    """How the unread events ``window`` of one watch may come out: one object's bits together."""
    groups: dict[tuple[str, str, bool], list[str]] = {}
    for event in map(uncookied, window):
        bit = _bit(event)
        sort = bit if bit in _RENAMES else "name" if bit in _NAMES else "object"
        group = groups.setdefault((name_of(event), sort, "|ISDIR" in event), [])
        if event not in group:
            group.append(event)
    canonical = [
        sorted(group, key=lambda e: _CANONICAL.index(_bit(e))) for group in groups.values()
    ]
    # Of a name that came and went, its presence now tells which was last.
    orders = [
        [group, group[::-1]] if [_bit(e) for e in group] == list(_NAMES) else [group]
        for group in canonical
    ]
    return [[e for group in choice for e in group] for choice in itertools.product(*orders)]


def _bit(event: str) -> str:
    return kind_of(event).removesuffix("|ISDIR")


def comes_of_merging(local: Sequence[str], seen: Sequence[str]) -> bool:
    """Can the host's queue have made ``seen`` of ``local``, the events of one watch?

    It can if ``local`` can be cut into what the daemon read at a time, so that in each piece each
    object's events come once each, in the order of ``vfsd_source_next_bit()``.
    """
    want = squeeze([uncookied(event) for event in seen])
    reached = {0: {0}}  # how much of local: how much of want
    for start in range(len(local)):
        for at in reached.get(start, set()):
            for end in range(start + 1, len(local) + 1):
                for piece in _merged(local[start:end]):
                    after = _follow(want, at, piece)
                    if after is not None:
                        reached.setdefault(end, set()).add(after)
    return len(want) in reached.get(len(local), set())


def _follow(want: Sequence[str], at: int, piece: Sequence[str]) -> int | None:
    for event in piece:
        if at > 0 and want[at - 1] == event:
            continue
        if at == len(want) or want[at] != event:
            return None
        at += 1
    return at


def merged_by_the_host(local: Sighting, seen: Sighting) -> bool:
    """Each watch's events come of merging."""
    ours, theirs = projections(local, watch_of), projections(seen, watch_of)
    return ours.keys() == theirs.keys() and all(
        comes_of_merging(ours[watch], theirs[watch]) for watch in ours
    )


def merged_in_branches(local: Sighting, seen: Sighting) -> bool:
    """Each name's events come of merging."""

    def key(event: str) -> object:
        return watch_of(event), name_of(event)

    ours, theirs = projections(local, key), projections(seen, key)
    return ours.keys() == theirs.keys() and all(
        comes_of_merging(ours[part], theirs[part]) for part in ours
    )


_MERGED: Final = frozenset({"guest", "host", "host-burst", "guest2", "guest2-burst"})
_SERVER: Final = frozenset({"server-guest", "server-host", "server-guest2"})

RULES: Final[Sequence[Rule]] = [
    Rule(
        "branches",
        "What happens at the same time has no order between its parts, on a local file system "
        "neither. Each name's own events are there, in their order.",
        _MERGED | _SERVER,
        True,
        same_but_for_order_of_branches,
    ),
    Rule(
        "host-merge",
        "fanotify, which alone tells a host's doing from ours, merges unread events of one object "
        "and process, be others between them or not; the daemon reads at once, but a burst is "
        "faster. Each bit of the burst is there once, the bits of one object in a fixed order. "
        "With a pause after each system call nothing is merged, so this is for bursts alone.",
        frozenset({"host-burst", "guest2-burst"}),
        False,
        merged_by_the_host,
    ),
    Rule(
        "host-merge-in-branches",
        "Both of the above: branches are never paced.",
        frozenset({"host", "host-burst", "guest2", "guest2-burst"}),
        True,
        merged_in_branches,
    ),
]


def explain(
    actor: str, scenario: Scenario, local: Observation, seen: Observation
) -> list[Rule] | None:
    """The rules that explain how ``seen`` differs; empty if it does not, None if nothing does."""
    if len(local) != len(seen):
        return None
    used: list[Rule] = []
    for ours, theirs in zip(local, seen, strict=True):
        if ours == theirs:
            continue
        rules = (rule for rule in RULES if rule.applies(actor, scenario))
        rule = next((rule for rule in rules if rule.excuses(ours, theirs)), None)
        if rule is None:
            return None
        if rule not in used:
            used.append(rule)
    return used
