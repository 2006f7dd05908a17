# SPDX-License-Identifier: BSD-3-Clause
"""The mount table: what is read of it, and what two readings differ by, against naive ones."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from virtiofsd_py._records import MountChange, RecordType, SuperblockChange

from virtiofsd_py.fsnotify.mounts import Mount, compare, parse
from virtiofsd_py.structures import MountReport

# proc_pid_mountinfo(5), with optional fields, odd names and other mounts about.
TABLE = rb"""27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 0:27 / /srv rw - tmpfs tmpfs rw
31 30 0:28 /part /srv/share rw,relatime master:2 propagate_from:1 - ext4 /dev/vdb ro
32 31 0:29 / /srv/share/a\040b\134c ro,nosuid - tmpfs none rw,size=4k
33 31 254:0 /home /srv/share/d/e rw - ext4 /dev/vda rw
34 30 0:30 / /srv/share2 rw - tmpfs none rw
"""


def brief(mount: Mount) -> tuple[int, bytes, bytes, bool, bool]:
    return mount.number, mount.path, mount.kind, mount.readonly, mount.superblock_readonly


def test_what_is_below_the_share() -> None:
    found = parse(TABLE, b"/srv/share")
    assert [brief(found[n]) for n in sorted(found)] == [
        (31, b"", b"ext4", False, True),
        (32, rb"a b\c", b"tmpfs", True, False),
        (33, b"d/e", b"ext4", False, False),
    ]
    assert (found[33].major, found[33].minor, found[33].part) == (254, 0, b"/home")


def test_a_share_that_is_no_mount_point() -> None:
    found = parse(TABLE, b"/srv/share/d")
    assert {(m.number, m.path) for m in found.values()} == {(31, b""), (33, b"e")}


def test_a_share_that_is_the_root() -> None:
    found = parse(TABLE, b"/")
    assert found[27].path == b""
    assert found[33].path == b"srv/share/d/e"
    assert len(found) == 6


PATHS = [b"", b"a", b"a/b", b"c"]
MOUNT = st.builds(
    Mount,
    number=st.integers(1, 6),
    major=st.just(0),
    minor=st.integers(1, 3),
    part=st.sampled_from([b"/", b"/x"]),
    path=st.sampled_from(PATHS),
    kind=st.just(b"tmpfs"),
    readonly=st.booleans(),
    superblock_readonly=st.booleans(),
)
TABLES = st.lists(MOUNT, max_size=6, unique_by=lambda m: m.number).map(
    lambda mounts: {m.number: m for m in mounts}
)


def expected(before: dict[int, Mount], after: dict[int, Mount]) -> Iterator[tuple[int, int, str]]:
    for number in before.keys() | after.keys():
        old, new = before.get(number), after.get(number)
        moved = old and new and old.path != new.path
        if old and old.path and (not new or moved):
            yield RecordType.MOUNT, number, "UNMOUNTED"
        if new and new.path and (not old or moved):
            yield RecordType.MOUNT, number, "MOUNTED"
        if old and new and not moved and new.path and old.readonly != new.readonly:
            yield RecordType.MOUNT, number, "READONLY" if new.readonly else "READWRITE"
        if old and new and old.superblock_readonly != new.superblock_readonly:
            what = "READONLY" if new.superblock_readonly else "READWRITE"
            yield RecordType.SUPERBLOCK, number, what


def name(record: MountReport) -> str:
    kind = MountChange if record.type is RecordType.MOUNT else SuperblockChange
    return kind(record.subtype).name.replace("BOUND", "MOUNTED")


@given(TABLES, TABLES)
def test_differences(before: dict[int, Mount], after: dict[int, Mount]) -> None:
    changes = [(r.type, r.number, name(r)) for r in compare(before, after)]
    assert sorted(changes) == sorted(expected(before, after))
    assert list(compare(after, after)) == []


def test_bind_mounts_are_told_apart() -> None:
    before = parse(TABLE, b"/srv/share")
    line = b"40 31 %s %s /srv/share/n rw - ext4 /dev/x rw\n"
    for device, part, change in (
        (b"0:29", b"/", MountChange.BOUND),
        (b"0:99", b"/part", MountChange.BOUND),
        (b"0:99", b"/", MountChange.MOUNTED),
    ):
        (record,) = compare(before, parse(TABLE + line % (device, part), b"/srv/share"))
        assert (record.subtype, record.path) == (change, b"n")
