# SPDX-License-Identifier: BSD-3-Clause
"""User and group ids: ranges of a user namespace, and translation between guest and host.

Two notations, both of the Rust virtiofsd:

``--uid-map=:INSIDE:OUTSIDE:COUNT:``
    One range of the sandbox's user namespace. Any character that is no letter or digit may stand
    for the colons.

``--translate-uid=KIND:…``
    How ids of requests and replies change on their way, by `Kind`. An id that no range holds
    passes unchanged. Ranges that start from the same side must not overlap.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NoReturn

from virtiofsd_py._declared import IdEffect as Effect
from virtiofsd_py.errors import ConfigError

__all__ = [
    "IDS",
    "Effect",
    "Kind",
    "NamespaceRange",
    "Range",
    "Table",
    "Translation",
    "check_namespace",
    "compile_table",
    "parse_namespace_range",
    "parse_translation",
]

IDS: Final = 1 << 32
"""How many ids there are; the last one means "none" to the kernel."""


class Kind(enum.StrEnum):
    """What a translation does; the first number after it is where its range starts.

    ``guest:GUEST:HOST:COUNT`` and ``host:HOST:GUEST:COUNT`` translate one way, one to one;
    ``squash-guest:GUEST:HOST:COUNT`` and ``squash-host:HOST:GUEST:COUNT`` turn a whole range into
    one id; ``map:GUEST:HOST:COUNT`` translates both ways; ``forbid-guest:GUEST:COUNT`` lets no
    request with such an id through.
    """

    GUEST = "guest"
    HOST = "host"
    SQUASH_GUEST = "squash-guest"
    SQUASH_HOST = "squash-host"
    MAP = "map"
    FORBID_GUEST = "forbid-guest"


@dataclass(frozen=True, slots=True)
class NamespaceRange:
    """`count` ids from `inside` the namespace are those from `outside` of it."""

    inside: int
    outside: int
    count: int

    def __str__(self) -> str:
        """Return the notation, with colons."""
        return f":{self.inside}:{self.outside}:{self.count}:"


@dataclass(frozen=True, slots=True)
class Translation:
    """One ``--translate-uid`` or ``--translate-gid``; `to` is 0 for FORBID_GUEST."""

    kind: Kind
    first: int
    to: int
    count: int

    def __str__(self) -> str:
        """Return the notation, with colons."""
        numbers = [self.first, self.to, self.count]
        if self.kind is Kind.FORBID_GUEST:
            numbers.remove(self.to)
        return ":".join([self.kind, *map(str, numbers)])


@dataclass(frozen=True, slots=True)
class Range:
    """`count` ids from `first` on; they become `to`, or start there."""

    first: int
    count: int
    to: int
    effect: Effect

    def translate(self, number: int) -> int | None:
        """Return what `number`, one of this range, becomes; None: it is forbidden."""
        if self.effect is Effect.FORBID:
            return None
        return self.to + (number - self.first if self.effect is Effect.SHIFT else 0)


@dataclass(frozen=True, slots=True)
class Table:
    """Both directions; ranges in each in ascending order, without overlaps."""

    to_host: tuple[Range, ...] = ()
    to_guest: tuple[Range, ...] = ()


def parse_namespace_range(text: str) -> NamespaceRange:
    """Read the value of ``--uid-map`` or ``--gid-map``.

    Raises:
        ConfigError: not a range of ids; says at which character, from 1.
    """
    if not text:
        _refuse("is empty")
    separator = text[0]
    if separator.isalnum():
        _refuse("has no separator in front, as in :0:100000:65536:", at=1)
    if len(text) < 2 or text[-1] != separator:
        _refuse(f"lacks {separator!r} at its end", at=len(text) + 1)
    inside, outside, count = _numbers(text[1:-1], separator, start=2, wanted=3)
    _check_span(inside, count)
    _check_span(outside, count)
    return NamespaceRange(inside, outside, count)


def parse_translation(text: str) -> Translation:
    """Read the value of ``--translate-uid`` or ``--translate-gid``.

    Raises:
        ConfigError: not a translation; says at which character, from 1.
    """
    end = next(
        (i for i, c in enumerate(text) if not (c.isalnum() or c in "-_")),
        len(text),
    )
    try:
        kind = Kind(text[:end].lower())
    except ValueError:
        _refuse(f"starts with none of {', '.join(Kind)}", at=1)
    if end == len(text):
        _refuse("ends after its kind", at=end + 1)
    wanted = 2 if kind is Kind.FORBID_GUEST else 3
    first, *to, count = _numbers(text[end + 1 :], text[end], start=end + 2, wanted=wanted)
    target = to[0] if to else 0
    _check_span(first, count)
    if kind in (Kind.GUEST, Kind.HOST, Kind.MAP):
        _check_span(target, count)
    return Translation(kind, first, target, count)


def check_namespace(ranges: Sequence[NamespaceRange]) -> None:
    """Make sure that no id, inside or outside, is in two ranges.

    Raises:
        ConfigError: one is; names both ranges.
    """
    _check_overlap([(r.inside, r.count, r) for r in ranges])
    _check_overlap([(r.outside, r.count, r) for r in ranges])


def compile_table(translations: Sequence[Translation]) -> Table:
    """Sort translations into the table that requests and replies go through.

    Raises:
        ConfigError: two ranges overlap that start from the same side; names both.
    """
    to_host: list[tuple[Range, Translation]] = []
    to_guest: list[tuple[Range, Translation]] = []
    for t in translations:
        shift = Range(t.first, t.count, t.to, Effect.SHIFT)
        if t.kind in (Kind.GUEST, Kind.MAP):
            to_host.append((shift, t))
        if t.kind is Kind.HOST:
            to_guest.append((shift, t))
        if t.kind is Kind.MAP:
            to_guest.append((Range(t.to, t.count, t.first, Effect.SHIFT), t))
        if t.kind is Kind.SQUASH_GUEST:
            to_host.append((Range(t.first, t.count, t.to, Effect.SQUASH), t))
        if t.kind is Kind.SQUASH_HOST:
            to_guest.append((Range(t.first, t.count, t.to, Effect.SQUASH), t))
        if t.kind is Kind.FORBID_GUEST:
            to_host.append((Range(t.first, t.count, 0, Effect.FORBID), t))
    for ranges in (to_host, to_guest):
        _check_overlap([(r.first, r.count, t) for r, t in ranges])
        ranges.sort(key=lambda pair: pair[0].first)
    return Table(tuple(r for r, _ in to_host), tuple(r for r, _ in to_guest))


def _refuse(reason: str, at: int | None = None) -> NoReturn:
    raise ConfigError(reason if at is None else f"{reason} (character {at})")


def _numbers(text: str, separator: str, *, start: int, wanted: int) -> list[int]:
    """Split into `wanted` numbers; `start` is the position of the first character, from 1."""
    fields = text.split(separator)
    if len(fields) != wanted:
        _refuse(f"has {len(fields)} numbers instead of {wanted}")
    numbers = []
    at = start
    for field in fields:
        if not (len(field) <= 10 and field.isascii() and field.isdigit() and int(field) < IDS):
            _refuse(f"has {field!r} in place of a number from 0 to {IDS - 1}", at=at)
        numbers.append(int(field))
        at += len(field) + len(separator)
    return numbers


def _check_span(first: int, count: int) -> None:
    if count == 0:
        _refuse("has a count of 0")
    if first + count > IDS:
        _refuse(f"goes past the last id: {first} and {count} make more than {IDS}")


def _check_overlap(spans: Iterable[tuple[int, int, object]]) -> None:
    ordered = sorted(spans, key=lambda span: span[:2])
    for (first, count, one), (second, _, other) in pairwise(ordered):
        if second < first + count:
            raise ConfigError(f"{one} and {other} overlap at id {second}")
