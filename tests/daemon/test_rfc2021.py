# SPDX-License-Identifier: BSD-3-Clause
"""``--fsnotify-dialect=rfc2021``, to a front-end that speaks it.

What the daemon of 2021 got wrong has a test each: copies for every group, names of 16 bytes and
more, buffers that never came back, losses in silence, DELETE_SELF, decoys called "x (deleted)", the
129th group, masks that inotify refuses, FSNOTIFY without leave, descriptors and memory that grew,
a core that burned, and a thread outside the sandbox.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
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
    OPEN,
)
from tests.daemon.running import INSTRUMENTED, Daemon, named_threads
from tests.frontend import ROOT_ID, FuseError, InitFlag, Opcode, Session
from tests.frontend.rfc2021 import (
    ADD,
    HAVE_FSNOTIFY,
    IN_ISDIR,
    IN_MASK_ADD,
    IN_Q_OVERFLOW,
    REMOVE,
    Event,
    Guest,
)

OPTION = "--fsnotify-dialect=rfc2021"
G1, G2, G3 = 0xFFFF_8880_0001_0000, 0xFFFF_8880_0002_0000, 1
WATCHER = 0xFFFF_8880_7777_0000  # the group that waits for sentinels
SENTINEL = b"sentinel"


@pytest.fixture
def daemon(start: Callable[..., Daemon]) -> Daemon:
    return start(OPTION)


@pytest.fixture
def guest(daemon: Daemon) -> Iterator[Guest]:
    with Session.connect(daemon.socket) as session:
        guest = Guest(session)
        assert guest.init().flags & HAVE_FSNOTIFY
        yield guest


def test_groups_of_an_inode_are_bounded(daemon: Daemon, guest: Guest) -> None:
    most = 1024
    one, other = (guest.fuse.mkdir(ROOT_ID, name).nodeid for name in ("one", "other"))
    for group in range(1, most + 1):
        guest.request(one, CREATE, group, ADD)
    with pytest.raises(FuseError) as refused:
        guest.request(one, CREATE, most + 1, ADD)
    assert refused.value.errno == errno.ENOSPC
    # What is there may change; another inode has groups of its own; one that goes makes room.
    guest.request(one, DELETE, most, ADD)
    guest.request(other, CREATE, most + 1, ADD)
    guest.request(one, DELETE, most, REMOVE)
    guest.request(one, CREATE, most + 1, ADD)
    # They go with the inode.
    guest.fuse.forget(one)
    again = guest.fuse.lookup(ROOT_ID, "one").nodeid
    guest.request(again, CREATE, most + 2, ADD)


class Tree:
    """A directory ``d`` with a file ``f``, and a place for sentinels that nobody else watches."""

    def __init__(self, daemon: Daemon, guest: Guest) -> None:
        self.guest = guest
        self.path = daemon.share / "d"
        self.path.mkdir()
        (self.path / "f").write_bytes(b"12345")
        self._signs = daemon.share / "signs"
        self._signs.mkdir()
        self.dir = guest.fuse.lookup(ROOT_ID, "d").nodeid
        self.file = guest.fuse.lookup(self.dir, "f").nodeid
        self._signs_node = guest.fuse.lookup(ROOT_ID, "signs").nodeid
        guest.add_watch(WATCHER, self._signs_node, DELETE)

    def events(self) -> list[Event]:
        """Return everything that was told up to now."""
        sign = self._signs / os.fsdecode(SENTINEL)
        sign.mkdir()
        sign.rmdir()
        heard = self.guest.hear_until(
            lambda e: (e.inode, e.mask) == (self._signs_node, DELETE | IN_ISDIR)
        )
        return heard[:-1]

    def short(self) -> list[tuple[int, int, bytes]]:
        return [(e.inode, e.mask, e.name) for e in self.events()]


@pytest.fixture
def tree(daemon: Daemon, guest: Guest) -> Tree:
    return Tree(daemon, guest)


def host_masks(daemon: Daemon) -> dict[int, int]:
    """Return the mask of each host watch, by inode number."""
    found = {}
    for line in daemon.fdinfo():
        if line.startswith("inotify wd:"):
            fields = dict(word.split(":", 1) for word in line.split() if ":" in word)
            found[int(fields["ino"], 16)] = int(fields["mask"], 16)
    return found


def test_init_grants_bit_30_to_a_kernel_of_2021_only(start: Callable[..., Daemon]) -> None:
    with Session.connect(start(OPTION).socket) as session:
        assert Guest(session).init(HAVE_FSNOTIFY).flags == HAVE_FSNOTIFY
        assert Guest(session).init(InitFlag.BIG_WRITES).flags == InitFlag.BIG_WRITES
        # To any other kernel the bit is INIT_EXT, and opcode 51 is TMPFILE.
        reply = session.fuse.init()
        assert InitFlag.INIT_EXT in reply.flags
        assert InitFlag.HAS_FSNOTIFY not in reply.flags
        with pytest.raises(FuseError) as caught:
            session.fuse.tmpfile(ROOT_ID)
        assert caught.value.errno == errno.ENOSYS
    with Session.connect(start(OPTION, "--fsnotify=off").socket) as session:
        assert session.notifications is None


def test_fsnotify_without_leave_is_refused(daemon: Daemon) -> None:
    with Session.connect(daemon.socket) as session:
        guest = Guest(session)
        assert guest.init(InitFlag.BIG_WRITES).flags == InitFlag.BIG_WRITES
        with pytest.raises(FuseError) as caught:
            guest.add_watch(G1, ROOT_ID, CREATE)
        assert caught.value.errno == errno.ENOSYS
        session.fuse.getattr(ROOT_ID)
        assert guest.init().flags & HAVE_FSNOTIFY
        guest.add_watch(G1, ROOT_ID, CREATE)
        with pytest.raises(FuseError) as caught:
            session.fuse.fsnotify(ROOT_ID, CREATE)  # the other dialect
        assert caught.value.errno == errno.ENOSYS


def test_doing_of_the_host(tree: Tree) -> None:
    tree.guest.add_watch(G1, tree.dir, ALL)
    (tree.path / "n").write_bytes(b"x")
    (tree.path / "n").read_bytes()
    (tree.path / "n").chmod(0o600)
    (tree.path / "n").rename(tree.path / "m")
    (tree.path / "m").unlink()
    d = tree.dir
    assert tree.short() == [
        (d, CREATE, b"n"),
        (d, OPEN, b"n"),
        (d, MODIFY, b"n"),
        (d, CLOSE_WRITE, b"n"),
        (d, OPEN, b"n"),
        (d, ACCESS, b"n"),
        (d, CLOSE_NOWRITE, b"n"),
        (d, ATTRIB, b"n"),
        (d, MOVED_FROM, b"n"),
        (d, MOVED_TO, b"m"),
        (d, DELETE, b"m"),
    ]


def test_doing_of_the_guest_comes_from_here_too(tree: Tree) -> None:
    tree.guest.add_watch(G1, tree.dir, ALL)
    fuse = tree.guest.fuse
    opened = fuse.open(tree.file, os.O_RDWR)
    fuse.write(tree.file, opened.fh, 0, b"guest")
    fuse.release(tree.file, opened.fh, os.O_RDWR)
    fuse.mkdir(tree.dir, "sub")
    fuse.rename(tree.dir, "f", tree.dir, "g")
    d = tree.dir
    assert tree.short() == [
        (d, OPEN, b"f"),
        (d, MODIFY, b"f"),
        (d, CLOSE_WRITE, b"f"),
        (d, CREATE | IN_ISDIR, b"sub"),
        (d, MOVED_FROM, b"f"),
        (d, MOVED_TO, b"g"),
    ]


def test_rename_has_one_cookie(tree: Tree) -> None:
    tree.guest.add_watch(G1, tree.dir, ALL)
    (tree.path / "f").rename(tree.path / "g")
    (tree.path / "g").rename(tree.path / "h")
    first_from, first_to, second_from, second_to = tree.events()
    assert first_from.cookie == first_to.cookie != 0
    assert second_from.cookie == second_to.cookie != first_from.cookie


def test_only_what_a_group_asked_for_is_told(tree: Tree) -> None:
    tree.guest.add_watch(G1, tree.file, MOVE_SELF)
    (tree.path / "f").chmod(0o600)
    (tree.path / "f").write_bytes(b"new")
    (tree.path / "f").rename(tree.path / "g")
    (tree.path / "g").unlink()
    assert tree.short() == [(tree.file, MOVE_SELF, b"")]


@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 32, 33, 239, 240, 254, 255])
def test_names_of_every_length_in_one_buffer_each(tree: Tree, length: int) -> None:
    tree.guest.add_watch(G1, tree.dir, CREATE | DELETE)
    name = b"\xff" + b"n" * (length - 1)
    for _ in range(20):  # more than there are buffers: each comes back
        (tree.path / os.fsdecode(name)).mkdir()
        (tree.path / os.fsdecode(name)).rmdir()
    made = (tree.dir, CREATE | IN_ISDIR, name)
    assert tree.short() == [made, (tree.dir, DELETE | IN_ISDIR, name)] * 20


def test_end_of_a_file_and_of_a_directory(tree: Tree, daemon: Daemon) -> None:
    (daemon.share / "lone").mkdir()
    lone = tree.guest.fuse.lookup(ROOT_ID, "lone").nodeid
    tree.guest.add_watch(G1, tree.file, ALL)
    tree.guest.add_watch(G2, lone, DELETE_SELF)
    (tree.path / "f").unlink()
    (daemon.share / "lone").rmdir()
    assert tree.short() == [
        (tree.file, ATTRIB, b""),
        (tree.file, DELETE_SELF, b""),
        (lone, DELETE_SELF, b""),
    ]


def test_end_comes_before_the_reply_of_the_guests_own_unlink(tree: Tree) -> None:
    tree.guest.add_watch(G1, tree.file, DELETE_SELF)
    tree.guest.fuse.unlink(tree.dir, "f")
    used = tree.guest.notifications.ring.pop_used()
    assert used is not None  # without waiting


@pytest.mark.parametrize("handles", ["never", "prefer"])
def test_end_is_told_once_however_inodes_are_held(
    start: Callable[..., Daemon], handles: str
) -> None:
    daemon = start(OPTION, f"--inode-file-handles={handles}")
    with Session.connect(daemon.socket) as session:
        guest = Guest(session)
        guest.init()
        tree = Tree(daemon, guest)
        guest.add_watch(G1, tree.file, DELETE_SELF)
        with (tree.path / "f").open("rb") as held:
            (tree.path / "f").unlink()
            os.fchmod(held.fileno(), 0o600)
            os.fchmod(held.fileno(), 0o644)
        # What is not told yet when a guest forgets a file need not be told any more.
        told = tree.short()
        guest.fuse.forget(tree.file)
        assert told + tree.short() == [(tree.file, DELETE_SELF, b"")]


def test_second_link_is_not_the_end(tree: Tree, daemon: Daemon) -> None:
    os.link(tree.path / "f", daemon.share / "second")
    tree.guest.add_watch(G1, tree.file, DELETE_SELF)
    (tree.path / "f").unlink()
    assert tree.short() == []
    (daemon.share / "second").unlink()
    assert tree.short() == [(tree.file, DELETE_SELF, b"")]


def test_groups_get_one_copy_between_them(tree: Tree) -> None:
    guest = tree.guest
    guest.add_watch(G1, tree.dir, CREATE)
    guest.add_watch(G2, tree.dir, CREATE | DELETE)
    guest.add_watch(G3, tree.dir, DELETE)
    (tree.path / "n").mkdir()
    (tree.path / "n").rmdir()
    made, gone = tree.events()
    assert (made.mask, gone.mask) == (CREATE | IN_ISDIR, DELETE | IN_ISDIR)
    assert guest.groups[G1].read() == [made]
    assert guest.groups[G2].read() == [made, gone]
    assert guest.groups[G3].read() == [gone]


def test_a_group_that_leaves_takes_only_its_own(tree: Tree) -> None:
    guest = tree.guest
    guest.add_watch(G1, tree.dir, CREATE | DELETE)
    guest.add_watch(G2, tree.dir, CREATE)
    guest.close_group(G1)
    (tree.path / "n").mkdir()
    (tree.path / "n").rmdir()
    assert tree.short() == [(tree.dir, CREATE | IN_ISDIR, b"n")]
    guest.close_group(G2)
    (tree.path / "n").mkdir()
    assert tree.short() == []


def test_modify_replaces_unless_it_adds(tree: Tree) -> None:
    guest = tree.guest
    guest.add_watch(G1, tree.dir, CREATE)
    guest.add_watch(G1, tree.dir, DELETE)
    (tree.path / "n").mkdir()
    (tree.path / "n").rmdir()
    assert tree.short() == [(tree.dir, DELETE | IN_ISDIR, b"n")]
    guest.add_watch(G1, tree.dir, CREATE | IN_MASK_ADD)
    (tree.path / "n").mkdir()
    (tree.path / "n").rmdir()
    assert tree.short() == [
        (tree.dir, CREATE | IN_ISDIR, b"n"),
        (tree.dir, DELETE | IN_ISDIR, b"n"),
    ]


def test_groups_beyond_the_128_of_2021(tree: Tree, daemon: Daemon) -> None:
    guest = tree.guest
    names = [0xFFFF_8880_0000_0000 + i * 0x400 for i in range(300)]
    for i, name in enumerate(names):
        guest.add_watch(name, tree.dir, CREATE if i % 2 else DELETE)
    (tree.path / "n").mkdir()
    (tree.path / "n").rmdir()
    made, gone = tree.events()
    for i, name in enumerate(names):
        assert guest.groups[name].read() == [made if i % 2 else gone]
    for name in names:
        guest.close_group(name)
    assert os.stat(tree.path).st_ino not in host_masks(daemon)


@pytest.mark.parametrize(
    ("mask", "action"),
    [
        (0, ADD),
        (IN_MASK_ADD, ADD),
        (IN_ISDIR, ADD),
        (CREATE | 1 << 16, ADD),
        (CREATE | 1 << 32, ADD),
        ((1 << 64) - 1, ADD),
        (CREATE, 2),
        (CREATE, 0xFFFF_FFFF),
    ],
)
def test_what_inotify_would_refuse_is_refused(tree: Tree, mask: int, action: int) -> None:
    tree.guest.add_watch(G1, tree.dir, DELETE)
    with pytest.raises(FuseError) as caught:
        tree.guest.request(tree.dir, mask, G1, action)
    assert caught.value.errno == errno.EINVAL
    (tree.path / "n").mkdir()
    (tree.path / "n").rmdir()
    assert tree.short() == [(tree.dir, DELETE | IN_ISDIR, b"n")]


def test_stumps_and_strangers_are_refused(tree: Tree) -> None:
    for size in range(24):
        with pytest.raises(FuseError) as caught:
            tree.guest.fuse.request(51, tree.dir, b"\1" * size)
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(FuseError) as caught:
        tree.guest.request(0x1234_5678, CREATE, G1, ADD)
    assert caught.value.errno == errno.ESTALE
    tree.guest.request(tree.dir, 0, G1, REMOVE)  # of nothing: as harmless as it sounds


def test_decoy_is_not_watched(tree: Tree, daemon: Daemon) -> None:
    opened = tree.guest.fuse.open(tree.file, os.O_RDWR)
    (tree.path / "f").unlink()
    decoy = tree.path / "f (deleted)"
    decoy.write_bytes(b"decoy")
    tree.guest.add_watch(G1, tree.file, MODIFY)
    decoy.write_bytes(b"not this")
    tree.guest.fuse.write(tree.file, opened.fh, 0, b"this")
    assert tree.short() == [(tree.file, MODIFY, b"")]
    assert decoy.stat().st_ino not in host_masks(daemon)


def test_limit_of_watches(start: Callable[..., Daemon]) -> None:
    daemon = start(OPTION, "--fsnotify-max-watches=2")
    with Session.connect(daemon.socket) as session:
        guest = Guest(session)
        guest.init()
        tree = Tree(daemon, guest)
        guest.add_watch(G1, tree.dir, CREATE)
        guest.add_watch(G2, tree.dir, CREATE)  # no host watch more
        with pytest.raises(FuseError, match="No space"):
            guest.add_watch(G1, tree.file, MODIFY)
        guest.close_group(G1)
        guest.close_group(G2)
        guest.add_watch(G1, tree.file, MODIFY)


def test_loss_is_told_when_buffers_run_out(start: Callable[..., Daemon]) -> None:
    daemon = start(OPTION, "--fsnotify-ring-kib=64")
    with Session.connect(daemon.socket, notify_buffers=4) as session:
        guest = Guest(session)
        guest.init()
        guest.notifications.repost = False
        tree = Tree(daemon, guest)
        guest.add_watch(G1, tree.dir, CREATE)
        for i in range(3000):
            (tree.path / f"{i:0100}").mkdir()
        guest.fuse.unlink(tree.dir, "f")  # a barrier
        guest.notifications.repost = True
        heard = guest.hear_until(lambda e: e.mask == IN_Q_OVERFLOW)
        assert heard[-1] == Event(ROOT_ID, IN_Q_OVERFLOW, 0, b"")
        names = [e.name for e in heard[:-1]]
        assert names == [b"%0100d" % i for i in range(len(names))]
        assert 4 < len(names) < 3000
        (tree.path / "after").mkdir()
        assert tree.short() == [(tree.dir, CREATE | IN_ISDIR, b"after")]


def test_loss_is_told_when_the_hosts_queue_overflows(tree: Tree, daemon: Daemon) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    tree.guest.add_watch(G1, tree.dir, ATTRIB | CREATE)
    (tree.path / "g").touch()
    with daemon.stopped():
        for _ in range(limit // 2 + 100):  # in turns, so that none is merged
            (tree.path / "f").chmod(0o600)
            (tree.path / "g").chmod(0o600)
    tree.guest.hear_until(lambda e: e == Event(ROOT_ID, IN_Q_OVERFLOW, 0, b""))
    (tree.path / "after").mkdir()
    assert (tree.dir, CREATE | IN_ISDIR, b"after") in tree.short()


def test_nothing_grows_with_use(start: Callable[..., Daemon]) -> None:
    daemon = start(OPTION, "--fsnotify-ring-kib=64")  # soon touched in whole

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    def use(tree: Tree, rounds: int) -> None:
        for i in range(rounds):
            tree.guest.add_watch(G1 + i, tree.file, MODIFY)
            tree.guest.add_watch(G1 + i, tree.dir, CREATE | DELETE)
            for _ in range(10):
                (tree.path / "n").mkdir()
                (tree.path / "n").rmdir()
            tree.guest.close_group(G1 + i)
            tree.events()

    with Session.connect(daemon.socket) as session:
        guest = Guest(session)
        guest.init()
        tree = Tree(daemon, guest)
        use(tree, 100)  # allocators and caches settle
        before = descriptors(), daemon.resident_kib()
        use(tree, 200)
        assert descriptors() == before[0]
        # 4000 notifications and 400 watches: 128 bytes for each would show.
        assert daemon.resident_kib() - before[1] < 256 or INSTRUMENTED


def test_an_idle_daemon_sleeps(tree: Tree, daemon: Daemon) -> None:
    def wakeups() -> int:
        (task,) = named_threads(daemon.pid)["vfsd-events"]
        status = (task / "status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    tree.guest.add_watch(G1, tree.dir, ALL)
    tree.events()

    def wakeups_beside_requests() -> int:
        before = wakeups()
        for _ in range(500):
            tree.guest.fuse.getattr(ROOT_ID)
        return wakeups() - before

    # Buffers that were given back may still be on their way, but not for long.
    assert wakeups_beside_requests() <= 2 or wakeups_beside_requests() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_every_thread_is_in_the_sandbox(tree: Tree, daemon: Daemon) -> None:
    tree.guest.add_watch(G1, tree.dir, CREATE)
    limits = set()
    for task in Path(f"/proc/{daemon.pid}/task").iterdir():
        status = (task / "status").read_text()
        limits.add(
            (
                status.partition("\nSeccomp:")[2].split()[0],
                status.partition("\nCapPrm:")[2].split()[0],
                os.readlink(task / "root"),
            )
        )
    assert len(limits) == 1
    assert limits.pop()[0] == "2"


def test_a_new_session_hears_nothing_of_the_old(tree: Tree, daemon: Daemon) -> None:
    guest = tree.guest
    guest.add_watch(G1, tree.dir, CREATE)
    (tree.path / "old").mkdir()
    guest.session.reset()
    guest.init()
    assert host_masks(daemon) == {}
    again = guest.fuse.lookup(ROOT_ID, "d").nodeid
    guest.add_watch(G1, again, CREATE)
    (tree.path / "new").mkdir()
    (event,) = guest.hear_until(lambda e: e.inode == again)
    assert event.name == b"new"


MASKS = st.sampled_from([CREATE, DELETE, MODIFY, CREATE | MODIFY, ATTRIB, OPEN | ACCESS, ALL])
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.integers(0, 4),
            st.integers(0, 3),
            st.tuples(MASKS, st.booleans()),
        ),
        st.tuples(st.just("remove"), st.integers(0, 4), st.integers(0, 3), st.none()),
        st.tuples(st.just("close"), st.integers(0, 4), st.none(), st.none()),
        st.tuples(st.just("forget"), st.none(), st.integers(0, 3), st.none()),
    ),
    max_size=30,
)


def test_host_masks_are_the_union_of_groups(guest: Guest, daemon: Daemon) -> None:
    """Before every reply, growth and shrinking alike; and one DESTROY ends all."""
    directory = daemon.share / "d"
    directory.mkdir()
    paths = [directory, *(directory / name for name in "abc")]
    for path in paths[1:]:
        path.touch()
    inos = [path.stat().st_ino for path in paths]
    always = ATTRIB | DELETE_SELF  # the end of an object is always watched for
    nodes: list[int] = []

    def expected() -> dict[int, int]:
        masks = {}
        for i, (node, ino) in enumerate(zip(nodes, inos, strict=True)):
            if mask := guest.wanted(node):
                dirent = 0 if i == 0 else CREATE | DELETE | MOVED_FROM | MOVED_TO
                masks[ino] = (mask | always) & ~dirent
        return masks

    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(STEPS)
    def steps(script: list[tuple[str, int, int, tuple[int, bool]]]) -> None:
        guest.fuse.request(Opcode.DESTROY, 0)
        assert host_masks(daemon) == {}
        guest.groups.clear()
        guest.init()
        nodes[:] = [guest.fuse.lookup(ROOT_ID, "d").nodeid]
        nodes.extend(guest.fuse.lookup(nodes[0], name).nodeid for name in "abc")
        for verb, group, index, mask in script:
            watches = guest.groups[group].watches if group in guest.groups else {}
            if verb == "add":
                guest.add_watch(group, nodes[index], mask[0] | (IN_MASK_ADD if mask[1] else 0))
            elif verb == "remove" and nodes[index] in watches:
                guest.rm_watch(group, nodes[index])
            elif verb == "close" and group in guest.groups:
                guest.close_group(group)
            elif verb == "forget" and index != 0:
                guest.fuse.forget(nodes[index])
                for each in guest.groups.values():
                    each.watches.pop(nodes[index], None)
                nodes[index] = guest.fuse.lookup(nodes[0], "abc"[index - 1]).nodeid
            # FORGET has no reply and goes over another ring.
            for _ in range(100):
                if verb != "forget" or host_masks(daemon) == expected():
                    break
                guest.fuse.getattr(ROOT_ID)
            assert {i: m & ALL for i, m in host_masks(daemon).items()} == expected()

    steps()
