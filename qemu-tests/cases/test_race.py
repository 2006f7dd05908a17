# SPDX-License-Identifier: BSD-3-Clause
"""Create, watch, remove, again and again: no event is lost, doubled or late, whoever acts.

The rounds run in the guest's agent (guest/rounds.c), which is both actors: the host by hostfs. With
host events delayed by up to 50 ms it is the barrier alone that brings them before the guest's own
end of an object; without it the same rounds lose.

RACE_ROUNDS sets how many rounds a kind gets; `make race` runs 100 000.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from conftest import Stage
from runguest import paths
from runguest.agent import Agent, Guest
from runguest.events import Mask

ROUNDS: Final = int(os.environ.get("RACE_ROUNDS", "1000"))
# Of what is slower, unless somebody wants to know for sure.
FEWER_ROUNDS: Final = ROUNDS if "RACE_ROUNDS" in os.environ else ROUNDS // 5
# Who makes and removes; in the last the host makes and changes, the guest removes.
ACTORS: Final = ("guest", "host", "both", "touched")
SITUATIONS: Final = (
    "replaced-by-guest",
    "replaced-by-host",
    "tree-by-guest",
    "tree-by-host",
    "tree-by-both",
    "open-in-guest-unlinked-by-guest",
    "open-in-guest-unlinked-by-host",
    "open-on-host-unlinked-by-guest",
    "open-on-host-unlinked-by-host",
    "open-in-both-unlinked-by-guest",
    "open-in-both-unlinked-by-host",
)
# Where the guest ends what the host has just changed.
NEED_THE_BARRIER: Final = ("touched", "replaced-by-guest", "tree-by-both")
# For one kind's rounds, and for what is still missing after the last.
DEADLINE_S: Final = 60 + ROUNDS / 100
MISSING_MS: Final = 2000
TREES: Final = 3
TREE_WIDTH: Final = 20

EACH_KIND = pytest.mark.parametrize(
    ("kind", "count"),
    [*((kind, ROUNDS) for kind in ACTORS), *((kind, FEWER_ROUNDS) for kind in SITUATIONS)],
)
_numbers: Final = itertools.count()


def rounds(stage: Stage, kind: str, count: int) -> dict[str, int]:
    """What went wrong in so many rounds of a kind; empty if nothing did."""
    name = f"race-{next(_numbers)}"
    (stage.share / name).mkdir()
    behind = paths.GUEST_HOST if stage.guest else os.fspath(stage.share)
    stage.agent.send(
        "rounds",
        kind.encode(),
        count,
        os.fsencode(stage.mount / name),
        os.fsencode(f"{behind}/{name}"),
        MISSING_MS,
    )
    words, done = stage.agent.reply(DEADLINE_S)
    assert done == count
    return {what: int(number) for what, number in zip(words[::2], words[1::2], strict=True)}


@pytest.mark.only("local", "uml")
@EACH_KIND
def test_every_event_once(stage: Stage, kind: str, count: int) -> None:
    assert rounds(stage, kind, count) == {}


@pytest.mark.only("uml")
@EACH_KIND
def test_every_event_once_in_server_mode(server_stage: Stage, kind: str, count: int) -> None:
    """All but the ends of objects comes from the daemon, whoever acts."""
    assert rounds(server_stage, kind, count) == {}


@contextmanager
def faulty(make_guest: Callable[..., Guest], **faults: str) -> Iterator[Stage]:
    """A UML guest whose daemon is the faulty build."""
    daemon = paths.BUILD / "faults" / "virtiofsd-py"
    assert daemon.exists(), "make build-faults"
    with pytest.MonkeyPatch.context() as environment:
        for name, value in faults.items():
            environment.setenv(f"VFSD_FAULT_{name}", value)
        guest = make_guest("uml", f"--daemon={daemon}", "--daemon-arg=--cache=always")
    with guest:
        yield Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), True, guest)


@pytest.fixture(scope="module")
def delayed(make_guest: Callable[..., Guest]) -> Iterator[Stage]:
    with faulty(make_guest, DELAY_MS="50") as stage:
        yield stage


@pytest.fixture(scope="module")
def without_barrier(make_guest: Callable[..., Guest]) -> Iterator[Stage]:
    with faulty(make_guest, DELAY_MS="50", NO_BARRIER="1") as stage:
        yield stage


@pytest.mark.only("uml")
@EACH_KIND
def test_every_event_once_though_delayed(vmm: str, delayed: Stage, kind: str, count: int) -> None:
    assert rounds(delayed, kind, count) == {}


@pytest.mark.only("uml")
@pytest.mark.parametrize("kind", NEED_THE_BARRIER)
def test_without_the_barrier_events_are_lost(vmm: str, without_barrier: Stage, kind: str) -> None:
    count = ROUNDS // 5
    wrong = rounds(without_barrier, kind, count)
    assert sum(number for what, number in wrong.items() if what.startswith("lost:")) > count // 2


@pytest.mark.parametrize("repetition", range(TREES))
def test_both_remove_one_tree(stage: Stage, repetition: int) -> None:
    """At the same time: whoever is faster, each name is deleted once, each directory ends once."""
    names = [b"%d" % number for number in range(TREE_WIDTH)]
    with stage.scene() as scene:
        for directory in (b"t", *(b"t/" + name for name in names)):
            scene.host.run([("mkdir", directory)])
            if directory != b"t":
                scene.host.run([("mknod", directory + b"/" + name) for name in names])
            scene.watch(directory.decode(), directory, Mask.DELETE | Mask.DELETE_SELF)
        scene.agent.send("rmtree", scene.guest.path(b"t"))
        shutil.rmtree(scene.directory / "t", ignore_errors=True)
        scene.agent.reply()
        # Each may have left what it found in the other's hands.
        scene.agent.call("rmtree", scene.guest.path(b"t"))
        seen = scene.settle()
        assert {label: sorted(got[:-2]) for label, got in seen.items()} == {
            "t": sorted(f"DELETE|ISDIR {name.decode()}" for name in names),
            **{f"t/{n.decode()}": sorted(f"DELETE {m.decode()}" for m in names) for n in names},
        }
        assert all(got[-2:] == ["DELETE_SELF", "IGNORED"] for got in seen.values())
