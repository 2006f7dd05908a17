# SPDX-License-Identifier: BSD-3-Clause
"""Tables, in Markdown that can be read as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from virtiofsd_py.bench.compare import (
    Cell,
    Results,
    Sample,
    Value,
    cpu,
    inode_bytes,
    median,
    p50,
    rate,
    ratio,
)
from virtiofsd_py.bench.loads import LOADS, Load

_LOADS: Final = {load.key: load for load in LOADS}
_NOTHING: Final = "-"
_WHERE: Final = ("QD", "front-end")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others are numbers."""
    widths = [max(len(line[i]) for line in (heads, *rows)) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if not i else ":") for i, w in enumerate(widths))
    return "\n".join([line(heads), rule + "|", *map(line, rows)]) + "\n"


def number(value: float) -> str:
    """Return three digits of a number."""
    if value != value:
        return _NOTHING
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    if value >= 1e4:
        return f"{value / 1e3:.3g} k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _side(results: Results, name: str, samples: Sequence[Sample], value: Value, load: Load) -> str:
    if load.title in results.failures.get(name, {}):
        return "failed"
    return number(median([value(sample) for sample in samples]))


def _rows(
    results: Results, value: Value, more: Callable[[Load, Cell], Sequence[str]]
) -> list[list[str]]:
    rows = []
    for cell, sides in results.samples.items():
        load = _LOADS[cell.load]
        values = [
            _side(results, name, sides.get(name, []), value, load) for name in results.subjects
        ]
        rows.append([f"{load.title} ({load.unit})", *_where(cell), *values, *more(load, cell)])
    return rows


def _where(cell: Cell) -> list[str]:
    return [str(cell.depth), "awake" if cell.awake else "sleeps"]


def _ratio(results: Results, cell: Cell, value: Value) -> str:
    found = ratio(results, cell, value)
    return str(found) if found else _NOTHING


def rates(results: Results) -> str:
    """Units a second, and how busy our own side was."""

    def more(_load: Load, cell: Cell) -> list[str]:
        ours = results.samples[cell].get(results.subjects[0], [])
        busy = median([sample.front_end for sample in ours])
        return [
            _ratio(results, cell, rate),
            f"{busy:.0%}" if busy == busy else _NOTHING,
        ]

    heads = ["per second", *_WHERE, *results.subjects, "to the better peer", "front-end busy"]
    return table(heads, _rows(results, rate, more))


def costs(results: Results) -> str:
    """The daemons' processor time, beside that of plain system calls."""

    def more(load: Load, cell: Cell) -> list[str]:
        samples = results.samples[cell].get(results.subjects[0], [])
        ours = median([sample.cpu_us for sample in samples])
        bare = median([sample.cpu_us for sample in results.bare.get(load.key, [])])
        return [
            _ratio(results, cell, cpu),
            number(bare),
            f"{ours / bare:.1f}" if ours == ours and bare == bare else _NOTHING,
            number(median([sample.batch for sample in samples])),
        ]

    heads = [
        *("µs of CPU each", *_WHERE, *results.subjects),
        *("to the better peer", "system calls alone", "ours to them", "requests a sleep"),
    ]
    return table(heads, _rows(results, cpu, more))


def latencies(results: Results) -> str:
    """p50 and p99."""
    rows = []
    for cell, sides in results.samples.items():
        load, figures = _LOADS[cell.load], []
        for name in results.subjects:
            samples = sides.get(name, [])
            low = _side(results, name, samples, p50, load)
            high = _side(results, name, samples, lambda s: s.p99_us, load)
            figures.append(low if low in ("failed", _NOTHING) else f"{low} / {high}")
        rows.append([load.title, *_where(cell), *figures, _ratio(results, cell, p50)])
    return table(["p50 / p99, µs", *_WHERE, *results.subjects, "p50 to the better peer"], rows)


def footprints(results: Results) -> str:
    """Start and memory."""
    rows = []
    for name in results.subjects:
        each = results.footprints.get(name, [])
        if not each:
            continue
        inode = inode_bytes(each)
        idle_mb = median([f.idle_bytes for f in each]) / 1e6
        rows.append(
            [
                name,
                number(median([f.ready_ms for f in each])),
                f"{idle_mb:.1f}",
                number(inode) if inode is not None else _NOTHING,
                f"{max([f.inodes for f in each], default=0):,}".replace(",", " "),
            ]
        )
    heads = ["", "start to reply to INIT, ms", "idle, MB resident", "bytes for an inode", "of"]
    return table(heads, rows)


def failures(results: Results) -> str:
    """What daemons did wrong, a line each."""
    return "".join(
        f"- {name}: {what}: {why}\n"
        for name, failed in results.failures.items()
        for what, why in failed.items()
    )


def everything(results: Results, more: str = "") -> str:
    """Return all tables there is something for, and `more` behind them."""
    parts = []
    if results.samples:
        parts += [rates(results), costs(results), latencies(results)]
    if results.footprints:
        parts.append(footprints(results))
    if more:
        parts.append(more)
    if results.failures:
        parts.append("Wrong replies:\n\n" + failures(results))
    return "\n".join(parts)
