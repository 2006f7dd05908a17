# SPDX-License-Identifier: BSD-3-Clause
"""The plot: processor time of each request, as bars from the system calls' own up."""

from __future__ import annotations

from html import escape
from typing import Final

from bench.goals import GOAL_CELLS
from virtiofsd_py.bench.compare import BARE, Results, median
from virtiofsd_py.bench.loads import LOADS, Load
from virtiofsd_py.bench.report import number

_WIDTH: Final = 800
_LEFT: Final = 290
_RIGHT: Final = 90
_BAR: Final = 11
_GAP: Final = 13
_TOP: Final = 64
_COLOURS: Final = ("#2166ac", "#b2b2b2", "#d6a25b", "#8c6bb1", "#92c5de")
_BARE_COLOUR: Final = "#333333"


def cpu_chart(results: Results) -> str:
    """Draw an SVG image of the requests that goals are about, each at the depth of its goal.

    Every group has a scale of its own, for a request costs anything from one to hundreds of
    microseconds; the longest bar is as long as the image has room.
    """
    groups = [
        (load, cell.depth, results.samples[cell])
        for load in LOADS
        for cell in GOAL_CELLS
        if cell.load == load.key and cell.awake and results.samples.get(cell)
    ]
    y = _TOP
    body: list[str] = []
    for load, depth, sides in groups:
        values = {
            name: median([sample.cpu_us for sample in sides[name]])
            for name in results.subjects
            if sides.get(name)
        }
        bare = median([sample.cpu_us for sample in results.bare.get(load.key, [])])
        body += _group(load, depth, y, results.subjects, values, bare)
        y += len(results.subjects) * _BAR + _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" '
        f'height="{y}" font-family="sans-serif" font-size="11">'
        f'<rect width="{_WIDTH}" height="{y}" fill="white"/>'
    )
    return "\n".join([head, *_legend(results), *body, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _legend(results: Results) -> list[str]:
    lines = [_text(12, 20, "Processor time of the daemon for each request", 'font-size="14"')]
    x = 12.0
    for index, name in enumerate((*results.subjects, BARE)):
        colour = _BARE_COLOUR if name == BARE else _COLOURS[index % len(_COLOURS)]
        label = "system calls alone" if name == BARE else name
        width = 2 if name == BARE else 10
        lines.append(f'<rect x="{x}" y="34" width="{width}" height="10" fill="{colour}"/>')
        lines.append(_text(x + 14, 43, label))
        x += 28 + 6.5 * len(label)
    return lines


def _group(
    load: Load,
    depth: int,
    y: float,
    subjects: list[str],
    values: dict[str, float],
    bare: float,
) -> list[str]:
    most = max([*values.values(), bare if bare == bare else 0.0])
    scale = (_WIDTH - _LEFT - _RIGHT) / most if most else 0.0
    middle = y + len(subjects) * _BAR / 2 + 4
    unit = "" if load.unit == "op" else f", each {load.unit}"
    lines = [_text(12, middle, f"{load.title}, QD {depth}{unit}")]
    for index, name in enumerate(subjects):
        top = y + index * _BAR
        if name not in values:
            lines.append(_text(_LEFT + 4, top + _BAR - 2, "failed", 'fill="#888888"'))
            continue
        width = values[name] * scale
        lines.append(
            f'<rect x="{_LEFT}" y="{top:.1f}" width="{width:.1f}" height="{_BAR - 2}" '
            f'fill="{_COLOURS[index % len(_COLOURS)]}"/>'
        )
        lines.append(_text(_LEFT + width + 4, top + _BAR - 2, f"{number(values[name])} µs"))
    if bare == bare:
        x = _LEFT + bare * scale
        lines.append(
            f'<rect x="{x:.1f}" y="{y - 2:.1f}" width="2" '
            f'height="{len(subjects) * _BAR + 2}" fill="{_BARE_COLOUR}"/>'
        )
    return lines
