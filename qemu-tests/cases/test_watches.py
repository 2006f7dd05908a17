# SPDX-License-Identifier: BSD-3-Clause
"""Watches: never late, never stale, one on the host however many in the guest, within limits."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Stage
from probes import eventually, host_marks, idle_for
from runguest import paths
from runguest.agent import Agent, Guest
from runguest.events import Mask
from runguest.scene import EVENT_DEADLINE_MS, Scene

RACES = 1000
IDLE_WATCHES = 1000


def test_a_host_write_right_after_add_watch_is_never_missed(stage: Stage) -> None:
    """In lockstep: the guest says that the watch stands, the host writes."""
    with stage.scene() as scene:
        scene.host.run([("file", b"f"), ("open", b"f", b"a")])
        for race in range(RACES):
            instance = scene.agent.inotify()
            instance.add(scene.guest.path(b"f"), Mask.MODIFY)
            scene.host.run([("write", b"x")])
            assert instance.read(EVENT_DEADLINE_MS), f"missed the write of round {race}"
            instance.close()


@pytest.mark.only("uml")
def test_nor_when_the_write_follows_within_microseconds(
    vmm: str, make_guest: Callable[..., Guest]
) -> None:
    """The guest's own process writes as the host, by hostfs, in its next system call."""
    with make_guest(vmm) as guest:
        agent = Agent(guest)
        (guest.share / "f").touch()
        seen = os.fsencode(f"{paths.GUEST_SHARE}/f")
        behind = os.fsencode(f"{paths.GUEST_HOST}/f")
        assert agent.call("race", RACES, seen, behind, EVENT_DEADLINE_MS) == RACES


def test_stat_in_the_handler_sees_the_new_size(scene: Scene) -> None:
    """The guest may cache attributes for a day; an event must not be older than what it reports."""
    path = scene.guest.path(b"f")
    scene.host.run([("file", b"f", b"1")])
    scene.watch("file", b"f", Mask.MODIFY)
    scene.host.run([("open", b"f", b"a")])
    for size in range(2, 102):
        assert scene.agent.call("size", path) == size - 1  # and is cached
        scene.host.run([("write", b"x")])
        assert scene.instance.read(EVENT_DEADLINE_MS)
        assert scene.agent.call("size", path) == size


def test_a_new_name_can_be_used_in_the_handler(scene: Scene) -> None:
    """So can an old one no longer: cached names, also absent ones, go before the event comes."""
    path = scene.guest.path(b"f")
    scene.watch("dir", b".", Mask.CREATE | Mask.DELETE)
    for _ in range(20):
        with pytest.raises(FileNotFoundError):
            scene.agent.call("size", path)
        scene.host.run([("mknod", b"f")])
        assert scene.instance.read(EVENT_DEADLINE_MS)
        assert scene.agent.call("size", path) == 0
        scene.host.run([("unlink", b"f")])
        assert scene.instance.read(EVENT_DEADLINE_MS)


@pytest.mark.parametrize("what", ["file", "mkdir"])
def test_the_name_it_had_elsewhere_cannot_be_used_in_the_handler(scene: Scene, what: str) -> None:
    """It comes from a directory that nobody watches, and the guest has cached it there."""
    scene.host.run([("mkdir", b"from"), ("mkdir", b"to"), (what, b"from/f")])
    old, new = scene.guest.path(b"from/f"), scene.guest.path(b"to/g")
    size = scene.agent.call("size", old)
    scene.watch("to", b"to", Mask.MOVED_TO)
    scene.host.run([("rename", b"from/f", b"to/g")])
    assert scene.instance.read(EVENT_DEADLINE_MS)
    with pytest.raises(FileNotFoundError):
        scene.agent.call("size", old)
    assert scene.agent.call("size", new) == size


def test_nor_can_the_name_of_a_link_that_has_gone_elsewhere(scene: Scene) -> None:
    scene.host.run([("mkdir", b"from"), ("mkdir", b"to"), ("file", b"from/f")])
    old, new = scene.guest.path(b"from/f"), scene.guest.path(b"to/g")
    size = scene.agent.call("size", old)
    scene.watch("to", b"to", Mask.CREATE)
    scene.host.run([("link", b"from/f", b"to/g"), ("unlink", b"from/f")])
    assert scene.instance.read(EVENT_DEADLINE_MS)
    with pytest.raises(FileNotFoundError):
        scene.agent.call("size", old)
    assert scene.agent.call("size", new) == size


def test_five_watchers_of_one_inode_are_one_host_watch(guest_stage: Stage) -> None:
    with guest_stage.scene() as scene:
        scene.host.run([("file", b"f")])
        inode = (scene.directory / "f").stat().st_ino
        pid = guest_stage.daemon_pid
        masks = [Mask.MODIFY, Mask.ATTRIB, Mask.OPEN, Mask.MODIFY | Mask.CLOSE_WRITE, Mask.ALL]
        instances = [scene.agent.inotify() for _ in masks]
        for instance, mask in zip(instances, masks, strict=True):
            instance.add(scene.guest.path(b"f"), mask)
            assert host_marks(pid).count(inode) == 1
        for instance in instances[1:]:
            instance.close()
        scene.host.run([("open", b"f", b"a"), ("write", b"x")])
        assert [event.kind for event in instances[0].read(EVENT_DEADLINE_MS)] == ["MODIFY"]
        assert host_marks(pid).count(inode) == 1
        instances[0].close()
        eventually(lambda: inode not in host_marks(pid))


def test_an_unlinked_file_leaves_no_host_watch(guest_stage: Stage) -> None:
    with guest_stage.scene() as scene:
        scene.host.run([("file", b"f")])
        inode = (scene.directory / "f").stat().st_ino
        scene.watch("file", b"f")
        assert inode in host_marks(guest_stage.daemon_pid)
        scene.host.run([("unlink", b"f")])
        assert scene.settle()["file"][-1] == "IGNORED"
        eventually(lambda: inode not in host_marks(guest_stage.daemon_pid))


@pytest.fixture
def limited(vmm: str, make_guest: Callable[..., Guest]) -> Iterator[Guest]:
    with make_guest(vmm, "--daemon-arg=--fsnotify-max-watches=3") as guest:
        yield guest


def test_at_the_limit_add_watch_fails_with_enospc(limited: Guest) -> None:
    agent = Agent(limited)
    instance = agent.inotify()
    names = [b"%d" % number for number in range(4)]
    for name in names:
        (limited.share / os.fsdecode(name)).touch()
    inside = [os.fsencode(paths.GUEST_SHARE) + b"/" + name for name in names]
    watches = [instance.add(path, Mask.MODIFY) for path in inside[:3]]
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as refused:
        instance.add(inside[3], Mask.MODIFY)
    assert refused.value.errno == errno.ENOSPC
    # Those that stand go on working, and one that goes makes room.
    (limited.share / "0").write_text("x")
    assert [event.wd for event in instance.read(EVENT_DEADLINE_MS)][:1] == watches[:1]
    instance.remove(watches[0])
    eventually(lambda: _added(lambda: instance.add(inside[3], Mask.MODIFY)))


def _added(add: Callable[[], int]) -> bool:
    try:
        return add() > 0
    except OSError:
        return False


@pytest.mark.slow
def test_an_idle_daemon_with_a_thousand_watches_uses_no_cpu(
    vmm: str, make_guest: Callable[..., Guest]
) -> None:
    with make_guest(vmm) as guest:
        agent = Agent(guest)
        with Scene(agent, guest.share, Path(paths.GUEST_SHARE)) as scene:
            for number in range(IDLE_WATCHES):
                scene.host.run([("mknod", b"%d" % number)])
                scene.watch(str(number), b"%d" % number)
            assert not any(scene.settle().values())
            assert len(host_marks(guest.record("state")["daemon_pid"])) > IDLE_WATCHES
            assert idle_for(guest.record("state")["daemon_pid"], seconds=10)
