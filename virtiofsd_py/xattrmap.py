# SPDX-License-Identifier: BSD-3-Clause
r"""The language of ``--xattrmap``: which extended attributes the guest has, and under what names.

Grammar; S is any one character that is no white space, chosen anew by each rule, and absent from
its fields::

    map     = space { rule space } ;
    rule    = S type S scope S key S prepend S
            | S "map" S key S prepend S ;
    type    = "prefix" | "ok" | "bad" | "unsupported" ;
    scope   = "client" | "server" | "all" ;

The first rule that matches decides. Names from the guest match a rule whose scope is client or all
when they start with its `key`; names from the host match one whose scope is server or all when they
start with its `prepend`.

===========  ==========================================================================
prefix       the guest's ``key…`` is the host's ``prependkey…``
ok           the name passes as it is
bad          the guest may not use the name (EPERM; reading: ENODATA) and does not see it
unsupported  the same, but ENOTSUP
===========  ==========================================================================

``map`` stands for all the rules that put `key…` (every name if empty) under `prepend`, and passes
the rest; it comes once and last. Without it the last rule must match everything: ``:ok:all:::``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

from virtiofsd_py._declared import XattrScope as Scope
from virtiofsd_py._declared import XattrType as Type
from virtiofsd_py.errors import ConfigError

__all__ = [
    "WITHOUT_TRUSTED",
    "Rule",
    "Scope",
    "Type",
    "parse",
    "render",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `key` and `prepend` are bytes without NUL, either may be empty."""

    type: Type
    scope: Scope
    key: bytes
    prepend: bytes

    @property
    def is_final(self) -> bool:
        """Whether no name gets past this rule."""
        return (
            self.type is not Type.PREFIX
            and self.scope is Scope.ALL
            and not self.key
            and not self.prepend
        )


_Word = TypeVar("_Word", Type, Scope)

_MAP: Final = "map"
# How often the separator stands in a rule.
_SEPARATORS: Final = {_MAP: 4}
_SEPARATORS_OTHER: Final = 5


def parse(text: str) -> tuple[Rule, ...]:
    """Read a map; ``map`` rules are spelt out in what they stand for.

    Raises:
        ConfigError: it is none; says at which character, from 1.
    """
    rules: list[Rule] = []
    at = _skip_space(text, 0)
    if at == len(text):
        _refuse("has no rules")
    while at < len(text):
        fields, end = _split(text, at)
        if fields[0].text.lower() == _MAP:
            rules += _map_rules(fields[1].encoded(), fields[2].encoded())
            end = _skip_space(text, end)
            if end < len(text):
                _refuse("goes on after its map rule", end)
        else:
            rules.append(_rule(fields))
            end = _skip_space(text, end)
        at = end
    if not any(rule.is_final for rule in rules):
        _refuse("does not end in a rule for all other names, such as :ok:all:::", len(text))
    return tuple(rules)


WITHOUT_TRUSTED: Final = (
    Rule(Type.BAD, Scope.ALL, b"trusted.", b"trusted."),
    Rule(Type.OK, Scope.ALL, b"", b""),
)
"""Every name but those that the host's kernel keeps for CAP_SYS_ADMIN."""


def render(rules: Sequence[Rule]) -> str:
    """Return a map that `parse` reads as `rules`, whose fields must not hold ``:``."""
    return " ".join(
        f":{r.type}:{r.scope}:{os.fsdecode(r.key)}:{os.fsdecode(r.prepend)}:" for r in rules
    )


@dataclass(frozen=True, slots=True)
class _Field:
    """The text of one field, and where it is, from 0."""

    text: str
    at: int

    def encoded(self) -> bytes:
        if "\0" in self.text:
            _refuse("has a NUL in a name", self.at + self.text.index("\0"))
        return os.fsencode(self.text)


def _rule(fields: Sequence[_Field]) -> Rule:
    return Rule(
        _member(Type, fields[0], [*Type, _MAP]),
        _member(Scope, fields[1], [*Scope]),
        fields[2].encoded(),
        fields[3].encoded(),
    )


def _member(kind: type[_Word], field: _Field, offered: Sequence[str]) -> _Word:
    try:
        return kind(field.text.lower())
    except ValueError:
        _refuse(f"has {field.text!r} in place of {', '.join(offered)}", field.at)


def _map_rules(key: bytes, prepend: bytes) -> list[Rule]:
    """Return what a ``map`` rule stands for."""
    prefix = Rule(Type.PREFIX, Scope.ALL, key, prepend)
    if not key:
        return [prefix, Rule(Type.BAD, Scope.ALL, b"", b"")]
    return [
        prefix,
        Rule(Type.BAD, Scope.SERVER, b"", key),
        Rule(Type.BAD, Scope.CLIENT, prepend, b""),
        Rule(Type.OK, Scope.ALL, b"", b""),
    ]


def _split(text: str, at: int) -> tuple[list[_Field], int]:
    """Return the fields of the rule at `at` and where it ends."""
    separator = text[at]
    fields: list[_Field] = []
    start = at + 1
    wanted = _SEPARATORS_OTHER
    while len(fields) < wanted - 1:
        end = text.find(separator, start)
        if end < 0:
            _refuse(f"ends within a rule: {separator!r} is missing", len(text))
        fields.append(_Field(text[start:end], start))
        if len(fields) == 1:
            wanted = _SEPARATORS.get(fields[0].text.lower(), _SEPARATORS_OTHER)
        start = end + 1
    return fields, start


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _refuse(reason: str, at: int | None = None) -> NoReturn:
    raise ConfigError(reason if at is None else f"{reason} (character {at + 1})")
