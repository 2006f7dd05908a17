# SPDX-License-Identifier: BSD-3-Clause
"""Ranges and translations of ids: notation, overlaps, and the table made of them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtiofsd_py.errors import ConfigError
from virtiofsd_py.idmap import (
    IDS,
    Effect,
    Kind,
    NamespaceRange,
    Range,
    Table,
    Translation,
    check_namespace,
    compile_table,
    parse_namespace_range,
    parse_translation,
)

IDS_ST = st.integers(0, IDS - 1)
SMALL = st.integers(0, 20)
SEPARATORS = st.sampled_from(":/,;|.~")


@given(inside=IDS_ST, outside=IDS_ST, count=st.integers(1, IDS), separator=SEPARATORS)
def test_namespace_range(inside: int, outside: int, count: int, separator: str) -> None:
    text = str(NamespaceRange(inside, outside, count)).replace(":", separator)
    if max(inside, outside) + count <= IDS and count < IDS:
        assert parse_namespace_range(text) == NamespaceRange(inside, outside, count)
    else:
        with pytest.raises(ConfigError):
            parse_namespace_range(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("0:1:2:", "has no separator in front, as in :0:100000:65536: (character 1)"),
        (":", "lacks ':' at its end (character 2)"),
        (":0:1:2", "lacks ':' at its end (character 7)"),
        (":0:1:2:3:", "has 4 numbers instead of 3"),
        (":0::2:", "has '' in place of a number from 0 to 4294967295 (character 4)"),
        (":0:1:0:", "has a count of 0"),
        (":0:4294967295:2:", "goes past the last id: 4294967295 and 2 make more than 4294967296"),
        (":0:4294967296:2:", "has '4294967296' in place of a number"),
        (":00000000001:0:2:", "has '00000000001' in place of a number"),
        (":0: 1:2:", "has ' 1' in place of a number from 0 to 4294967295 (character 4)"),
        (":0:\u0661:2:", "in place of a number"),
    ],
)
def test_bad_namespace_range(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_namespace_range(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize("kind", Kind)
@given(first=IDS_ST, to=IDS_ST, separator=SEPARATORS)
def test_translation(kind: Kind, first: int, to: int, separator: str) -> None:
    given_ = Translation(kind, first, 0 if kind is Kind.FORBID_GUEST else to, 1)
    text = str(given_).replace(":", separator)
    assert parse_translation(text) == given_
    assert parse_translation(text.upper()) == given_


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "starts with none of guest, host, squash-guest"),
        ("gust:0:1:2", "starts with none of guest, host, squash-guest"),
        ("guest", "ends after its kind (character 6)"),
        ("guest:", "has 1 numbers instead of 3"),
        ("forbid-guest:1:2:3", "has 3 numbers instead of 2"),
        ("map:1:x:3", "has 'x' in place of a number from 0 to 4294967295 (character 7)"),
        ("map:1:4294967295:3", "goes past the last id"),
        ("host:1:2:0", "has a count of 0"),
    ],
)
def test_bad_translation(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_translation(text)
    assert reason in str(caught.value)


def test_a_squashed_range_may_be_longer_than_what_follows_its_target() -> None:
    (found,) = compile_table([parse_translation("squash-guest:0:1000:4294967295")]).to_host
    assert found == Range(0, IDS - 1, 1000, Effect.SQUASH)
    assert found.translate(77) == 1000


@given(text=st.text(max_size=30))
def test_any_text_is_answered(text: str) -> None:
    for parse in (parse_namespace_range, parse_translation):
        with suppress(ConfigError):
            parse(text)


@given(ranges=st.lists(st.builds(NamespaceRange, SMALL, SMALL, st.integers(1, 4)), max_size=5))
def test_overlap_of_namespace_ranges(ranges: list[NamespaceRange]) -> None:
    inside = [i for r in ranges for i in range(r.inside, r.inside + r.count)]
    outside = [i for r in ranges for i in range(r.outside, r.outside + r.count)]
    unique = len(set(inside)) == len(inside) and len(set(outside)) == len(outside)
    if unique:
        check_namespace(ranges)
    else:
        with pytest.raises(ConfigError, match="overlap at id"):
            check_namespace(ranges)


def naive(translations: list[Translation]) -> tuple[dict[int, list[int | None]], ...]:
    """Return what each id may become, in both directions."""
    to_host: dict[int, list[int | None]] = {}
    to_guest: dict[int, list[int | None]] = {}
    for t in translations:
        for i in range(t.count):
            match t.kind:
                case Kind.GUEST:
                    to_host.setdefault(t.first + i, []).append(t.to + i)
                case Kind.HOST:
                    to_guest.setdefault(t.first + i, []).append(t.to + i)
                case Kind.SQUASH_GUEST:
                    to_host.setdefault(t.first + i, []).append(t.to)
                case Kind.SQUASH_HOST:
                    to_guest.setdefault(t.first + i, []).append(t.to)
                case Kind.MAP:
                    to_host.setdefault(t.first + i, []).append(t.to + i)
                    to_guest.setdefault(t.to + i, []).append(t.first + i)
                case Kind.FORBID_GUEST:
                    to_host.setdefault(t.first + i, []).append(None)
    return to_host, to_guest


TRANSLATIONS = st.builds(Translation, st.sampled_from(Kind), SMALL, SMALL, st.integers(1, 4))


def through(ranges: tuple[Range, ...], number: int) -> int | None:
    for r in ranges:
        if r.first <= number < r.first + r.count:
            return r.translate(number)
    return number


@given(translations=st.lists(TRANSLATIONS, max_size=5))
def test_table_equals_a_naive_one(translations: list[Translation]) -> None:
    expected = naive(translations)
    if any(len(found) > 1 for side in expected for found in side.values()):
        with pytest.raises(ConfigError, match="overlap at id"):
            compile_table(translations)
        return
    table: Table = compile_table(translations)
    for ranges, side in zip((table.to_host, table.to_guest), expected, strict=True):
        assert [r.first for r in ranges] == sorted(r.first for r in ranges)
        for number in range(30):
            assert through(ranges, number) == side.get(number, [number])[0]
