# SPDX-License-Identifier: BSD-3-Clause
"""POSIX cases: what ``qemu-tests/posix/*.cases`` says, what a file system answered, what differs.

The language::

    let TYPES = regular | fifo               a name for rows, for all files
    case unlink-{type}-{name}                a case, whose name says what varies
    for type = TYPES                         once for each row, ...
    for name, mode = plain, 0644 | bad, 0    ... times each row of this one
    make {type} a {mode}                     a step, which must succeed
    as 1001:2001 unlink a -> EACCES          one that must answer so; "*": as it likes

A case begins in a new empty directory of mode 0777, as root and with umask 0. A value may hold
names of others. ``guest/posix*.c`` run the steps and describe them.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).resolve().parents[1] / "posix"

# NAME_MAX is 255; PATH_MAX is 4096 with the final NUL.
CONSTANTS: Final[Mapping[str, str]] = {
    "n255": "n" * 255,
    "n256": "n" * 256,
    "p4095": "./" * 2047 + "x",
    "p4096": "./" * 2047 + "xx",
    "t4095": "t" * 4095,
    "t4096": "t" * 4096,
}

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One line: what to do, and what that must answer."""

    call: str
    expected: str
    line: int

    def __str__(self) -> str:
        """The line, short of names that fill a screen."""
        call = re.sub(r"(\S{20})\S{60,}", r"\1...", self.call)
        return f"line {self.line}: {call} -> {self.expected}"


@dataclass(frozen=True, slots=True)
class Case:
    """Steps that share a directory."""

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first step of a case that answered something else."""

    case: str
    step: Step
    got: str

    def __str__(self) -> str:
        return f"{self.case}: {self.step}, got {self.got}"


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Difference:
    """An entry of ``differences.toml``: what a file system is known to answer instead.

    Attributes:
        cases: patterns of case names; all these cases differ.
        step: a pattern of the first step that does.
        got: a pattern of what it answers.
    """

    cases: tuple[str, ...]
    step: str
    got: str

    def covers(self, mismatch: Mismatch) -> bool:
        """Whether this is how that case differs."""
        return _matches(mismatch.step.call, [self.step]) and _matches(mismatch.got, [self.got])


def _rows(text: str, lets: Mapping[str, list[Row]]) -> list[Row]:
    """Read rows, or the names of rows."""
    found: list[Row] = []
    for row in text.split(" | "):
        word = row.strip()
        found += lets.get(word) or [tuple(column.strip() for column in word.split(", "))]
    return found


def _filled(text: str, values: Mapping[str, str]) -> str:
    while "{" in text:
        text = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], text)
    return text


def _expanded(
    prefix: str, name: str, loops: Sequence[tuple[Row, list[Row]]], steps: Sequence[Step]
) -> Iterator[Case]:
    for rows in itertools.product(*(rows for _, rows in loops)):
        values = dict(CONSTANTS)
        for (names, _), row in zip(loops, rows, strict=True):
            values.update(zip(names, row, strict=True))
        yield Case(
            f"{prefix}/{_filled(name, values)}",
            tuple(
                Step(_filled(step.call, values), _filled(step.expected, values), step.line)
                for step in steps
            ),
        )


def _parse(path: Path, lets: dict[str, list[Row]]) -> Iterator[Case]:
    name = ""
    loops: list[tuple[Row, list[Row]]] = []
    steps: list[Step] = []
    text = path.read_text(encoding="ascii").replace("\\\n", " ")
    for number, raw in enumerate([*text.splitlines(), "case"], 1):
        line = " ".join(raw.split("#")[0].split())
        head, _, rest = line.partition(" ")
        if head == "case":
            if name:
                yield from _expanded(path.stem, name, loops, steps)
            name, loops, steps = rest, [], []
        elif head in ("let", "for"):
            names, _, rows = rest.partition(" = ")
            if head == "let":
                lets[names] = _rows(rows, lets)
            else:
                loops.append((tuple(names.split(", ")), _rows(rows, lets)))
        elif line:
            call, _, expected = line.partition(" -> ")
            steps.append(Step(call, expected or "0", number))


def load() -> list[Case]:
    """All cases, in the order of files and lines."""
    lets: dict[str, list[Row]] = {}
    first = HOME / "common.cases"
    rest = sorted(path for path in HOME.glob("*.cases") if path != first)
    cases = [case for path in (first, *rest) for case in _parse(path, lets)]
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    assert not twice, twice
    return cases


def differences(run: str) -> list[Difference]:
    """The differences that the run of this name must show."""
    with (HOME / "differences.toml").open("rb") as file:
        entries = tomllib.load(file)["difference"]
    return [
        Difference(tuple(entry["cases"]), entry["step"], entry["got"])
        for entry in entries
        if _matches(run, entry["where"]) and entry["reason"]
    ]


def complaints(
    cases: Iterable[Case], mismatches: Iterable[Mismatch], known: Sequence[Difference]
) -> list[str]:
    """What is wrong: mismatches that are not known, and known ones that are not there."""
    found = {mismatch.case: mismatch for mismatch in mismatches}
    wrong = []
    for case in cases:
        mismatch = found.get(case.name)
        expected = [difference for difference in known if _matches(case.name, difference.cases)]
        if mismatch and not any(difference.covers(mismatch) for difference in expected):
            wrong.append(str(mismatch))
        elif expected and not mismatch:
            wrong.append(f"{case.name}: as it must be, but differences.toml has {expected[0]}")
    return wrong
