# SPDX-License-Identifier: BSD-3-Clause
"""virtiofsd-agent as a program: it is not there, comes late, is killed at any moment."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from runguest import paths, stock
from runguest.agent import Agent, Guest
from runguest.events import Event
from runguest.scene import GRACE_MS, Scene

pytestmark = pytest.mark.only(
    "uml"
)  # a QEMU guest sees no file of the host that tells it what to do

KILLS = 20
_DEADLINE_S = 60.0

# The agent runs until there is a file "kill-1". It is killed then, which is said, and begins again
# when there is "revive-1"; and so on.
_KEEPER = """\
n=0
while n=$((n + 1)); do
    {agent}
    while [ ! -e {home}/kill-$n ]; do sleep 0.01; done
    kill -9 $!
    wait $! 2>/dev/null
    echo >&2 "agent killed $n"
    while [ ! -e {home}/revive-$n ]; do sleep 0.01; done
done &
"""


def await_log(guest: Guest, text: str) -> None:
    end = time.monotonic() + _DEADLINE_S
    while text not in guest.log_text():
        assert time.monotonic() < end, f"no {text!r}"
        time.sleep(0.01)


@dataclass
class Kept:
    """A guest whose agent a case can kill, and start."""

    guest: Guest
    agent: Agent
    home: Path
    kills: int = 0

    def scene(self) -> stock.StockScene:
        return stock.StockScene(self.agent, self.guest.share, Path(paths.GUEST_SHARE))

    def deaf_scene(self) -> Scene:
        """One to which nothing comes of what the host does."""
        return Scene(self.agent, self.guest.share, Path(paths.GUEST_SHARE), remote=False)

    def kill(self) -> None:
        """End the agent with SIGKILL; it stays away until `revive`."""
        self.kills += 1
        (self.home / f"kill-{self.kills}").touch()
        await_log(self.guest, f"agent killed {self.kills}\n")

    def revive(self) -> None:
        """Start it again."""
        (self.home / f"revive-{self.kills}").touch()


@pytest.fixture(scope="module")
def kept(vmm: str, make_guest: Callable[..., Guest], case_root: Path) -> Iterator[Kept]:
    home = case_root / "keeper"
    home.mkdir()
    keeper = _KEEPER.format(agent=stock.running(), home=home)
    options = stock.options(vmm, "--cache=always", "--guest-agent=on")
    with ExitStack() as stack:
        guest = stack.enter_context(make_guest(vmm, *options, command=stock.command(keeper)))
        yield Kept(guest, Agent(guest), home)


def test_without_an_agent_nothing_comes(kept: Kept) -> None:
    kept.kill()
    with kept.deaf_scene() as scene:
        scene.watch("dir", b".")
        scene.host.run([("file", b"f"), ("rename", b"f", b"g"), ("unlink", b"g")])
        assert scene.settle() == {"dir": []}
        scene.guest.run([("mknod", b"own")])  # whose pid may once have been the agent's
        assert scene.settle() == {"dir": ["CREATE own"]}
        assert [path.name for path in scene.directory.iterdir()] == ["own"]
    kept.revive()


def test_an_agent_serves_watches_that_are_older(kept: Kept) -> None:
    kept.kill()
    with kept.deaf_scene() as before:
        wd = before.watch("dir", b".")
        kept.revive()
        with kept.scene():  # it runs again, and has looked for watches
            before.host.run([("mknod", b"f")])
            events = before.instance.read(int(_DEADLINE_S * 1000), (wd, b"f"))
        assert [event.name for event in events if event.wd == wd] == [b"f"]


def test_killed_at_any_moment(kept: Kept) -> None:
    """The host makes, renames and removes all the while; it alone decides what there is."""
    names = itertools.count()
    for number in range(KILLS):
        with kept.scene() as scene:
            scene.watch("dir", b".")
            left = set()
            for _ in range(20 + 7 * number):
                name = b"n%d" % next(names)
                scene.host.run([("mknod", name), ("rename", name, b"x" + name)])
                if next(names) % 3:
                    scene.host.run([("unlink", b"x" + name)])
                else:
                    left.add((b"x" + name).decode())
            kept.kill()
            assert {path.name for path in scene.directory.iterdir()} == left
            kept.revive()


def test_after_all_that_it_still_serves(kept: Kept) -> None:
    with kept.scene() as scene:
        scene.watch("dir", b".")
        scene.host.run([("mknod", b"f"), ("unlink", b"f")])
        assert scene.settle() == {"dir": ["CREATE f", "DELETE f"]}


def test_the_grace_is_for_what_could_come() -> None:
    """A twin that must not see anything waits for longer than an agent looks for watches."""
    assert GRACE_MS > 5 * stock.LOOK_MS


# The agent rests from when there is a file "stop", which is said, until there is a file "go".
_PAUSE = """\
{agent}
agent=$!
(
    while [ ! -e {home}/stop ]; do sleep 0.01; done
    kill -STOP $agent
    echo >&2 "agent rests"
    while [ ! -e {home}/go ]; do sleep 0.01; done
    kill -CONT $agent
) &
"""


def test_a_loss_is_an_attrib_of_what_is_watched(
    vmm: str, make_guest: Callable[..., Guest], case_root: Path
) -> None:
    """IN_Q_OVERFLOW cannot be raised from outside the kernel; both logs say what happened."""
    home = case_root / "pause"
    home.mkdir()
    options = stock.options(vmm, "--guest-agent=on", "--fsnotify-ring-kib=64")
    pause = _PAUSE.format(agent=stock.running(), home=home)
    with make_guest(vmm, *options, command=stock.command(pause)) as guest:
        scene = stock.StockScene(Agent(guest), guest.share, Path(paths.GUEST_SHARE))
        with scene:
            wd = scene.watch("dir", b".")
            (home / "stop").touch()
            await_log(guest, "agent rests")
            for number in range(3000):
                scene.host.run([("mknod", b"n%d" % number)])
            (home / "go").touch()
            events: list[Event] = []
            while all(event.name for event in events):
                fresh = scene.instance.read(int(_DEADLINE_S * 1000))
                assert fresh, "no ATTRIB of the directory"
                events += [event for event in fresh if event.wd == wd]
            assert [event.kind for event in events if not event.name] == ["ATTRIB|ISDIR"]
            assert len(events) < 3000
            scene.settle()
            scene.host.run([("mknod", b"last")])
            assert scene.settle() == {"dir": ["CREATE last"]}
        assert "events were lost" in guest.log_text()
