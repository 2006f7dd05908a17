# SPDX-License-Identifier: BSD-3-Clause
"""Each change is seen exactly once, whoever made it, and only by those who watch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from conftest import Stage
from runguest.actors import Actor, Step
from runguest.events import Mask
from runguest.scene import Scene
from runguest.words import encode
from table import CASES, NAMES, Case, watch_sets

EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
LIVES = 100
CHANGES = Mask.CREATE | Mask.DELETE | Mask.ATTRIB | Mask.MODIFY | Mask.CLOSE_WRITE
EACH_ACTOR = pytest.mark.parametrize("who", ["host", "guest"])


def actor_of(scene: Scene, who: str) -> Actor:
    return scene.host if who == "host" else scene.guest


def seen(scene: Scene, case: Case, who: str, labels: Sequence[str]) -> dict[str, list[str]]:
    """Do a case with these of its watches; return what they see of it, and nothing before it."""
    scene.host.run(case.given)
    actor_of(scene, who).run(case.before)
    for label in labels:
        scene.watch(label, case.watches[label])
    assert scene.settle() == {label: [] for label in labels}
    actor_of(scene, who).run(case.act)
    return scene.settle()


@EACH_ACTOR
@EACH_CASE
def test_seen_exactly_once(stage: Stage, case: Case, who: str) -> None:
    for labels in watch_sets(case):
        with stage.scene() as scene:
            expect = {label: case.expect[label] for label in labels}
            assert seen(scene, case, who, labels) == expect


def test_whole_lives_in_one_go(scene: Scene) -> None:
    """What the host makes, changes and removes comes as often as it happened, in that order."""
    other = scene.host.below(b"other")
    scene.host.run([("mkdir", b"other")])
    scene.watch("dir", b".", CHANGES)
    scene.settle()
    for _ in range(LIVES):
        scene.host.run([("mkdir", b"s"), ("chmod", b"s"), ("rmdir", b"s")])
        other.run([("mkdir", b"s"), ("chmod", b"s"), ("rmdir", b"s")])  # nobody watches there
        scene.host.run([("file", b"n"), ("unlink", b"n")])
    once = ["CREATE|ISDIR s", "ATTRIB|ISDIR s", "DELETE|ISDIR s"]
    once += ["CREATE n", "MODIFY n", "CLOSE_WRITE n", "DELETE n"]
    seen = scene.settle()["dir"]
    assert [seen[at : at + 7] for at in range(0, len(seen), 7)] == [once] * LIVES


@EACH_CASE
def test_not_seen_without_a_watch(stage: Stage, case: Case) -> None:
    with stage.scene() as scene:
        scene.host.run([*case.given, *case.before, *case.act])
        assert scene.settle() == {}


@EACH_CASE
def test_not_seen_after_the_watch_is_gone(stage: Stage, case: Case) -> None:
    with stage.scene() as scene:
        scene.host.run([*case.given, *case.before])
        for label, name in case.watches.items():
            scene.watch(label, name)
            scene.unwatch(label)
        scene.settle()  # the last IGNORED
        scene.host.run(case.act)
        assert scene.settle() == {label: [] for label in case.watches}


@EACH_ACTOR
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_of_any_length_and_bytes(scene: Scene, name: bytes, who: str) -> None:
    shown = encode(name)
    scene.watch("dir", b".")
    steps: list[tuple[Step, list[str]]] = [
        (("mknod", name), [f"CREATE {shown}"]),
        (("chmod", name), [f"ATTRIB {shown}"]),
        (("rename", name, b"other"), [f"MOVED_FROM {shown} #1", "MOVED_TO other #1"]),
        (("rename", b"other", name), ["MOVED_FROM other #1", f"MOVED_TO {shown} #1"]),
        (("unlink", name), [f"DELETE {shown}"]),
    ]
    for step, expected in steps:
        actor_of(scene, who).run([step])
        assert scene.settle() == {"dir": expected}


def test_with_the_feature_off_only_the_guest_is_seen(deaf_stage: Stage) -> None:
    """The host's changes to all cases at once, so that one grace period serves all."""
    with deaf_stage.scene() as scene:
        for case in CASES:
            home = case.id.encode()
            scene.host.run([("mkdir", home)])
            inside = scene.host.below(home)
            inside.run([*case.given, *case.before])
            for label, name in case.watches.items():
                scene.watch(f"{case.id}: {label}", home + b"/" + name)
            inside.run(case.act)
            inside.close()
        seen = scene.settle()
        assert {label: events for label, events in seen.items() if events} == {}


@EACH_CASE
def test_with_the_feature_off_the_guest_sees_itself(deaf_stage: Stage, case: Case) -> None:
    with deaf_stage.scene() as scene:
        scene.host.run(case.given)
        scene.guest.run(case.before)
        for label, name in case.watches.items():
            scene.watch(label, name)
        scene.guest.run(case.act)
        assert scene.settle() == dict(case.expect)
