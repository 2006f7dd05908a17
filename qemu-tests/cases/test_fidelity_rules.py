# SPDX-License-Identifier: BSD-3-Clause
"""Each rule of the fidelity suite excuses what it says, of whom it says, and nothing like it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from fidelity import rules, scenario
from fidelity.suite import ACTORS


@dataclass(frozen=True, slots=True)
class Example:
    """What one rule is for, and what it must not be taken for.

    Attributes:
        rule: its name.
        line: GIVEN :: SCRIPT :: WATCHED; the latter without masks: by fanotify.
        actor: one of its actors.
        other: one that it is not about; empty: it is about all.
        local: on a local file system.
        excused: differs, as the rule says.
        refused: differ in other ways.
    """

    rule: str
    line: str
    actor: str
    other: str
    local: str
    excused: str
    refused: tuple[str, ...]


EXAMPLES = [
    Example(
        "branches",
        ":: (mknod a; unlink a | mknod b) :: .:ALL",
        actor="guest",
        other="",
        local=". CREATE a, . DELETE a, . CREATE b",
        excused=". CREATE b, . CREATE a, . DELETE a",
        refused=(". DELETE a, . CREATE a, . CREATE b", ". CREATE a, . DELETE a"),
    ),
    Example(
        "host-merge",
        "file f; file g :: append f; append g; append f :: .:ALL",
        actor="host-burst",
        other="host",
        local=". OPEN f, . MODIFY f, . OPEN g, . ATTRIB f, . MODIFY f",
        excused=". OPEN f, . MODIFY f, . ATTRIB f, . OPEN g",
        refused=(
            ". OPEN f, . MODIFY f, . OPEN g",  # a bit is lost
            ". OPEN g, . OPEN f, . MODIFY f, . ATTRIB f",  # nothing moves ahead of the first
            ". ATTRIB f, . OPEN f, . MODIFY f, . OPEN g, . MODIFY f",  # no order of one read
            ". OPEN f, . MODIFY f, . ATTRIB f, . OPEN g, . ATTRIB f",  # a bit too much
        ),
    ),
    Example(
        "host-merge",
        "file f :: append f; chmod f 0600; chown f 1 :: .:ALL",
        actor="host-burst",
        other="host",
        local=". MODIFY f, . CLOSE_WRITE f, . ATTRIB f",
        excused=". MODIFY f, . ATTRIB f, . CLOSE_WRITE f, . ATTRIB f",  # ATTRIB was two
        refused=(". MODIFY f, . ATTRIB f", ". ATTRIB f, . MODIFY f, . CLOSE_WRITE f"),
    ),
    Example(
        "host-merge",
        ":: file f; mknod g; unlink f :: .:ALL",
        actor="host-burst",
        other="host",
        local=". CREATE f, . MODIFY f, . CREATE g, . CLOSE_WRITE f, . DELETE f",
        excused=". CREATE f, . MODIFY f, . CLOSE_WRITE f, . DELETE f, . CREATE g",
        refused=(
            ". CREATE f, . DELETE f, . MODIFY f, . CLOSE_WRITE f, . CREATE g",  # used when gone
            ". CREATE f, . CREATE g, . DELETE f, . MODIFY f, . CLOSE_WRITE f",
        ),
    ),
    Example(
        "host-merge",
        ":: file f; unlink f; file f :: .:ALL",
        actor="host-burst",
        other="host",
        local=". CREATE f, . MODIFY f, . DELETE f, . CREATE f, . CREATE g, . MODIFY f",
        excused=". CREATE f, . MODIFY f, . DELETE f, . CREATE f, . MODIFY f, . CREATE g",
        refused=(". CREATE f, . MODIFY f, . CREATE g",),  # they are two objects
    ),
    Example(
        "host-merge",
        ":: mkdir d; chmod d 0700; rmdir d :: .:ALL",
        actor="host-burst",
        other="host",
        local=". CREATE|ISDIR d, . CREATE g, . ATTRIB|ISDIR d, . DELETE|ISDIR d",
        excused=". CREATE|ISDIR d, . ATTRIB|ISDIR d, . DELETE|ISDIR d, . CREATE g",
        refused=(
            ". CREATE|ISDIR d, . DELETE|ISDIR d, . CREATE g",
            ". CREATE|ISDIR d, . DELETE|ISDIR d, . ATTRIB|ISDIR d, . CREATE g",
        ),
    ),
    Example(
        "host-merge-in-branches",
        "file f; file g :: (append f; append f | append g) :: .:ALL",
        actor="host",
        other="guest",
        local=". OPEN f, . MODIFY f, . OPEN f, . MODIFY f, . OPEN g",
        excused=". OPEN g, . OPEN f, . MODIFY f",
        refused=(". OPEN g, . OPEN f", ". OPEN f, . MODIFY f"),
    ),
    Example(
        "merged-beyond-the-end",
        "file f :: open 1 f w; unlink f; close 1 :: f:ALL",
        actor="host-burst",
        other="host",
        local="f OPEN, f ATTRIB, f DELETE_SELF, f IGNORED",
        excused="f OPEN, f CLOSE_WRITE, f ATTRIB, f DELETE_SELF, f IGNORED",
        refused=(
            "f OPEN, f MOVE_SELF, f ATTRIB, f DELETE_SELF, f IGNORED",
            "f OPEN, f CLOSE_WRITE, f DELETE_SELF, f IGNORED",
        ),
    ),
    Example(
        "merged-beyond-the-end",
        "file f; link f g :: open 1 f w >> unlink f; w 1; unlink g; w 1; close 1 :: f:ALL",
        actor="host-burst",
        other="host",
        local="f ATTRIB, f MODIFY, f ATTRIB, f DELETE_SELF, f IGNORED",
        excused="f ATTRIB, f MODIFY, f ATTRIB, f MODIFY, f CLOSE_WRITE, f DELETE_SELF, f IGNORED",
        refused=(
            "f ATTRIB, f CLOSE_WRITE, f DELETE_SELF, f IGNORED",  # MODIFY is lost
            "f ATTRIB, f MODIFY, f ATTRIB, f MOVE_SELF, f DELETE_SELF, f IGNORED",
        ),
    ),
    Example(
        "gone-directory-late",
        "mkdir d :: rmdir d :: .:ALL",
        actor="host",
        other="guest",
        local=". OPEN|ISDIR d, . DELETE|ISDIR d, . CLOSE_NOWRITE|ISDIR d",
        excused=". OPEN|ISDIR d, . DELETE|ISDIR d",
        refused=(". OPEN|ISDIR d", ". OPEN|ISDIR d, . CLOSE_NOWRITE|ISDIR d"),
    ),
    Example(
        "which-link",
        "file f; link f g :: append f; unlink g :: .:ALL",
        actor="guest2",
        other="host",
        local=". OPEN f, . MODIFY f, . DELETE g",
        excused=". OPEN g, . MODIFY g, . DELETE g",
        refused=(
            ". OPEN g, . MODIFY g, . DELETE f",
            ". OPEN g, . DELETE g",
            ". OPEN h, . MODIFY h, . DELETE g",
        ),
    ),
    Example(
        "end-of-linked",
        "file f; link f g :: open 1 f w; unlink f; unlink g; w 1; close 1 :: .:ALL f:ALL",
        actor="guest2",
        other="host",
        local="f ATTRIB, . DELETE f, f ATTRIB, f DELETE_SELF, f IGNORED, . DELETE g",
        excused="f ATTRIB, . DELETE f, f ATTRIB, . DELETE g, f MODIFY, f DELETE_SELF, f IGNORED",
        refused=(
            "f ATTRIB, . DELETE f, f ATTRIB, . DELETE g, f MODIFY",
            "f ATTRIB, f ATTRIB, . DELETE g, f MODIFY, f DELETE_SELF, f IGNORED",
        ),
    ),
    Example(
        "private-fifo",
        "fifo p :: open 1 p rn; close 1; unlink p :: .:ALL",
        actor="guest2",
        other="host",
        local=". OPEN p, . CLOSE_NOWRITE p, . DELETE p",
        excused=". DELETE p",
        refused=("", ". OPEN p, . DELETE p"),
    ),
    Example(
        "page-cache",
        "file f :: cat f; cat f :: f:ALL",
        actor="guest2",
        other="host",
        local="f OPEN, f ACCESS, f CLOSE_NOWRITE, f OPEN, f ACCESS, f CLOSE_NOWRITE",
        excused="f OPEN, f ACCESS, f CLOSE_NOWRITE, f OPEN, f CLOSE_NOWRITE",
        refused=("f OPEN, f ACCESS, f CLOSE_NOWRITE, f OPEN",),
    ),
    Example(
        "mapped-pages",
        "file f :: open 1 f rw; mmap 1; close 1 :: f:ALL",
        actor="guest2",
        other="host",
        local="f OPEN, f CLOSE_WRITE",
        excused="f OPEN, f ACCESS, f MODIFY, f CLOSE_WRITE",
        refused=("f OPEN, f MODIFY", "f OPEN, f ATTRIB, f CLOSE_WRITE"),
    ),
    Example(
        "fanotify-end",
        "mkdir d :: rm d :: .",
        actor="host",
        other="guest",
        local="d OPEN|DELETE_SELF|ISDIR ., . DELETE|ISDIR d",
        excused="d OPEN|ISDIR ., d DELETE_SELF|ISDIR ., . DELETE|ISDIR d",
        refused=("d OPEN|ISDIR ., . DELETE|ISDIR d", "d DELETE_SELF|ISDIR ., . DELETE|ISDIR d"),
    ),
    Example(
        "fanotify-stranger",
        ":: mkdir d; chmod d 0700 :: .",
        actor="host",
        other="guest",
        local=". CREATE|ISDIR d, wd-0 ATTRIB|ISDIR .",
        excused=". ATTRIB|CREATE|ISDIR d",
        refused=(
            ". CREATE|ISDIR d",
            ". ATTRIB|ISDIR d",
            ". CREATE|ISDIR d, . ATTRIB|ISDIR .",
            "wd-0 CREATE|ISDIR d, wd-0 ATTRIB|ISDIR .",
        ),
    ),
    Example(
        "server-silence",
        "file f :: append f; mv f g :: .:ALL f:ALL",
        actor="server-host",
        other="host",
        local="f OPEN, f MODIFY, f CLOSE_WRITE, . MOVED_FROM f #1, . MOVED_TO g #1, f MOVE_SELF",
        excused="f MODIFY, . MOVED_FROM f #1, . MOVED_TO g #1, f MOVE_SELF",
        refused=(
            "f MODIFY, . MOVED_FROM f #1, . MOVED_TO g #1",
            ". MOVED_FROM f #1, . MOVED_TO g #1",
            "f OPEN, f MODIFY, . MOVED_FROM f #1, . MOVED_TO g #1",
            "f MODIFY, . MOVED_FROM f #1, . MOVED_TO g #2",
        ),
    ),
    Example(
        "server-order",
        ":: file f :: .:ALL",
        actor="server-guest",
        other="guest",
        local=". CREATE f, . OPEN f, . MODIFY f, . CLOSE_WRITE f",
        excused=". OPEN f, . CREATE f, . CLOSE_WRITE f, . MODIFY f",
        refused=(
            ". MODIFY f, . OPEN f, . CREATE f, . CLOSE_WRITE f",
            ". CREATE f, . OPEN f, . CLOSE_WRITE f",
        ),
    ),
    Example(
        "server-order-in-branches",
        ":: (file f | file g) :: .:ALL",
        actor="server-guest",
        other="guest",
        local=". CREATE f, . OPEN f, . MODIFY f, . CREATE g, . OPEN g",
        excused=". OPEN g, . CREATE g, . OPEN f, . CREATE f, . MODIFY f",
        refused=(
            ". OPEN g, . CREATE g, . OPEN f, . MODIFY f, . CREATE f",
            ". OPEN g, . OPEN f, . CREATE f, . MODIFY f",
        ),
    ),
]


def explained(example: Example, actor: str, seen: str) -> list[str] | None:
    """What the rules make of it."""
    (parsed,) = scenario.parse(f"it :: {example.line}")
    local, here = (tuple(text.split(", ")) if text else () for text in (example.local, seen))
    way = "as written" if "as written" in parsed.ways else scenario.FANOTIFY
    return rules.explain(actor, parsed, way, (local,), (here,))


EACH_EXAMPLE = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.rule)


@EACH_EXAMPLE
def test_excuses_what_it_says(example: Example) -> None:
    assert explained(example, example.actor, example.excused) == [example.rule]
    assert explained(example, example.actor, example.local) == []


@EACH_EXAMPLE
def test_excuses_nothing_like_it(example: Example) -> None:
    for refused in example.refused:
        assert explained(example, example.actor, refused) is None, refused


@EACH_EXAMPLE
def test_excuses_nobody_else(example: Example) -> None:
    (rule,) = (rule for rule in rules.RULES if rule.name == example.rule)
    assert rule.actors <= ACTORS.keys()
    if example.other:
        assert explained(example, example.other, example.excused) is None
    else:
        assert rule.actors == ACTORS.keys()


def test_every_rule_has_its_example() -> None:
    assert {example.rule for example in EXAMPLES} == {rule.name for rule in rules.RULES}
