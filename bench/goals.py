# SPDX-License-Identifier: BSD-3-Clause
"""What our daemon is to reach beside others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from virtiofsd_py.bench.compare import (
    Cell,
    Ratio,
    Results,
    Value,
    cpu,
    inode_bytes,
    median,
    p50,
    rate,
    ratio,
)
from virtiofsd_py.bench.loads import Load
from virtiofsd_py.bench.report import table

IDLE_BYTES_MAX: Final = 25 * 10**6
READY_MS_MAX: Final = 200.0
LATENCY_MAX: Final = 0.5
SLEEPING_LATENCY_MAX: Final = 1.0
"""Of the better peer's p50; the latter for a daemon that does not poll before it sleeps."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal and how it went.

    Attributes:
        what: the goal.
        wanted: in words.
        found: in words.
        met: whether it was reached; None: it was not measured.
        alone: what the system calls alone would have got, a daemon that adds nothing to them; None:
            that is not asked.
    """

    what: str
    wanted: str
    found: str
    met: bool | None
    alone: float | None = None


# Key of the load, its name here, depth, rate at least, processor time at most. The front-end is
# awake: the daemon is to be what limits the rate, and what it takes to wake the other side is no
# daemon's work.
_GOALS: Final = (
    ("getattr", "GETATTR", 32, 1.7, 0.5),
    ("lookup", "LOOKUP, hot", 32, 2.5, 0.4),
    ("read-4k", "READ 4 KiB random", 32, 1.7, 0.55),
    ("write-4k", "WRITE 4 KiB random", 32, 2.5, 0.45),
    ("read-1m", "READ 1 MiB", 4, 1.2, 0.85),
    ("write-1m", "WRITE 1 MiB", 4, 1.2, 0.85),
    ("readdirplus-1k", "READDIRPLUS, 1 000 entries", 1, 3.0, 0.35),
    ("readdirplus-100k", "READDIRPLUS, 100 000 entries", 1, 3.0, 0.35),
    ("create", "CREATE…UNLINK…FORGET", 1, 1.2, 0.7),
)
_LATENCY_CELL: Final = Cell("getattr", 1)
GOAL_CELLS: Final = (
    _LATENCY_CELL,
    *(Cell(key, depth, awake=True) for key, _, depth, _, _ in _GOALS),
)


def cells(load: Load) -> list[Cell]:
    """Return the rows of `load` that a goal is about."""
    return [cell for cell in GOAL_CELLS if cell.load == load.key]


def judge(results: Results) -> list[Verdict]:
    """Return all goals with what came of them."""
    verdicts = []
    for key, title, depth, rate_min, cpu_max in _GOALS:
        cell = Cell(key, depth, awake=True)
        where = f"{title}, QD {depth}"
        verdicts += [
            replace(
                _verdict(f"{where}: {what}", ratio(results, cell, value), bound, above=above),
                alone=alone(results, cell, value),
            )
            for what, value, bound, above in (
                ("rate", rate, rate_min, True),
                ("CPU", cpu, cpu_max, False),
            )
        ]
    latency = ratio(results, _LATENCY_CELL, p50)
    verdicts.append(_verdict("GETATTR, QD 1: p50", latency, LATENCY_MAX, above=False))
    if results.sleeping:
        latency = ratio(results, _LATENCY_CELL, p50, results.sleeping)
        what = "GETATTR, QD 1: p50, without polling"
        verdicts.append(_verdict(what, latency, SLEEPING_LATENCY_MAX, above=False))
    return verdicts + _judge_footprints(results)


def alone(results: Results, cell: Cell, value: Value) -> float | None:
    """Compare the system calls alone with the best of the peers, as `ratio` does a daemon."""
    found = ratio(results, cell, value)
    bare = results.bare.get(cell.load, [])
    if found is None or not bare:
        return None
    peer = results.samples[cell][found.peer]
    return median([value(turn) for turn in bare]) / median([value(turn) for turn in peer])


def _verdict(what: str, found: Ratio | None, bound: float, *, above: bool) -> Verdict:
    wanted = f"{'≥' if above else '≤'} {bound:g} of the better peer"
    if found is None:
        return Verdict(what, wanted, "not measured", None)
    met = found.value >= bound if above else found.value <= bound
    return Verdict(what, wanted, f"{found} of {found.peer}", met)


def _judge_footprints(results: Results) -> list[Verdict]:
    ours = results.footprints.get(results.subjects[0], [])
    if not ours:
        return []
    idle = median([f.idle_bytes for f in ours])
    ready = median([f.ready_ms for f in ours])
    verdicts = [
        Verdict(
            "resident when idle",
            f"≤ {IDLE_BYTES_MAX / 1e6:g} MB",
            f"{idle / 1e6:.1f} MB",
            idle <= IDLE_BYTES_MAX,
        ),
        Verdict("ready", f"≤ {READY_MS_MAX:g} ms", f"{ready:.0f} ms", ready <= READY_MS_MAX),
    ]
    peers = {
        name: each
        for name in results.subjects[1:]
        if name != results.sleeping
        and (each := inode_bytes(results.footprints.get(name, []))) is not None
    }
    own = inode_bytes(ours)
    if own is not None:
        best = min(peers, key=lambda name: peers[name], default=None)
        verdicts.append(
            Verdict(
                "memory for an inode",
                "≤ the better peer's",
                f"{own:.0f} B" + (f", {best} {peers[best]:.0f} B" if best else ""),
                own <= peers[best] if best else None,
            )
        )
    return verdicts


def verdicts(found: Sequence[Verdict]) -> str:
    """Return them as a table."""
    words = {True: "met", False: "**missed**", None: "-"}
    rows = [
        [
            *(v.what, v.wanted, v.found, words[v.met]),
            f"{v.alone:.2f}" if v.alone is not None else "-",
        ]
        for v in found
    ]
    return table(["goal", "wanted", "found", "", "system calls alone"], rows)
