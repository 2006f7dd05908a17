# SPDX-License-Identifier: BSD-3-Clause
"""What watches besides inotify, each event once: fanotify's marks of all kinds, and dnotify.

Everything older than a scene's sentinel has come when that has, for one queue leads from the host
to all groups of the guest; so after ``settle`` a group holds all there is.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path
from typing import Final

import pytest
from conftest import Stage
from runguest import paths
from runguest.actors import Step
from runguest.agent import Agent, Guest
from runguest.events import Mask
from runguest.scene import Scene
from table import CASES, Case, watch_sets

# Linux include/uapi/linux/fanotify.h
REPORT_FID: Final = 0x200
REPORT_DFID_NAME: Final = 0xC00
MARK_MOUNT: Final = 0x10
MARK_FILESYSTEM: Final = 0x100


class Dnotify(IntFlag):
    """Spec: fcntl(2), F_NOTIFY."""

    ACCESS = 0x1
    MODIFY = 0x2
    CREATE = 0x4
    DELETE = 0x8
    RENAME = 0x10
    ATTRIB = 0x20
    MULTISHOT = 0x80000000


def marked(agent: Agent, group: int) -> list[str]:
    """The events that a fanotify group holds: ``["MODIFY ours"]``."""
    agent.send("marked", group)
    words, _ = agent.reply()
    events = []
    for word in words:
        mask, whose = word.split(":")
        bits = Mask(int(mask, 0) & Mask.ALL)
        events.append(f"{'|'.join(bit.name or '' for bit in Mask if bit in bits)} {whose}")
    return events


@pytest.fixture
def server_scene(server_stage: Stage) -> Iterator[Scene]:
    """A scene where the daemon reports everybody's changes."""
    with server_stage.scene() as scene:
        yield scene


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of mark for MODIFY of a file: flags of group and mark, and who reports to it."""

    id: str
    group: int
    mark: int
    by_server: bool


KINDS: Final[Sequence[Kind]] = (
    Kind("inode", REPORT_FID, 0, by_server=True),
    Kind("inode-by-name", REPORT_FID | REPORT_DFID_NAME, 0, by_server=True),
    Kind("inode-by-descriptor", 0, 0, by_server=False),
    Kind("mount", REPORT_FID, MARK_MOUNT, by_server=False),
    Kind("mount-by-descriptor", 0, MARK_MOUNT, by_server=False),
    Kind("filesystem", REPORT_FID, MARK_FILESYSTEM, by_server=False),
    Kind("filesystem-by-descriptor", 0, MARK_FILESYSTEM, by_server=False),
)
EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)


def groups(scene: Scene, kinds: Sequence[Kind], name: bytes) -> dict[str, int]:
    """A fanotify group of each kind that wants MODIFY of ``name``."""
    found = {}
    for kind in kinds:
        found[kind.id] = scene.agent.call("fanotify", kind.group)
        scene.agent.call(
            "mark", found[kind.id], kind.mark, int(Mask.MODIFY), scene.guest.path(name)
        )
    return found


def seen(scene: Scene, opened: Mapping[str, int]) -> dict[str, list[str]]:
    """What each group holds, by name."""
    return {name: marked(scene.agent, group) for name, group in opened.items()}


def close(scene: Scene, opened: Mapping[str, int]) -> None:
    """Ends the groups, or they would get events of the next scene."""
    for group in opened.values():
        scene.agent.call("close", group)


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@EACH_KIND
def test_a_mark_hears_of_each_write_once(server_stage: Stage, kind: Kind, together: bool) -> None:
    """From the daemon if it can, from the guest's own kernel else, beside others or not."""
    with server_stage.scene() as scene:
        scene.host.run([("file", b"f"), ("file", b"other")])
        opened = groups(scene, KINDS if together else [kind], b"f")
        if together:
            scene.watch("file", b"f", Mask.MODIFY)
            scene.watch("dir", b".", Mask.MODIFY)
        scene.guest.run([("open", b"f", b"a"), ("write", b"x"), ("close",)])
        watched = scene.settle()
        assert watched == ({"file": ["MODIFY"], "dir": ["MODIFY f"]} if together else {})
        assert seen(scene, opened)[kind.id] == [
            "MODIFY others" if kind.by_server else "MODIFY ours"
        ]
        scene.host.run([("open", b"f", b"a"), ("write", b"x"), ("close",)])
        scene.settle()
        assert seen(scene, opened)[kind.id] == (["MODIFY others"] if kind.by_server else [])
        close(scene, opened)


@EACH_KIND
def test_a_mark_does_not_hear_of_other_files(server_scene: Scene, kind: Kind) -> None:
    scene = server_scene
    scene.host.run([("file", b"f"), ("file", b"other")])
    opened = groups(scene, [kind], b"f")
    scene.host.run([("open", b"other", b"a"), ("write", b"x"), ("close",)])
    if not kind.mark:  # the others are about all files, as far as the guest itself writes them
        scene.guest.run([("open", b"other", b"a"), ("write", b"x"), ("close",)])
    scene.settle()
    assert seen(scene, opened) == {kind.id: []}
    close(scene, opened)


def test_a_filesystem_mark_and_a_watch_hear_of_each_name_once(server_scene: Scene) -> None:
    """The daemon refuses the one and serves the other; one group may have marks of both kinds."""
    scene = server_scene
    both = scene.agent.call("fanotify", REPORT_FID | REPORT_DFID_NAME)
    here = scene.guest.path(b".")
    mask = int(Mask.CREATE | Mask.DELETE)
    scene.agent.call("mark", both, MARK_FILESYSTEM, mask, here)
    scene.agent.call("mark", both, 0, mask, here)
    scene.watch("dir", b".", Mask.CREATE | Mask.DELETE)
    for step, kind in ((("mknod", b"f"), "CREATE"), (("unlink", b"f"), "DELETE")):
        scene.guest.run([step])
        assert scene.settle() == {"dir": [f"{kind} f"]}
        assert [event for event in marked(scene.agent, both) if kind in event] == [f"{kind} ours"]
    scene.agent.call("close", both)


# -- a daemon that may not watch everything ------------------------------------------------------

REFUSED_GID: Final = 4321
"""As refuse.c has it."""
REFUSALS: Final = "refusals"


@pytest.fixture(scope="session")
def refusing_stage(vmm: str, make_guest: Callable[..., Guest], case_root: Path) -> Iterator[Stage]:
    """The daemon reports everybody's changes, but of what belongs to one group it may not."""
    library = case_root / "refuse.so"
    source = Path(__file__).with_name("refuse.c")
    gcc = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", os.fspath(library)]
    subprocess.run([*gcc, os.fspath(source)], check=True)
    preload = "export " + shlex.join([f"LD_PRELOAD={library}", f"REFUSALS={case_root / REFUSALS}"])
    daemon = launcher(case_root / "refusing-daemon", preload)
    options = (f"--daemon={daemon}", "--daemon-arg=--fsnotify=server")
    with ExitStack() as stack:
        guest = stack.enter_context(make_guest(vmm, *options))
        yield Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), True, guest)


def launcher(path: Path, preparation: str) -> Path:
    """A daemon that is the built one, after some lines of shell."""
    path.write_text(f'#!/bin/sh\n{preparation}\nexec {shlex.quote(str(paths.DAEMON))} "$@"\n')
    path.chmod(0o755)
    return path


def without_cookies(seen: Mapping[str, Sequence[str]], keep: bool = False) -> dict[str, list[str]]:
    """Events as ``describe`` has them, without the numbers of renames unless ``keep``."""
    return {
        label: [event if keep else event.split(" #")[0] for event in events]
        for label, events in seen.items()
    }


def give(scene: Scene, case: Case, refused: Sequence[str]) -> None:
    """Make what a case begins with, of which the daemon may not watch `refused`."""
    scene.host.run(case.given)
    for label in refused:
        path = scene.directory / os.fsdecode(case.watches[label])
        os.chown(path, -1, REFUSED_GID, follow_symlinks=False)


@pytest.mark.only("uml")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_the_daemon_may_not_watch_is_watched_locally(
    refusing_stage: Stage, case: Case
) -> None:
    """A refused watch gets the guest's events once, beside one that the daemon serves or not.

    Only the halves of a rename that come from both sides do not have the same cookie.
    """
    for refused in watch_sets(case):
        with refusing_stage.scene() as scene:
            give(scene, case, refused)
            scene.guest.run(case.before)
            for label, name in case.watches.items():
                scene.watch(label, name)
            scene.guest.run(case.act)
            whole = refused == tuple(case.watches)
            assert without_cookies(scene.settle(), whole) == without_cookies(case.expect, whole)


@pytest.mark.only("uml")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_the_daemon_may_not_watch_is_not_told_of_the_host(
    refusing_stage: Stage, case: Case
) -> None:
    for refused in watch_sets(case):
        with refusing_stage.scene() as scene:
            give(scene, case, refused)
            for label in refused:
                scene.watch(label, case.watches[label])
            scene.host.run([*case.before, *case.act])
            assert scene.settle() == {label: [] for label in refused}


@pytest.mark.only("uml")
def test_what_the_daemon_may_not_watch_is_asked_for_once(
    refusing_stage: Stage, case_root: Path
) -> None:
    """What is granted only then is reported by nobody while a change is on its way."""
    with refusing_stage.scene() as scene:
        scene.host.run([("mknod", b"f")])
        os.chown(scene.directory / "f", -1, REFUSED_GID)
        for label in ("one", "two"):
            before = (case_root / REFUSALS).stat().st_size
            scene.watch(label, b"f", Mask.ATTRIB)
            scene.guest.run([("chmod", b"f")])
            scene.settle()
            assert (case_root / REFUSALS).stat().st_size == before + 1


# -- a file system below the share ---------------------------------------------------------------


@pytest.mark.only("uml")
def test_a_marked_file_system_below_the_share_can_be_unmounted(
    vmm: str, make_guest: Callable[..., Guest], case_root: Path
) -> None:
    """Its marks go when its root has gone already, by which the daemon knows it."""
    # The mount is in a namespace of the daemon's own and goes with it.
    daemon = launcher(
        case_root / "daemon-with-a-mount",
        """
        [ "$MOUNTED" ] || MOUNTED=1 exec unshare --mount "$0" "$@"
        for argument; do case $argument in --shared-dir=*) share=${argument#*=} ;; esac; done
        mkdir -p "$share/below" && mount -t tmpfs none "$share/below" || exit 1
        """,
    )
    with make_guest(vmm, f"--daemon={daemon}") as guest:
        agent = Agent(guest)
        below = os.fsencode(f"{paths.GUEST_SHARE}/below")
        group = agent.call("fanotify", REPORT_FID)
        agent.call("mark", group, MARK_FILESYSTEM, int(Mask.MODIFY), below + b"/.")
        agent.call("umount", below)
        agent.call("close", group)
        assert agent.call("size", below) >= 0


# -- dnotify -------------------------------------------------------------------------------------

DNOTIFY: Final[Mapping[str, tuple[Sequence[Step], Sequence[Step], Dnotify]]] = {
    "create": ([], [("mknod", b"f")], Dnotify.CREATE),
    "delete": ([("file", b"f")], [("unlink", b"f")], Dnotify.DELETE),
    "rename": (
        [("file", b"f")],
        [("rename", b"f", b"g")],
        Dnotify.RENAME | Dnotify.CREATE | Dnotify.DELETE,
    ),
    "rename-away": (
        [("file", b"f"), ("mkdir", b"away")],
        [("rename", b"f", b"away/g")],
        Dnotify.DELETE,
    ),
    "modify": ([("file", b"f")], [("truncate", b"f")], Dnotify.MODIFY),
    "attrib": ([("file", b"f")], [("chmod", b"f")], Dnotify.ATTRIB),
    "access": ([("file", b"f")], [("open", b"f", b"r"), ("read",)], Dnotify.ACCESS),
}
BITS: Final = [bit for bit in Dnotify if bit != Dnotify.MULTISHOT]


def dnotify_tells(scene: Scene, who: str, case: str, directory: bytes) -> Dnotify:
    """Which of dnotify's signals an owner of ``directory`` gets; each must come just once."""
    given, act, _ = DNOTIFY[case]
    scene.host.run([("mkdir", b"unwatched"), *given])
    path = scene.guest.path(directory)
    watching = {
        bit: scene.agent.call("dnotify", path, int(bit | Dnotify.MULTISHOT)) for bit in BITS
    }
    scene.settle()
    for fd in watching.values():
        scene.agent.call("signals", fd)
    (scene.host if who == "host" else scene.guest).run(act)
    scene.settle()
    signals = {bit: scene.agent.call("signals", fd) for bit, fd in watching.items()}
    for fd in watching.values():
        scene.agent.call("close", fd)
    assert set(signals.values()) <= {0, 1}
    return Dnotify(sum(bit for bit, count in signals.items() if count))


@pytest.mark.parametrize("who", ["host", "guest"])
@pytest.mark.parametrize("case", DNOTIFY)
def test_dnotify(scene: Scene, case: str, who: str) -> None:
    assert dnotify_tells(scene, who, case, b".") == DNOTIFY[case][2]


@pytest.mark.parametrize("who", ["host", "guest"])
@pytest.mark.parametrize("case", DNOTIFY)
def test_dnotify_of_another_directory(scene: Scene, case: str, who: str) -> None:
    assert dnotify_tells(scene, who, case, b"unwatched") == Dnotify(0)


@pytest.mark.only("uml")
@pytest.mark.parametrize("who", ["host", "guest"])
@pytest.mark.parametrize("case", [case for case in DNOTIFY if case != "access"])
def test_dnotify_where_the_daemon_reports_everything(
    server_scene: Scene, case: str, who: str
) -> None:
    assert dnotify_tells(server_scene, who, case, b".") == DNOTIFY[case][2]
