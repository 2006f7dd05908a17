# SPDX-License-Identifier: BSD-3-Clause
"""A fanotify mark on the whole share: what the host does anywhere in it, looked up or not.

Everything older than a scene's sentinel has come when that has, see ``test_marks``. What is
compared is which events each path has had; fanotify merges those of one path.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from conftest import Stage
from runguest import paths
from runguest.actors import Step
from runguest.agent import Agent, Guest
from runguest.events import Mask
from runguest.scene import Scene
from runguest.words import decode
from test_marks import launcher

# Linux include/uapi/linux/fanotify.h
FID: Final = 0x200
DFID_NAME: Final = 0xC00
DFID_NAME_TARGET: Final = 0xC00 | 0x200 | 0x1000
MARK_FILESYSTEM: Final = 0x100

PRIVILEGED: Final = "--daemon-arg=--modcaps=+sys_admin"
MASK: Final = (
    Mask.CREATE
    | Mask.DELETE
    | Mask.MOVED_FROM
    | Mask.MOVED_TO
    | Mask.MODIFY
    | Mask.ATTRIB
    | Mask.CLOSE_WRITE
    | Mask.ISDIR
)
NAMING: Final = pytest.mark.parametrize(
    "report", [DFID_NAME, DFID_NAME_TARGET], ids=["DFID_NAME", "DFID_NAME_TARGET"]
)


@pytest.fixture(scope="session")
def whole_stage(world: str, stage: Stage, make_guest: Callable[..., Guest]) -> Iterator[Stage]:
    """A daemon that may watch whole file systems; in the local world the local one."""
    if world == "local":
        yield stage
        return
    with ExitStack() as stack:
        options = ("--daemon-arg=--cache=always", PRIVILEGED)
        guest = stack.enter_context(make_guest(world, *options))
        yield Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), True, guest)


class Group:
    """A fanotify group with a mark on the file system that a scene is on."""

    def __init__(self, scene: Scene, stage: Stage, report: int, mask: int = int(MASK)) -> None:
        self._scene = scene
        self._mount = bytes(stage.mount)
        self._home = scene.guest.path(b"")
        self._group = scene.agent.call("fanotify", report)
        scene.agent.call("mark", self._group, MARK_FILESYSTEM, mask, scene.guest.path(b"."))

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self._scene.agent.call("close", self._group)

    def all(self) -> list[tuple[str, Mask, str]]:
        """All events: who, what and where; the path as the guest sees it."""
        self._scene.settle()
        self._scene.agent.send("places", self._group, self._mount)
        words, _ = self._scene.agent.reply()
        events = []
        for event, place in zip(words[::2], words[1::2], strict=True):
            mask, whose = event.split(":")
            who = "guest" if whose == "ours" else "host"
            events.append((who, Mask(int(mask, 0)), os.fsdecode(decode(place))))
        return events

    def seen(self) -> dict[tuple[str, str], Mask]:
        """What has happened in the scene: who and the path there, with all bits of its events."""
        home = os.fsdecode(self._home)
        found: dict[tuple[str, str], Mask] = {}
        for who, mask, place in self.all():
            if place.startswith(home):
                key = (who, place.removeprefix(home))
                found[key] = found.get(key, Mask(0)) | mask
        return found


DEEP: Final[Sequence[tuple[str, Sequence[Step], Sequence[Step], dict[str, Mask]]]] = (
    (
        "create",
        [],
        [("mkdir", b"a"), ("mkdir", b"a/b"), ("file", b"a/b/f")],
        {
            "a": Mask.CREATE | Mask.ISDIR,
            "a/b": Mask.CREATE | Mask.ISDIR,
            "a/b/f": Mask.CREATE | Mask.MODIFY | Mask.CLOSE_WRITE,
        },
    ),
    (
        "modify",
        [("mkdir", b"a"), ("mkdir", b"a/b"), ("file", b"a/b/f")],
        [("truncate", b"a/b/f")],
        {"a/b/f": Mask.MODIFY},
    ),
    (
        "attrib",
        [("mkdir", b"a"), ("mkdir", b"a/b"), ("file", b"a/b/f")],
        [("chmod", b"a/b/f"), ("chmod", b"a/b")],
        {"a/b/f": Mask.ATTRIB, "a/b": Mask.ATTRIB | Mask.ISDIR},
    ),
    (
        "rename",
        [("mkdir", b"a"), ("mkdir", b"a/b"), ("mkdir", b"c"), ("mknod", b"a/b/f")],
        [("rename", b"a/b/f", b"c/g")],
        {"a/b/f": Mask.MOVED_FROM, "c/g": Mask.MOVED_TO},
    ),
    (
        "delete",
        [("mkdir", b"a"), ("mkdir", b"a/b"), ("mknod", b"a/b/f")],
        [("unlink", b"a/b/f")],
        {"a/b/f": Mask.DELETE},
    ),
    (
        "move-directory",
        [("mkdir", b"a"), ("mkdir", b"a/b"), ("mkdir", b"c")],
        [("rename", b"a/b", b"c/d"), ("mknod", b"c/d/f")],
        {
            "a/b": Mask.MOVED_FROM | Mask.ISDIR,
            "c/d": Mask.MOVED_TO | Mask.ISDIR,
            "c/d/f": Mask.CREATE,
        },
    ),
)


@NAMING
@pytest.mark.parametrize(
    ("given", "act", "expect"), [c[1:] for c in DEEP], ids=[c[0] for c in DEEP]
)
def test_what_nobody_has_looked_up(
    whole_stage: Stage,
    report: int,
    given: Sequence[Step],
    act: Sequence[Step],
    expect: dict[str, Mask],
) -> None:
    with whole_stage.scene() as scene:
        scene.host.run(given)
        with Group(scene, whole_stage, report) as group:
            scene.host.run(act)
            assert group.seen() == {("host", path): mask for path, mask in expect.items()}


def test_a_group_without_names(whole_stage: Stage) -> None:
    with whole_stage.scene() as scene, Group(scene, whole_stage, FID) as group:
        scene.host.run([("mkdir", b"a"), ("mkdir", b"a/b"), ("mknod", b"a/b/f")])
        home = os.fsdecode(scene.guest.path(b""))
        events = [(mask, f"{place}/") for _, mask, place in group.all()]
        assert [(m, p.removeprefix(home)) for m, p in events if p.startswith(home)] == [
            (Mask.CREATE | Mask.ISDIR, ""),
            (Mask.CREATE | Mask.ISDIR, "a/"),
            (Mask.CREATE, "a/b/"),
        ]


def test_who_marks_the_whole_finds_what_is_there(whole_stage: Stage) -> None:
    """No event will report what was changed before, so it must not be hidden by a cache."""
    with whole_stage.scene() as scene:
        scene.host.run([("mkdir", b"d"), ("file", b"d/f", b"old")])
        old, new = scene.guest.path(b"d/f"), scene.guest.path(b"d/new")
        assert scene.agent.call("size", old) == len(b"old")
        with pytest.raises(FileNotFoundError):
            scene.agent.call("size", new)
        scene.host.run([("truncate", b"d/f"), ("file", b"d/new", b"1234")])
        with Group(scene, whole_stage, DFID_NAME) as group:
            assert scene.agent.call("size", old) == 1
            assert scene.agent.call("size", new) == len(b"1234")
            assert group.seen() == {}


@pytest.mark.parametrize("report", [FID, DFID_NAME], ids=["FID", "DFID_NAME"])
def test_a_group_without_names_hears_of_known_files_only(
    whole_stage: Stage, world: str, report: int
) -> None:
    """It wants the handle of the file itself, which the guest has of no other; README says so."""
    with whole_stage.scene() as scene:
        scene.host.run([("file", b"known"), ("file", b"unknown")])
        scene.agent.call("size", scene.guest.path(b"known"))
        all_files = report != FID or world == "local"
        with Group(scene, whole_stage, report) as group:
            scene.host.run([("truncate", b"known"), ("truncate", b"unknown")])
            files = ["known", "unknown"] if all_files else ["known"]
            assert group.seen() == {("host", name): Mask.MODIFY for name in files}


@NAMING
def test_each_change_once_whoever_made_it(whole_stage: Stage, report: int) -> None:
    """Beside watches of the same names, in this group and by inotify."""
    with whole_stage.scene() as scene:
        scene.host.run([("mkdir", b"d")])
        with Group(scene, whole_stage, report) as group:
            scene.watch("dir", b"d", Mask.CREATE | Mask.DELETE)
            for who, actor in (("host", scene.host), ("guest", scene.guest)):
                actor.run([("mknod", b"d/f")])
                assert scene.settle() == {"dir": ["CREATE f"]}
                assert [e for e in group.all() if e[2].endswith("/d/f")] == [
                    (who, Mask.CREATE, os.fsdecode(scene.guest.path(b"d/f")))
                ]
                actor.run([("unlink", b"d/f")])
                assert scene.settle() == {"dir": ["DELETE f"]}
                assert [e[:2] for e in group.all() if e[2].endswith("/d/f")] == [(who, Mask.DELETE)]


# -- what must not be seen -----------------------------------------------------------------------


def test_outside_of_the_share_nothing_is_seen(whole_stage: Stage, world: str) -> None:
    if world == "local":
        return  # there is no outside
    outside = whole_stage.share.parent / "outside"
    outside.mkdir(exist_ok=True)
    with whole_stage.scene() as scene, Group(scene, whole_stage, DFID_NAME) as group:
        (outside / "secret").write_bytes(b"x")
        (outside / "secret").rename(outside / "still")
        (outside / "still").unlink()
        (outside / "d").mkdir()
        (outside / "d").rmdir()
        places = [place for _, _, place in group.all()]
        assert [place for place in places if not place.startswith(paths.GUEST_SHARE)] == []
        assert [place for place in places if "secret" in place or "still" in place] == []


def test_what_is_not_asked_for_is_not_seen(whole_stage: Stage) -> None:
    with whole_stage.scene() as scene:
        mask = int(Mask.CREATE | Mask.ISDIR)
        with Group(scene, whole_stage, DFID_NAME, mask) as group:
            scene.host.run([("mkdir", b"a"), ("file", b"a/f"), ("unlink", b"a/f")])
            assert group.seen() == {
                ("host", "a"): Mask.CREATE | Mask.ISDIR,
                ("host", "a/f"): Mask.CREATE,
            }


def test_after_the_mark_is_gone_nothing_is_seen(whole_stage: Stage) -> None:
    with whole_stage.scene() as scene:
        with Group(scene, whole_stage, DFID_NAME):
            scene.host.run([("mkdir", b"a")])
        scene.watch("dir", b".", Mask.CREATE)
        scene.host.run([("mkdir", b"b"), ("mknod", b"a/f")])
        assert scene.settle() == {"dir": ["CREATE|ISDIR b"]}


def test_without_privilege_the_guest_sees_itself(guest_stage: Stage) -> None:
    with guest_stage.scene() as scene, Group(scene, guest_stage, DFID_NAME) as group:
        scene.host.run([("mkdir", b"a"), ("mknod", b"a/f")])
        scene.guest.run([("mknod", b"a/g")])
        assert group.seen() == {("guest", "a/g"): Mask.CREATE}


def test_with_the_feature_off_there_is_no_such_mark(deaf_stage: Stage) -> None:
    """Without remote events there is no fsid, and so no such mark."""
    with deaf_stage.scene() as scene, pytest.raises(OSError, match="No such device"):
        Group(scene, deaf_stage, DFID_NAME)


# -- errors of the host's file systems -----------------------------------------------------------

FS_ERROR: Final = 0x8000


@pytest.fixture
def disks(case_root: Path) -> Iterator[list[Path]]:
    """Two disks with an ext4 each, not mounted."""
    with ExitStack() as stack:
        devices = []
        for name in ("one", "other"):
            image = case_root / f"{name}.img"
            with image.open("wb") as file:
                file.truncate(8 << 20)
            subprocess.run(["mkfs.ext4", "-q", image], check=True)
            found = subprocess.run(
                ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
            )
            devices.append(Path(found.stdout.strip()))
            stack.callback(subprocess.check_call, ["losetup", "--detach", devices[-1]])
        yield devices


def fail(disk: Path, times: int) -> None:
    """Has the file system on a disk report an error."""
    trigger = Path(f"/sys/fs/ext4/{disk.name}/trigger_fs_error")
    with trigger.open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(b"test")


def test_errors_of_file_systems_below_the_share(
    vmm: str, make_guest: Callable[..., Guest], case_root: Path, disks: list[Path]
) -> None:
    """Each mark gets its own errors, with number and count; without such a mark there are none."""
    one, other = disks
    # The mounts are in a namespace of the daemon's own and go with it.
    daemon = launcher(
        case_root / "daemon-with-disks",
        f"""
        [ "$MOUNTED" ] || MOUNTED=1 exec unshare --mount "$0" "$@"
        for argument; do case $argument in --shared-dir=*) share=${{argument#*=}} ;; esac; done
        mkdir -p "$share/one" "$share/other" &&
            mount -o errors=continue {one} "$share/one" &&
            mount -o errors=continue {other} "$share/other" || exit 1
        """,
    )
    with make_guest(vmm, f"--daemon={daemon}", PRIVILEGED) as guest:
        stage = Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), True, guest)
        mount = os.fsencode(paths.GUEST_SHARE)
        with stage.scene() as scene:
            wanted = {"both": [b"one", b"other"], "other": [b"other"], "share": [b""]}
            groups = {}
            for label, places in wanted.items():
                groups[label] = scene.agent.call("fanotify", FID)
                for place in places:
                    where = mount + b"/" + place + b"/."
                    scene.agent.call("mark", groups[label], MARK_FILESYSTEM, FS_ERROR, where)
            fail(one, 3)
            fail(other, 2)
            scene.settle()
            seen = {}
            for label, group in groups.items():
                scene.agent.send("places", group, mount)
                seen[label] = sorted(scene.agent.reply()[0][1::2])
                scene.agent.call("close", group)
            assert seen == {"both": ["117:2", "117:3"], "other": ["117:2"], "share": []}
