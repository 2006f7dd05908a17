# SPDX-License-Identifier: BSD-3-Clause
"""Guests that die, reset, or know nothing of notification: the daemon takes it well."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from probes import eventually, host_marks
from runguest import paths, qemu
from runguest.agent import Agent, Guest
from runguest.events import Mask
from runguest.processes import wait_readable
from runguest.scene import EVENT_DEADLINE_MS, Scene

KILLS = 20
LATEST_KILL_S = {"uml": 1.5, "qemu": 12.0}
"""So that some kills meet the boot and most the load."""

LOAD = """
while :; do
    for name in a b c d e; do
        echo data > $name; cat $name > copy-$name; mv copy-$name $name; chmod 600 $name
        mkdir -p dir-$name; ls -l > /dev/null; rm $name; rmdir dir-$name
    done 2> /dev/null
done &
{
    echo init; echo add 3 0xfff /mnt/share
    while :; do echo events 3 1000; done
} | /mnt/tools/agent > /dev/null
"""


@contextlib.contextmanager
def host_load(share: Path) -> Iterator[None]:
    """Changes in ``share`` by the host, as fast as they come, as long as the context lasts."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for number in range(10):
                path = share / f"host-{number}"
                path.write_bytes(b"x")
                path.unlink()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_killing_the_guest_at_any_moment_ends_the_daemon_cleanly(
    vmm: str, seed: int, make_guest: Callable[..., Guest]
) -> None:
    moment_s = random.Random(seed).uniform(0, LATEST_KILL_S[vmm])
    with contextlib.closing(make_guest(vmm, command=("sh", "-c", LOAD))) as guest:
        eventually(lambda: (guest.logs / "state.json").exists())
        state = guest.record("state")
        with host_load(guest.share):
            fd = os.pidfd_open(state["vmm_pid"])
            wait_readable([fd], moment_s)
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
            assert guest.close() == 125
    result = guest.record("result")
    assert result["vmm_status"] == -signal.SIGKILL
    assert result["daemon_status"] == 0
    assert [fault for fault in result["faults"] if "daemon" in fault] == []
    assert not Path(state["socket"]).exists()
    assert not Path(state["workspace"]).exists()


def shares_files(guest: Guest, agent: Agent) -> None:
    """Asserts that both sides see each other's changes."""
    with Scene(agent, guest.share, Path(paths.GUEST_SHARE), remote=False) as scene:
        scene.host.run([("file", b"from-host", b"12345")])
        assert agent.call("size", scene.guest.path(b"from-host")) == 5
        scene.guest.run([("file", b"from-guest", b"123"), ("unlink", b"from-host")])
        assert {path.name: path.read_bytes() for path in scene.directory.iterdir()} == {
            "from-guest": b"123"
        }


def test_a_daemon_without_notification_serves(vmm: str, make_guest: Callable[..., Guest]) -> None:
    with make_guest(vmm, "--no-notification", "--daemon-arg=--fsnotify=off") as guest:
        shares_files(guest, Agent(guest))


@pytest.mark.only("qemu")
def test_a_device_without_notification_serves(vmm: str, make_guest: Callable[..., Guest]) -> None:
    """QEMU's property off, the daemon's feature on: as with a QEMU that has no such property."""
    with make_guest(vmm, "--no-notification") as guest:
        agent = Agent(guest)
        shares_files(guest, agent)
        assert host_marks(guest.record("state")["daemon_pid"]) == []


@pytest.mark.only("qemu")
def test_a_device_that_wants_notification_needs_a_daemon_that_has_it(
    vmm: str, make_guest: Callable[..., Guest]
) -> None:
    with contextlib.closing(make_guest(vmm, "--daemon-arg=--fsnotify=off")) as guest:
        assert guest.close() == 125
        assert "does not offer a notification queue" in (guest.logs / "qemu.log").read_text()
        assert guest.record("result")["daemon_status"] == 0


@pytest.mark.only("qemu")
def test_events_work_again_after_a_reset(vmm: str, make_guest: Callable[..., Guest]) -> None:
    """A reset sends no FUSE_DESTROY; nothing of the old guest may show in the new one."""
    with make_guest(vmm) as guest:
        agent = Agent(guest)
        state = guest.record("state")
        for boot in range(2):
            if boot:
                qemu.system_reset(Path(state["qmp"]))
                agent.restarted()
            assert host_marks(state["daemon_pid"]) == []
            with Scene(agent, guest.share, Path(paths.GUEST_SHARE)) as scene:
                scene.watch("dir", b".", Mask.CREATE)
                scene.host.run([("mknod", b"%d" % boot)])
                assert scene.settle() == {"dir": [f"CREATE {boot}"]}


@pytest.mark.only("qemu")
@pytest.mark.parametrize(("smp", "queues"), [(1, 4), (4, 4)])
def test_several_processors_and_queues(
    vmm: str, smp: int, queues: int, make_guest: Callable[..., Guest]
) -> None:
    with make_guest(vmm, f"--smp={smp}", f"--queues={queues}") as guest:
        agent = Agent(guest)
        with Scene(agent, guest.share, Path(paths.GUEST_SHARE)) as scene:
            scene.watch("dir", b".", Mask.CREATE)
            for number in range(50):
                scene.host.run([("mknod", b"host-%d" % number)])
                scene.guest.run([("mknod", b"guest-%d" % number)])
            seen = scene.settle()["dir"]
            assert sorted(seen) == sorted(
                f"CREATE {who}-{number}" for who in ("host", "guest") for number in range(50)
            )


@pytest.mark.only("uml")
def test_several_queues(vmm: str, make_guest: Callable[..., Guest]) -> None:
    with make_guest(vmm, "--queues=4") as guest:
        instance = Agent(guest).inotify()
        instance.add(os.fsencode(paths.GUEST_SHARE), Mask.CREATE)
        (guest.share / "f").touch()
        assert [event.kind for event in instance.read(EVENT_DEADLINE_MS)] == ["CREATE"]
