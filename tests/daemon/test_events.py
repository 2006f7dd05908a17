# SPDX-License-Identifier: BSD-3-Clause
"""What comes out of the notification queue when the host, or the guest, changes the share.

"Nothing more comes" is decided by a mark in the order: the host's queue and the ring are one line,
so when the event of a later sentinel arrives, everything older has arrived.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.daemon.events import (
    ALL,
    ATTRIB,
    CLOSE_NOWRITE,
    CLOSE_WRITE,
    CREATE,
    DELETE,
    MODIFY,
    MOVE_SELF,
    MOVED_FROM,
    MOVED_TO,
    ON_CHILD,
    OPEN,
    Watched,
    until_sentinel,
    with_its_end,
)
from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, InitFlag, Record, Session
from tests.frontend.notify import FS_ISDIR, FS_Q_OVERFLOW, FSN_UNLINKED
from tests.frontend.session import DEFAULT_FEATURES
from tests.frontend.vhost import F_FS_NOTIFICATION


@pytest.fixture
def watched(daemon: Daemon, guest: Session) -> Watched:
    """Return a fresh watched directory."""
    return Watched(daemon, guest)


def test_init_grants_remote_fsnotify_only_with_the_queue(
    daemon: Daemon, start: Callable[..., Daemon]
) -> None:
    with Session.connect(daemon.socket) as session:
        reply = session.fuse.init()
        assert InitFlag.HAS_FSNOTIFY in reply.flags
        assert reply.fsnotify_server_mask == 0
    with Session.connect(start().socket, features=DEFAULT_FEATURES & ~F_FS_NOTIFICATION) as session:
        assert InitFlag.HAS_FSNOTIFY not in session.fuse.init().flags
        with pytest.raises(FuseError, match="not implemented"):
            session.fuse.fsnotify(ROOT_ID, ALL)
    with Session.connect(start("--fsnotify=off").socket) as session:
        assert session.notifications is None
        assert InitFlag.HAS_FSNOTIFY not in session.fuse.init().flags


def test_write_of_the_host(watched: Watched) -> None:
    (watched.path / "n").write_bytes(b"x")
    assert watched.short() == [
        (CREATE, b"n"),
        (OPEN, b"n"),
        (MODIFY, b"n"),
        (CLOSE_WRITE, b"n"),
    ]


def test_the_guests_own_doing_is_not_told(watched: Watched) -> None:
    fuse = watched.guest.fuse
    opened = fuse.open(watched.file, os.O_RDWR)
    fuse.write(watched.file, opened.fh, 0, b"guest")
    fuse.read(watched.file, opened.fh, 0, 5)
    fuse.release(watched.file, opened.fh, os.O_RDWR)
    fuse.mkdir(watched.dir, "sub")
    fuse.rename(watched.dir, "f", watched.dir, "g")
    fuse.rmdir(watched.dir, "sub")
    fuse.listdir(watched.dir)
    assert watched.short() == []


def test_rename_of_the_host_has_one_cookie(watched: Watched, daemon: Daemon) -> None:
    (watched.path / "f").rename(watched.path / "g")
    (watched.path / "g").rename(daemon.share / "out")
    (daemon.share / "out").rename(watched.path / "in")
    within_from, within_to, out, into = watched.events()
    assert (within_from.mask, within_from.name) == (MOVED_FROM, b"f")
    assert (within_to.mask, within_to.name) == (MOVED_TO, b"g")
    # Who is called so is looked up when the event is read; it may have moved on by then.
    assert within_to.child in {0, watched.file}
    assert within_from.cookie == within_to.cookie != 0
    assert (out.mask, out.name) == (MOVED_FROM, b"g")
    assert (into.mask, into.name, into.child) == (MOVED_TO, b"in", watched.file)
    assert len({within_to.cookie, out.cookie, into.cookie}) == 3


def test_watched_file_hears_of_its_own_move_and_end(watched: Watched) -> None:
    watched.guest.fuse.fsnotify(watched.file, ALL)
    (watched.path / "f").rename(watched.path / "g")
    (watched.path / "g").unlink()
    events = with_its_end(watched.events())
    assert [(r.nodeid, r.mask, r.flags, r.name) for r in events] == [
        (watched.dir, MOVED_FROM, 0, b"f"),
        (watched.dir, MOVED_TO, 0, b"g"),
        (watched.file, MOVE_SELF, 0, b""),
        (watched.file, ATTRIB, FSN_UNLINKED, b""),
        (watched.dir, DELETE, 0, b"g"),
    ]


@pytest.mark.parametrize(
    "options", [(), ("--inode-file-handles=never", "--modcaps=+dac_read_search")]
)
def test_end_of_a_file_that_the_host_has_open_comes_with_its_close(
    start: Callable[..., Daemon], options: tuple[str, ...]
) -> None:
    daemon = start(*options)
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        watched = Watched(daemon, guest)
        guest.fuse.fsnotify(watched.file, ALL)
        with (watched.path / "f").open("rb"):
            watched.events()
            (watched.path / "f").unlink()
            assert [(r.nodeid, r.mask, r.flags) for r in watched.events()] == [
                (watched.file, ATTRIB, 0),
                (watched.dir, DELETE, 0),
            ]
        assert [(r.nodeid, r.mask, r.flags) for r in watched.events()] == [
            (watched.dir, CLOSE_NOWRITE, 0),
            (watched.file, 0, FSN_UNLINKED),
        ]


def test_end_of_a_directory_comes_after_all_that_happened_in_it(
    watched: Watched, daemon: Daemon
) -> None:
    sub = watched.path / "sub"
    sub.mkdir()
    (sub / "f").write_bytes(b"")
    fuse = watched.guest.fuse
    inner = fuse.lookup(watched.dir, "sub").nodeid
    fuse.fsnotify(inner, ALL | ON_CHILD)
    watched.events()
    with daemon.stopped():  # the visit is merged with the end, at its own place
        assert os.listdir(sub) == ["f"]
        (sub / "f").unlink()
        sub.rmdir()
    events = [(r.nodeid, r.mask, r.flags, r.name) for r in watched.events()]
    assert events[-3:] == [
        (inner, DELETE, 0, b"f"),
        (inner, 0, FSN_UNLINKED, b""),
        (watched.dir, DELETE | FS_ISDIR, 0, b"sub"),
    ]


def test_end_of_a_file_comes_after_all_that_happened_to_it(
    watched: Watched, daemon: Daemon
) -> None:
    watched.guest.fuse.fsnotify(watched.file, ALL)
    with daemon.stopped():
        (watched.path / "f").rename(watched.path / "g")
        (watched.path / "g").write_bytes(b"x")
        (watched.path / "g").unlink()
    events = [(r.nodeid, r.mask, r.flags, r.name) for r in watched.events()]
    assert events == [
        (watched.dir, MOVED_FROM, 0, b"f"),
        (watched.dir, MOVED_TO, 0, b"g"),
        (watched.file, MOVE_SELF, 0, b""),
        (watched.file, ATTRIB, 0, b""),
        (watched.dir, OPEN, 0, b"g"),
        (watched.dir, MODIFY, 0, b"g"),
        (watched.dir, CLOSE_WRITE, 0, b"g"),
        (watched.file, 0, FSN_UNLINKED, b""),
        (watched.dir, DELETE, 0, b"g"),
    ]


def test_truncation_by_another_guest_is_one_event(
    watched: Watched, daemon: Daemon, start: Callable[..., Daemon]
) -> None:
    with Session.connect(start(share=daemon.share).socket) as other:
        other.fuse.init()
        directory = other.fuse.lookup(ROOT_ID, "d").nodeid
        other.fuse.setattr(other.fuse.lookup(directory, "f").nodeid, size=1)
        assert watched.short() == [(MODIFY, b"f")]
    assert (watched.path / "f").read_bytes() == b"1"


def test_end_of_a_file_that_cannot_but_be_pinned_comes_with_its_last_link(
    start: Callable[..., Daemon],
) -> None:
    daemon = start("--inode-file-handles=never")  # nor may it reopen any
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        watched = Watched(daemon, guest)
        guest.fuse.fsnotify(watched.file, ALL)
        (watched.path / "f").unlink()
        assert [(r.nodeid, r.mask, r.flags) for r in watched.events()] == [
            (watched.file, ATTRIB, FSN_UNLINKED),
            (watched.dir, DELETE, 0),
        ]


def test_end_of_a_file_that_another_is_renamed_onto(watched: Watched, daemon: Daemon) -> None:
    (watched.path / "g").write_bytes(b"g")
    fuse = watched.guest.fuse
    target = fuse.lookup(watched.dir, "g").nodeid
    watched.events()
    fuse.fsnotify(watched.file, ALL)
    fuse.fsnotify(target, ALL)
    (watched.path / "f").rename(watched.path / "g")
    assert [(r.nodeid, r.mask, r.flags) for r in watched.events()] == [
        (watched.dir, MOVED_FROM, 0),
        (watched.dir, MOVED_TO, 0),
        (target, ATTRIB, 0),
        (watched.file, MOVE_SELF, 0),
        (target, 0, FSN_UNLINKED),
    ]


def test_end_of_a_watched_directory_whose_parent_is_not_watched(
    daemon: Daemon, guest: Session
) -> None:
    watched = Watched(daemon, guest)
    (daemon.share / "lone").mkdir()
    lone = guest.fuse.lookup(ROOT_ID, "lone").nodeid
    guest.fuse.fsnotify(lone, ALL | ON_CHILD)
    (daemon.share / "lone").rmdir()
    assert [(r.nodeid, r.mask, r.flags) for r in watched.events()] == [(lone, 0, FSN_UNLINKED)]


def test_second_link_keeps_an_object_alive(watched: Watched, daemon: Daemon) -> None:
    os.link(watched.path / "f", daemon.share / "second")
    watched.guest.fuse.fsnotify(watched.file, ALL)
    (watched.path / "f").unlink()
    assert [(r.nodeid, r.mask, r.flags) for r in watched.events()] == [
        (watched.file, ATTRIB, 0),
        (watched.dir, DELETE, 0),
    ]


def test_mask_zero_unsubscribes(watched: Watched, daemon: Daemon) -> None:
    other = watched.path / "other"
    other.mkdir()
    nodeid = watched.guest.fuse.lookup(watched.dir, "other").nodeid
    watched.guest.fuse.fsnotify(nodeid, CREATE | ON_CHILD)
    (other / "seen").touch()
    watched.guest.fuse.fsnotify(nodeid, 0)
    (other / "unseen").touch()
    names = {r.name for r in watched.events() if r.nodeid == nodeid}
    assert names == {b"seen"}
    assert len(daemon.fanotify_marks()) == 1


def test_forget_drops_the_watch(watched: Watched, daemon: Daemon) -> None:
    watched.guest.fuse.fsnotify(watched.file, MODIFY)
    assert len(daemon.fanotify_marks()) == 2
    watched.guest.fuse.forget(watched.file)
    # FORGET has no reply: ask on the same ring until it has been served.
    while len(daemon.fanotify_marks()) != 1:
        watched.guest.fuse.getattr(ROOT_ID)
    (watched.path / "f").write_bytes(b"still a child")
    assert {r.child for r in watched.events()} == {0}


def test_host_mask_follows_the_interest(watched: Watched, daemon: Daemon) -> None:
    def host_mask() -> int:
        (line,) = daemon.fanotify_marks()
        fields = dict(f.split(":", 1) for f in line.split() if ":" in f)
        return int(fields["mask"], 16)

    watched.guest.fuse.fsnotify(watched.dir, CREATE | ON_CHILD)
    small = host_mask()
    watched.guest.fuse.fsnotify(watched.dir, CREATE | MODIFY | ON_CHILD)
    assert host_mask() == small | MODIFY
    watched.guest.fuse.fsnotify(watched.dir, CREATE | ON_CHILD)
    assert host_mask() == small


def test_limit_of_watches(start: Callable[..., Daemon]) -> None:
    daemon = start("--fsnotify-max-watches=2")
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        for name in ("a", "b", "c"):
            (daemon.share / name).touch()
        a, b, c = (guest.fuse.lookup(ROOT_ID, name).nodeid for name in ("a", "b", "c"))
        guest.fuse.fsnotify(a, MODIFY)
        guest.fuse.fsnotify(b, MODIFY)
        with pytest.raises(FuseError, match="No space"):
            guest.fuse.fsnotify(c, MODIFY)
        guest.fuse.fsnotify(b, MODIFY | ATTRIB)
        guest.fuse.fsnotify(a, 0)
        guest.fuse.fsnotify(c, MODIFY)
        assert len(daemon.fanotify_marks()) == 2


@pytest.mark.parametrize("length", [1, 15, 16, 17, 254, 255])
def test_names_of_every_length(watched: Watched, length: int) -> None:
    name = b"n" * length
    (watched.path / os.fsdecode(name)).mkdir()
    assert watched.short() == [(CREATE | FS_ISDIR, name)]


def test_names_need_not_be_text(watched: Watched) -> None:
    name = b"\xff\xfe \n\x01"
    (watched.path / os.fsdecode(name)).mkdir()
    assert watched.short() == [(CREATE | FS_ISDIR, name)]


def test_events_wait_for_buffers_and_loss_is_told(start: Callable[..., Daemon]) -> None:
    daemon = start("--fsnotify-ring-kib=64")
    with Session.connect(daemon.socket, notify_buffers=4) as guest:
        guest.fuse.init()
        assert guest.notifications is not None
        guest.notifications.repost = False
        watched = Watched(daemon, guest, CREATE | ON_CHILD)
        for i in range(3000):
            (watched.path / f"{i:0100}").mkdir()
        guest.fuse.fsnotify(watched.dir, CREATE | ON_CHILD)  # its barrier: all is in the ring
        guest.notifications.repost = True
        guest.notifications.post(0)
        records = guest.notifications.read_now()
        while not any(r.mask == FS_Q_OVERFLOW for r in records):
            records += guest.notifications.read()
        names = [r.name for r in records if r.mask != FS_Q_OVERFLOW]
        assert names == [b"%0100d" % i for i in range(len(names))]
        assert 0 < len(names) < 3000
        assert records[-1].mask == FS_Q_OVERFLOW
        assert records[-1].nodeid == 0
        # And correct events again.
        (watched.path / "after").mkdir()
        assert watched_names(guest, b"after") == [b"after"]


def watched_names(guest: Session, last: bytes) -> list[bytes]:
    """Return names up to `last`."""
    assert guest.notifications is not None
    return [r.name for r in guest.notifications.read_until(lambda r: r.name == last)]


def test_barrier_places_older_events_before_the_reply(watched: Watched) -> None:
    assert watched.guest.notifications is not None
    for round_ in range(200):
        name = f"v{round_}"
        (watched.path / name).touch()
        watched.guest.notifications.read_now()
        os.truncate(watched.path / name, 1)
        watched.guest.fuse.unlink(watched.dir, name)
        # No waiting: who sees the reply sees the notification.
        told = [(r.mask, r.name) for r in watched.guest.notifications.read_now()]
        assert (MODIFY, name.encode()) in told


def test_a_new_session_hears_nothing_of_the_old(watched: Watched, daemon: Daemon) -> None:
    guest = watched.guest
    (watched.path / "old").touch()
    guest.reset()
    guest.fuse.init()
    assert daemon.fanotify_marks() == []
    with pytest.raises(FuseError):
        guest.fuse.getattr(watched.dir)
    again = guest.fuse.lookup(ROOT_ID, "d").nodeid
    guest.fuse.fsnotify(again, CREATE | DELETE | ON_CHILD)
    assert until_sentinel(guest, watched.path, again) == []


def with_an_event_that_waits(watched: Watched) -> Session:
    """Return a guest whose first event waits: its notification ring is where it began."""
    guest = watched.guest
    guest.front_end.set_vring_enable(1, False)
    (watched.path / "old").mkdir()
    guest.fuse.fsnotify(watched.dir, CREATE | DELETE | ON_CHILD)  # its barrier
    return guest


def test_a_new_session_hears_nothing_that_waited_for_the_first_event(watched: Watched) -> None:
    guest = with_an_event_that_waits(watched)
    guest.reset()
    guest.fuse.init()
    again = guest.fuse.lookup(ROOT_ID, "d").nodeid
    guest.fuse.fsnotify(again, CREATE | DELETE | ON_CHILD)
    assert until_sentinel(guest, watched.path, again) == []


def test_a_guest_that_goes_on_hears_what_waited_for_the_first_event(watched: Watched) -> None:
    guest = with_an_event_that_waits(watched)
    bases = guest.stop()
    assert bases[1] == 0
    for index, ring in enumerate(guest.rings):
        guest.front_end.start_ring(index, ring, bases[index])
    assert watched.short() == [(CREATE | FS_ISDIR, b"old")]


def test_stopped_ring_keeps_what_waits(watched: Watched) -> None:
    guest = watched.guest
    assert guest.notifications is not None
    guest.front_end.set_vring_enable(1, False)
    (watched.path / "while-off").mkdir()
    guest.fuse.fsnotify(watched.dir, ALL | ON_CHILD)  # its barrier
    assert guest.notifications.read_now() == []
    guest.front_end.set_vring_enable(1, True)
    assert watched.short() == [(CREATE | FS_ISDIR, b"while-off")]


@pytest.mark.parametrize("known", [False, True])
def test_event_of_a_subdirectory_reaches_the_watchers_of_its_directory(
    watched: Watched, known: bool
) -> None:
    (watched.path / "sub").mkdir()
    child = watched.guest.fuse.lookup(watched.dir, "sub").nodeid if known else 0
    watched.events()
    (watched.path / "sub").chmod(0o700)
    assert [(r.nodeid, r.child, r.mask, r.name) for r in watched.events()] == [
        (watched.dir, child, ATTRIB | FS_ISDIR, b"sub")
    ]


def test_a_burst_larger_than_the_event_ring(start: Callable[..., Daemon]) -> None:
    """The guest's buffers take what the ring has no room for, while the host is still read."""
    burst = 3000  # records: 256 buffers take 6 each, 128 KiB some 1600
    daemon = start("--fsnotify-ring-kib=128")
    with Session.connect(daemon.socket, notify_buffers=256) as guest:
        assert guest.notifications is not None
        guest.fuse.init()
        watched = Watched(daemon, guest, CREATE)
        os.kill(daemon.pid, signal.SIGSTOP)
        for number in range(burst):
            os.mknod(watched.path / f"a-name-of-{number:06}")
        guest.notifications.repost = False
        os.kill(daemon.pid, signal.SIGCONT)
        records: list[Record] = []
        for _ in range(256):
            records += guest.notifications.read()
        guest.notifications.repost = True
        guest.notifications.post()
        (watched.path / "last").mkdir()
        records += guest.notifications.read_until(lambda r: r.name == b"last")
        assert [r.mask for r in records] == [CREATE] * burst + [CREATE | FS_ISDIR]


@pytest.mark.parametrize("verb", ["unlink", "rmdir", "rename"])
def test_what_another_guest_removes_ends_at_once(
    watched: Watched, daemon: Daemon, start: Callable[..., Daemon], verb: str
) -> None:
    """And before its name does, though that guest's daemon has just had it open."""
    if verb == "rmdir":
        (watched.path / "g").mkdir()
    else:
        (watched.path / "g").touch()
    gone = watched.guest.fuse.lookup(watched.dir, "g").nodeid
    watched.guest.fuse.fsnotify(gone, ALL)
    watched.events()
    with Session.connect(start(share=daemon.share).socket) as other:
        other.fuse.init()
        directory = other.fuse.lookup(ROOT_ID, "d").nodeid
        other.fuse.getattr(other.fuse.lookup(directory, "g").nodeid)
        if verb == "rename":
            other.fuse.rename(directory, "f", directory, "g")
        else:
            getattr(other.fuse, verb)(directory, "g")
        events = watched.events()
        (end,) = [at for at, r in enumerate(events) if r.nodeid == gone and r.flags == FSN_UNLINKED]
        if verb != "rename":  # what is moved there comes before
            assert [r.mask & DELETE for r in events[end + 1 :]] == [DELETE]
