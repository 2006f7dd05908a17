# SPDX-License-Identifier: BSD-3-Clause
"""Real events in guests with a stock kernel: by virtiofsd-agent, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from conftest import Stage
from runguest import paths, stock
from runguest.actors import Step
from runguest.agent import Agent, Guest
from runguest.words import encode
from table import CASES, NAMES, Case, watch_sets

EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)

OPENED: Final = ("OPEN", "OPEN|ISDIR")
"""Comes with the close, as docs/stock-guests.md says; what a case is about is left."""


@pytest.fixture(scope="session")
def stock_stage(vmm: str, make_guest: Callable[..., Guest], case_root: Path) -> Iterator[Stage]:
    """A guest with a running agent. Cache timeouts are as long as can be."""
    asked = stock.options(vmm, "--cache=always", "--guest-agent=on")
    with ExitStack() as stack:
        guest = stack.enter_context(make_guest(vmm, *asked, command=stock.command(stock.running())))
        yield Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), True, guest)


def scene_of(stage: Stage) -> stock.StockScene:
    return stock.StockScene(stage.agent, stage.share, stage.mount)


def without_open(seen: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {
        label: [event for event in events if event.split(" ")[0] not in OPENED]
        for label, events in seen.items()
    }


@EACH_CASE
def test_host_is_seen_exactly_once(stock_stage: Stage, case: Case) -> None:
    for labels in watch_sets(case):
        with scene_of(stock_stage) as scene:
            scene.host.run(case.given)
            scene.host.run(case.before)
            for label in labels:
                scene.watch(label, case.watches[label])
            assert scene.settle() == {label: [] for label in labels}
            scene.host.run(case.act)
            expect = {label: case.expect[label] for label in labels}
            assert without_open(scene.settle()) == without_open(expect)


@EACH_CASE
def test_guest_is_seen_exactly_once(stock_stage: Stage, case: Case) -> None:
    with scene_of(stock_stage) as scene:
        scene.host.run(case.given)
        scene.guest.run(case.before)
        for label, name in case.watches.items():
            scene.watch(label, name)
        scene.guest.run(case.act)
        assert scene.settle() == {label: list(events) for label, events in case.expect.items()}


@EACH_CASE
def test_not_seen_without_a_watch(stock_stage: Stage, case: Case) -> None:
    with scene_of(stock_stage) as scene:
        scene.host.run([*case.given, *case.before, *case.act])
        assert scene.settle() == {}


def test_opening_is_seen_with_the_close(stock_stage: Stage) -> None:
    with scene_of(stock_stage) as scene:
        scene.host.run([("file", b"f")])
        scene.watch("dir", b".")
        scene.host.run([("open", b"f", b"r")])
        assert scene.settle() == {"dir": []}
        scene.host.close()
        assert scene.settle() == {"dir": ["OPEN f", "CLOSE_NOWRITE f"]}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_of_any_length_and_bytes(stock_stage: Stage, name: bytes) -> None:
    shown = encode(name)
    steps: list[tuple[Step, list[str]]] = [
        (("mknod", name), [f"CREATE {shown}"]),
        (("chmod", name), [f"ATTRIB {shown}"]),
        (("rename", name, b"other"), [f"MOVED_FROM {shown} #1", "MOVED_TO other #1"]),
        (("rename", b"other", name), ["MOVED_FROM other #1", f"MOVED_TO {shown} #1"]),
        (("unlink", name), [f"DELETE {shown}"]),
    ]
    with scene_of(stock_stage) as scene:
        scene.watch("dir", b".")
        for step, expected in steps:
            scene.host.run([step])
            assert scene.settle() == {"dir": expected}


def test_moved_out_of_the_share_and_into_it(stock_stage: Stage) -> None:
    """From and to directories that the guest does not watch: one half is seen, with no other."""
    with scene_of(stock_stage) as scene:
        scene.host.run([("mkdir", b"in"), ("mkdir", b"out"), ("file", b"in/f")])
        scene.watch("in", b"in")
        scene.host.run([("rename", b"in/f", b"out/f")])
        assert [event.split(" #")[0] for event in scene.settle()["in"]] == ["MOVED_FROM f"]
        scene.host.run([("rename", b"out/f", b"in/g")])
        assert [event.split(" #")[0] for event in scene.settle()["in"]] == ["MOVED_TO g"]


def test_caches_are_right_afterwards(stock_stage: Stage) -> None:
    """What the guest believed for a day is what the host made of it, once the event has come."""
    with scene_of(stock_stage) as scene:
        file = scene.guest.path(b"f")
        scene.host.run([("file", b"f", b"old")])
        scene.watch("dir", b".")
        call = stock_stage.agent.call
        assert call("size", file) == 3
        scene.host.run([("open", b"f", b"a"), ("write", b" and new"), ("close",)])
        scene.settle()
        assert call("size", file) == 11
        scene.host.run([("unlink", b"f")])
        scene.settle()
        with pytest.raises(FileNotFoundError):
            call("size", file)


def test_nothing_of_it_is_done_on_the_host(stock_stage: Stage) -> None:
    """A thousand changes in one go; then both sides list the same, and all of it was seen."""
    with scene_of(stock_stage) as scene:
        scene.watch("dir", b".")
        for number in range(100):
            name = b"n%d" % number
            scene.host.run([("mknod", name), ("rename", name, b"x" + name)])
            if number % 2:
                scene.host.run([("unlink", b"x" + name)])
        seen = [event.split(" ")[0] for event in scene.settle()["dir"]]
        assert [seen.count(kind) for kind in ("CREATE", "MOVED_FROM", "MOVED_TO", "DELETE")] == [
            *(100, 100, 100),
            50,
        ]
        left = sorted(path.name for path in scene.directory.iterdir())
        assert left == sorted(f"xn{number}" for number in range(0, 100, 2))
