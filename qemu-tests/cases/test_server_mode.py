# SPDX-License-Identifier: BSD-3-Clause
"""The daemon reports everybody's changes (``--fsnotify=server``): the same events, once, in order.

The daemon cannot attribute changes to the guest there, so the guest leaves the reporting to
it. Opens, reads and closes are the exception: the guest reports its own, and nobody the host's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
from conftest import Stage
from runguest.scene import Scene
from table import NAMES, Case, watch_sets
from test_aggregation import unlinked_names_are_told_unless_excluded as unlinked_names_excluded
from test_events import EACH_ACTOR, EACH_CASE, actor_of, seen

ROUNDS = 100


@pytest.fixture
def scene(server_stage: Stage) -> Iterator[Scene]:
    """A scene where the daemon reports everybody's changes."""
    with server_stage.scene() as scene:
        yield scene


def told_by_server(expect: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Without what only the guest's own kernel reports, of the guest's own operations."""
    local = ("OPEN", "ACCESS", "CLOSE")
    return {
        label: [event for event in events if not event.startswith(local)]
        for label, events in expect.items()
    }


@pytest.mark.only("uml")
@EACH_ACTOR
@EACH_CASE
def test_seen_exactly_once(server_stage: Stage, case: Case, who: str) -> None:
    expect = dict(case.expect) if who == "guest" else told_by_server(case.expect)
    for labels in watch_sets(case):
        with server_stage.scene() as scene:
            assert by_reporter(seen(scene, case, who, labels), who) == by_reporter(
                {label: expect[label] for label in labels}, who
            )


def by_reporter(seen: Mapping[str, Sequence[str]], who: str) -> dict[str, object]:
    """Events in order, of each reporter: the guest's own kernel does not wait for the daemon."""
    if who == "host":
        return {label: list(events) for label, events in seen.items()}
    by_server = told_by_server(seen)
    return {
        label: (
            [event for event in events if event in by_server[label]],
            [event for event in events if event not in by_server[label]],
        )
        for label, events in seen.items()
    }


@pytest.mark.only("uml")
@EACH_ACTOR
@EACH_CASE
def test_not_seen_without_a_watch(server_stage: Stage, case: Case, who: str) -> None:
    with server_stage.scene() as scene:
        scene.host.run(case.given)
        actor_of(scene, who).run([*case.before, *case.act])
        assert scene.settle() == {}


@pytest.mark.only("uml")
@EACH_ACTOR
@EACH_CASE
def test_not_seen_after_the_watch_is_gone(server_stage: Stage, case: Case, who: str) -> None:
    with server_stage.scene() as scene:
        scene.host.run(case.given)
        actor_of(scene, who).run(case.before)
        for label, name in case.watches.items():
            scene.watch(label, name)
            scene.unwatch(label)
        scene.settle()  # the last IGNORED
        actor_of(scene, who).run(case.act)
        assert scene.settle() == {label: [] for label in case.watches}


@EACH_ACTOR
def test_names_of_any_length_and_bytes(scene: Scene, who: str) -> None:
    scene.watch("dir", b".")
    for number, name in enumerate(NAMES.values()):
        actor_of(scene, who).run([("mknod", name), ("chmod", name), ("unlink", name)])
        kinds = [event.split(" ")[0] for event in scene.settle()["dir"]]
        assert kinds == ["CREATE", "ATTRIB", "DELETE"], f"name {number}"


def test_changes_by_both_sides_come_in_the_order_they_were_made(scene: Scene) -> None:
    scene.watch("dir", b".")
    expected = []
    for number in range(ROUNDS):
        for who in ("host", "guest"):
            name = f"{who}-{number}"
            actor_of(scene, who).run([("mknod", name.encode())])
            expected.append(f"CREATE {name}")
    assert scene.settle()["dir"] == expected


def test_a_host_write_comes_before_the_end_of_what_the_guest_then_unlinks(scene: Scene) -> None:
    """The write's event and the unlink's reply come on different queues."""
    scene.watch("dir", b".")
    for round_ in range(ROUNDS):
        scene.host.run([("create", b"f")])
        scene.watch("file", b"f")
        scene.host.run([("write", b"x")])
        scene.guest.run([("unlink", b"f")])
        seen = scene.settle()
        scene.host.close()
        assert seen["file"] == ["MODIFY", "ATTRIB", "DELETE_SELF", "IGNORED"], f"round {round_}"
        assert seen["dir"] == ["CREATE f", "MODIFY f", "DELETE f"], f"round {round_}"


def test_a_tree_that_the_guest_removes_ends_event_by_event(scene: Scene) -> None:
    """Each directory's last events are the daemon's to report, and its marks go with it."""
    for _ in range(ROUNDS // 10):
        scene.guest.run([("mkdir", b"d"), ("file", b"d/f")])
        scene.watch("dir", b"d")
        scene.guest.run([("unlink", b"d/f"), ("rmdir", b"d")])
        assert scene.settle()["dir"] == ["DELETE f", "DELETE_SELF", "IGNORED"]


@EACH_ACTOR
def test_unlinked_names_are_told_unless_excluded(scene: Scene, who: str) -> None:
    unlinked_names_excluded(scene, who)
