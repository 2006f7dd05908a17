# SPDX-License-Identifier: BSD-3-Clause
"""What a row of the table of options is made of: kinds of values, and groups.

The table is `virtiofsd_py.options.Options`; `virtiofsd_py.arguments` reads a command line by it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeVar


@dataclass(frozen=True, slots=True)
class Value:
    """A kind of option value.

    Attributes:
        parse: turns the text into the field's value; a ValueError means "not accepted", a
            ConfigError says why.
        accepts: what an error message offers instead.
        metavar: what stands for the value in the help.
    """

    parse: Callable[[str], object]
    accepts: str
    metavar: str


def alternatives(words: Sequence[str]) -> str:
    """Join `words` as "a, b or c"."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


_Choice = TypeVar("_Choice", bound=enum.StrEnum)


def choice(kind: type[_Choice], *, aliases: Mapping[str, _Choice] | None = None) -> Value:
    """Accept one member of an enumeration, in any case of letters.

    Args:
        kind: the enumeration.
        aliases: further spellings, not offered in messages.
    """
    words = [member.value for member in kind]

    def parse(text: str) -> _Choice:
        word = text.lower()
        return (aliases or {}).get(word) or kind(word)

    return Value(parse, alternatives(words), "|".join(words))


def number(low: int, high: int | None = None, *, power_of_two: bool = False) -> Value:
    """Accept a decimal number from `low` to `high`, both included."""
    if high is None:
        accepts = f"a number, {low} or more"
    else:
        kind = "a power of two" if power_of_two else "a number"
        accepts = f"{kind} from {low} to {high}"

    def parse(text: str) -> int:
        # int() would take "1_0", " 1" and other scripts' digits.
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise ValueError
        value = int(text)
        if value < low or (high is not None and value > high):
            raise ValueError
        if power_of_two and value & (value - 1):
            raise ValueError
        return value

    return Value(parse, accepts, "N")


def text(accepts: str, metavar: str, max_bytes: int | None = None) -> Value:
    """Accept any text but the empty one, and no more than `max_bytes` of it as UTF-8."""

    def parse(given: str) -> str:
        size_bytes = len(given.encode(errors="surrogateescape"))
        if not given or (max_bytes is not None and size_bytes > max_bytes):
            raise ValueError
        return given

    return Value(parse, accepts, metavar)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A long option, and how the old ``-o`` spells it.

    Attributes:
        name: long name, without dashes.
        field: field of `Options` that it sets.
        help: what it does, without the default.
        value: what it accepts; None for a switch.
        sets: what a switch sets.
        legacy: word after ``-o``, with the value if it takes one; "" if there is none.
        legacy_no: the word after ``-o`` that sets the opposite of a switch.
        repeats: whether uses add up; else a later one overrides.
        default: the default in words, where the field's own does not say it.
    """

    name: str
    field: str
    help: str = ""
    value: Value | None = None
    sets: bool = True
    legacy: str = ""
    legacy_no: str = ""
    repeats: bool = False
    default: str = ""


_ROWS: Final = "rows"


class Group:
    """A heading of the help, which is called once for each attribute of the table below it."""

    def __init__(self, title: str) -> None:
        """Be the group of that `title`."""
        self._title = title

    def __call__(
        self,
        help: str,
        value: Value | None = None,
        default: object = False,
        *,
        name: str = "",
        words: str = "",
        also: Mapping[str, tuple[str, bool]] | None = None,
        **spelling: Any,  # noqa: ANN401 - as in Option
    ) -> Any:  # noqa: ANN401 - an attribute's default, of the attribute's type
        """Return the attribute's default, with its row.

        Args:
            help: what it does, without the default.
            value: what it accepts; None for a switch.
            default: of the attribute; MISSING for one that is required.
            name: long name; "" is the attribute's.
            words: the default in words, where `default` does not say it.
            also: further long names, each with its help and what it sets as a switch.
            spelling: `Option.sets`, `legacy`, `legacy_no` and `repeats`.
        """
        row = {"help": help, "value": value, "default": words, **spelling}
        rows = [{"name": name} | row]
        for other, (its_help, sets) in (also or {}).items():
            rows.append({"name": other, "help": its_help, "value": value, "sets": sets})
        return field(default=default, metadata={_ROWS: (self._title, rows)})


def table_of(options: type) -> dict[str, tuple[Option, ...]]:
    """Return the rows of a dataclass whose attributes a `Group` each made, by title."""
    table: dict[str, tuple[Option, ...]] = {}
    for attribute in fields(options):
        title, rows = attribute.metadata[_ROWS]
        for row in rows:
            name = row["name"] or attribute.name.replace("_", "-")
            option = Option(**row | {"name": name, "field": attribute.name})
            table[title] = (*table.get(title, ()), option)
    return table
