# SPDX-License-Identifier: BSD-3-Clause
"""A running guest moves to another QEMU with daemons of its own, and its programs do not notice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from probes import eventually, host_marks
from runguest import paths
from runguest.agent import READY_DEADLINE_S, REPLY_DEADLINE_S, Agent, Guest
from runguest.events import Mask
from runguest.scene import EVENT_DEADLINE_MS

CHUNK_BYTES = 1 << 16
MOVES_UNDER_LOAD = 2


def move(guest: Guest) -> None:
    """Returns when the guest runs elsewhere."""
    state = guest.record("state")
    os.kill(state["pid"], signal.SIGUSR1)
    eventually(
        lambda: (
            guest.process.poll() is not None or guest.record("state")["moves"] == state["moves"] + 1
        )
    )
    assert guest.process.poll() is None, guest.log_text()


@pytest.mark.only("qemu")
def test_open_files_and_watches_go_along(vmm: str, make_guest: Callable[..., Guest]) -> None:
    with make_guest(vmm) as guest:
        agent = Agent(guest)
        mount = bytes(Path(paths.GUEST_SHARE))
        for name in ("watched", "other"):
            (guest.share / name).mkdir()
        (guest.share / "file").write_bytes(os.urandom(64 * CHUNK_BYTES))
        file = agent.call("open", mount + b"/file", os.O_RDWR, 0)
        assert agent.call("read", file, CHUNK_BYTES) == CHUNK_BYTES
        instance = agent.inotify()
        wd = instance.add(mount + b"/watched", Mask.CREATE)
        for number in range(2):
            (guest.share / "file").rename(guest.share / "renamed")
            old = guest.record("state")["daemon_pid"]
            move(guest)
            assert guest.record("state")["daemon_pid"] != old
            (guest.share / "renamed").rename(guest.share / "file")
            # The position is the guest's; most of this has not been in its page cache.
            for _ in range(31):
                assert agent.call("read", file, CHUNK_BYTES) == CHUNK_BYTES
            word = b"round %d" % number
            assert agent.call("write", file, word) == len(word)
            assert word in (guest.share / "file").read_bytes()
            (guest.share / "other" / f"{number}").touch()
            (guest.share / "watched" / f"{number}").touch()
            events = instance.read(EVENT_DEADLINE_MS, (wd, b"%d" % number))
            assert [(e.wd, e.mask, e.name) for e in events] == [
                (-1, Mask.Q_OVERFLOW, b""),
                (wd, Mask.CREATE, b"%d" % number),
            ]
            assert len(host_marks(guest.record("state")["daemon_pid"])) == 1


READER = """
until [ -e go ]; do sleep 0.1; done
want=$(sha256sum < big)
echo ready
round=0
while [ ! -e stop ]; do
    echo 1 > /proc/sys/vm/drop_caches
    for cached in no yes yes; do
        [ "$(sha256sum < big)" = "$want" ] || echo bad, cached: $cached
    done
    round=$((round + 1))
    echo round $round
done
echo end
"""


@pytest.mark.only("qemu")
def test_what_is_read_meanwhile_is_right(vmm: str, make_guest: Callable[..., Guest]) -> None:
    """The daemon writes to guest memory all the time; what it does not mark would stay behind."""
    with make_guest(vmm, command=("sh", "-c", READER)) as guest:
        (guest.share / "big").write_bytes(os.urandom(32 << 20))
        (guest.share / "go").touch()
        lines = [guest.read_line(READY_DEADLINE_S)]
        for _ in range(MOVES_UNDER_LOAD):
            while not lines[-1].startswith("round"):
                lines.append(guest.read_line(REPLY_DEADLINE_S))
            move(guest)
            lines.append("moved")
        for _ in range(2):
            lines.append(guest.read_line(REPLY_DEADLINE_S))
        (guest.share / "stop").touch()
        while lines[-1] != "end":
            lines.append(guest.read_line(REPLY_DEADLINE_S))
        assert not [line for line in lines if "bad" in line]
