# SPDX-License-Identifier: BSD-3-Clause
"""The language of --xattrmap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtiofsd_py.errors import ConfigError
from virtiofsd_py.xattrmap import Rule, Scope, Type, parse, render

FINAL = Rule(Type.OK, Scope.ALL, b"", b"")
NAMES = st.text(
    st.characters(blacklist_characters=":\0", blacklist_categories=["Cs"]), max_size=12
).map(str.encode)
RULES = st.builds(Rule, st.sampled_from(Type), st.sampled_from(Scope), NAMES, NAMES)


@given(rules=st.lists(RULES, max_size=6))
def test_round_trip(rules: list[Rule]) -> None:
    assert parse(render([*rules, FINAL])) == (*rules, FINAL)


def test_separators_are_chosen_anew_and_space_is_optional() -> None:
    assert parse("  :PREFIX:all::user.v.:\n\t/bad/Client/a:b//|ok|all||| ") == (
        Rule(Type.PREFIX, Scope.ALL, b"", b"user.v."),
        Rule(Type.BAD, Scope.CLIENT, b"a:b", b""),
        FINAL,
    )


def test_bytes_need_not_be_text() -> None:
    assert parse(":ok:server::\udcff:" + ":ok:all:::")[0].prepend == b"\xff"


def test_map_of_everything() -> None:
    assert parse(":map::user.virtiofs.:") == parse(":prefix:all::user.virtiofs.::bad:all:::")


def test_map_of_a_part() -> None:
    spelt_out = """
        /prefix/all/trusted./user.virtiofs./
        /bad/server//trusted./
        /bad/client/user.virtiofs.//
        /ok/all///
    """
    assert parse(":map:trusted.:user.virtiofs.:") == parse(spelt_out)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no rules"),
        (" \n", "has no rules"),
        (":", "ends within a rule: ':' is missing (character 2)"),
        (":ok:all::", "ends within a rule: ':' is missing (character 10)"),
        (":good:all:::", "has 'good' in place of prefix, ok, bad, unsupported, map (character 2)"),
        (":ok:alll:::", "has 'alll' in place of client, server, all (character 5)"),
        (":ok:client:::", "does not end in a rule for all other names, such as :ok:all:::"),
        (":prefix:all:::", "does not end in a rule for all other names"),
        (":ok:all:user.::", "does not end in a rule for all other names"),
        (":map::user.:  :ok:all:::", "goes on after its map rule (character 15)"),
        (":ok:all:a\0b::", "has a NUL in a name (character 10)"),
    ],
)
def test_refusals(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert reason in str(caught.value)


@given(text=st.text(alphabet="/:mapokdbrefix cltsv\n", max_size=40))
def test_any_text_is_answered(text: str) -> None:
    try:
        rules = parse(text)
    except ConfigError:
        return
    assert any(rule.is_final for rule in rules)
