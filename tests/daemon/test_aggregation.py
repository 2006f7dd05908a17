# SPDX-License-Identifier: BSD-3-Clause
"""The host's masks against a naive model: guests on one share, inodes, masks, in any order.

Each guest has a daemon of its own, whose watches /proc shows. They must be right when the reply is
there: grown before it, shrunk with it. Groups in one guest: test_rfc2021.py for the old dialect;
in ours the guest's kernel adds them up, see test_aggregation.py of the guests' cases.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.daemon.events import (
    ACCESS,
    ALL,
    ATTRIB,
    CLOSE_NOWRITE,
    CLOSE_WRITE,
    CREATE,
    DELETE,
    DELETE_SELF,
    MODIFY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    ON_CHILD,
    OPEN,
)
from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, Record, Session
from tests.frontend.notify import FS_ISDIR

GUESTS = 3
ROUND_TRIPS = 100  # by then FORGET has been served
NAMES = ["d", "d/a", "d/b", "d/c"]
DIRENT = CREATE | DELETE | MOVED_FROM | MOVED_TO
FAN_RENAME = 0x1000_0000
FAN_ONDIR = 0x4000_0000
ALWAYS = ATTRIB | DELETE_SELF  # the end of an object is always watched for
OF_DIRECTORIES = OPEN | ACCESS | ATTRIB | CLOSE_NOWRITE
TOLD_BY_SERVER = DIRENT | MODIFY | ATTRIB | MOVE_SELF


class Guest:
    """A session with a daemon of its own, and what the model says it watches."""

    def __init__(self, daemon: Daemon, session: Session, mode: str) -> None:
        self.daemon = daemon
        self.session = session
        self.fuse = session.fuse
        self.mode = mode
        self.begin()

    def begin(self) -> None:
        """DESTROY and INIT: everything is void."""
        self.fuse.destroy()
        assert self.host_masks() == {}
        self.fuse.init()
        self.wanted = dict.fromkeys(NAMES, 0)
        self.nodes: dict[str, int] = {}
        for name in NAMES:
            self.look_up(name)

    def look_up(self, name: str) -> None:
        directory, _, last = name.rpartition("/")
        parent = self.nodes[directory] if directory else ROOT_ID
        self.nodes[name] = self.fuse.lookup(parent, last).nodeid

    def set(self, name: str, mask: int) -> None:
        self.fuse.fsnotify(self.nodes[name], mask | (ON_CHILD if mask and name == "d" else 0))
        self.wanted[name] = mask

    def forget(self, name: str) -> None:
        """The inode goes out of the guest's cache, and comes again without a watch."""
        self.fuse.forget(self.nodes[name])
        self.wanted[name] = 0
        for _ in range(ROUND_TRIPS):  # FORGET has no reply
            if self.host_masks() == self.expected():
                break
            self.fuse.getattr(ROOT_ID)
        self.look_up(name)

    def expected(self) -> dict[int, int]:
        """The model: what the host ought to watch, by inode number."""
        masks = {}
        for name, mask in self.wanted.items():
            if mask == 0:
                continue
            host = (mask & (ALL if self.mode == "merged" else TOLD_BY_SERVER)) | ALWAYS
            if name != "d":
                host &= ~DIRENT
            elif self.mode == "merged":
                host |= FAN_ONDIR
                if mask & OF_DIRECTORIES:
                    host |= DELETE  # which says what a directory was called that is gone
                if host & (MOVED_FROM | MOVED_TO):
                    host = host & ~(MOVED_FROM | MOVED_TO) | FAN_RENAME
            masks[(self.daemon.share / name).stat().st_ino] = host
        return masks

    def host_masks(self) -> dict[int, int]:
        """What the host watches for this daemon."""
        found = {}
        for line in self.daemon.fdinfo():
            kind, _, rest = line.partition(" ")
            if kind not in {"fanotify", "inotify"} or " mask:" not in line:
                continue
            fields = dict(word.split(":", 1) for word in rest.split() if ":" in word)
            if "ino" in fields:
                # The host sets ON_CHILD on files too; it shows in what is told.
                bits = ALL | FAN_ONDIR | FAN_RENAME if kind == "fanotify" else ALL
                found[int(fields["ino"], 16)] = int(fields["mask"], 16) & bits
        return found

    def hear(self, sign: Path) -> list[Record]:
        """Return what came up to a sign in the root, which is watched for that only."""
        assert self.session.notifications is not None
        self.fuse.fsnotify(ROOT_ID, CREATE)
        sign.mkdir()
        records = self.session.notifications.read_until(lambda r: r.name == os.fsencode(sign.name))
        self.fuse.fsnotify(ROOT_ID, 0)
        return records[:-1]


MASKS = st.sampled_from(
    [MODIFY, ATTRIB, OPEN | ACCESS, CLOSE_WRITE, MOVE_SELF, CREATE, CREATE | DELETE, MODIFY, ALL]
)
STEP = st.one_of(
    st.tuples(st.just("set"), st.integers(0, GUESTS - 1), st.sampled_from(NAMES), MASKS),
    st.tuples(st.just("set"), st.integers(0, GUESTS - 1), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("forget"), st.integers(0, GUESTS - 1), st.sampled_from(NAMES[1:]), st.none()),
    st.tuples(st.just("destroy"), st.integers(0, GUESTS - 1), st.none(), st.none()),
)


@pytest.mark.parametrize("mode", ["merged", "server"])
def test_host_masks_are_what_the_guests_want(start: Callable[..., Daemon], mode: str) -> None:
    with ExitStack() as stack:
        first = start(f"--fsnotify={mode}")
        daemons = [first]
        daemons += [start(f"--fsnotify={mode}", share=first.share) for _ in range(GUESTS - 1)]
        (first.share / "d").mkdir()
        for name in NAMES[1:]:
            (first.share / name).touch()
        guests = []
        for daemon in daemons:
            session = stack.enter_context(Session.connect(daemon.socket))
            session.fuse.init()
            guests.append(Guest(daemon, session, mode))

        signs = iter(range(1_000_000))

        @settings(
            max_examples=40,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        )
        @given(st.lists(STEP, max_size=25))
        def steps(script: list[tuple[str, int, str, int]]) -> None:
            for guest in guests:
                guest.begin()
            for verb, index, name, mask in script:
                guest = guests[index]
                if verb == "set":
                    guest.set(name, mask)
                elif verb == "forget":
                    guest.forget(name)
                else:
                    guest.begin()
                # This guest's as it says, and nobody else's changed.
                assert [g.host_masks() for g in guests] == [g.expected() for g in guests]
            # And each hears what it asked for, through the inode or its directory, once.
            for name in NAMES[1:]:
                os.truncate(first.share / name, 1)
            for guest in guests:
                told = guest.hear(first.share / f"sign{next(signs)}")
                by_name = [r for r in told if r.mask & ~FS_ISDIR == MODIFY]
                for name in NAMES[1:]:
                    wants = [bool(guest.wanted[n] & MODIFY) for n in ("d", name)]
                    node = guest.nodes[name]
                    count = sum(node in {r.nodeid, r.child} for r in by_name)
                    assert count == (sum(wants) if mode == "server" else any(wants))

        steps()
