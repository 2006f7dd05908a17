# SPDX-License-Identifier: BSD-3-Clause
"""File handles in the guest, inode flags, and the end of what is in use: as locally."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from conftest import Stage
from runguest import paths
from runguest.agent import Agent, Guest, LineProcess
from runguest.events import Mask
from runguest.scene import EVENT_DEADLINE_MS, Scene
from runguest.words import decode

# Linux include/uapi/linux/stat.h and fs.h
STATX_ATTR_IMMUTABLE, STATX_ATTR_APPEND, STATX_ATTR_NODUMP = 0x10, 0x20, 0x40
FS_IMMUTABLE_FL, FS_APPEND_FL, FS_NODUMP_FL = 0x10, 0x20, 0x40
ATTRIBUTES: Final = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP


@pytest.fixture(scope="session")
def handle_stage(world: str, stage: Stage, make_guest: Callable[..., Guest]) -> Iterator[Stage]:
    """A guest of its own, since it forgets all that it knows, and may set any flag."""
    if world == "local":
        yield stage
        return
    with make_guest(world, "--daemon-arg=--modcaps=+linux_immutable") as guest:
        yield Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), True, guest)


@pytest.fixture
def scene(handle_stage: Stage) -> Iterator[Scene]:
    with handle_stage.scene() as made:
        yield made


@pytest.fixture
def mount(handle_stage: Stage) -> bytes:
    return bytes(handle_stage.mount)


def reopen(scene: Scene, mount: bytes, flags: int = os.O_RDONLY) -> None:
    scene.agent.call("close", scene.agent.call("reopen", mount, flags))


def forget(scene: Scene, world: str) -> None:
    """Nothing but the handle is left in the guest."""
    if world != "local":
        scene.agent.call("forget")


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_PATH], ids=["r", "rw", "path"])
def test_handle_is_opened_again_and_again(
    scene: Scene, mount: bytes, world: str, flags: int
) -> None:
    scene.guest.run([("file", b"f")])
    scene.agent.call("handle", scene.guest.path(b"f"))
    for _ in range(3):
        forget(scene, world)
        reopen(scene, mount, flags)


def test_handle_of_a_directory(scene: Scene, mount: bytes, world: str) -> None:
    scene.guest.run([("mkdir", b"a"), ("mkdir", b"a/b"), ("file", b"a/b/f")])
    scene.agent.call("handle", scene.guest.path(b"a/b"))
    for _ in range(3):
        forget(scene, world)
        reopen(scene, mount, os.O_RDONLY | os.O_DIRECTORY)


def test_handle_outlives_a_rename_by_the_host(scene: Scene, mount: bytes, world: str) -> None:
    scene.guest.run([("mkdir", b"d"), ("file", b"f")])
    scene.agent.call("handle", scene.guest.path(b"f"))
    forget(scene, world)
    scene.host.run([("rename", b"f", b"d/g")])
    reopen(scene, mount)


def test_handle_and_name_are_one_file(scene: Scene, mount: bytes, world: str) -> None:
    scene.guest.run([("file", b"f")])
    scene.agent.call("handle", scene.guest.path(b"f"))
    forget(scene, world)
    assert scene.agent.call("size", scene.guest.path(b"f")) == len(b"data")
    fd = scene.agent.call("reopen", mount, os.O_WRONLY | os.O_APPEND)
    scene.agent.call("write", fd, b" and more")
    scene.agent.call("close", fd)
    assert (scene.directory / "f").read_bytes() == b"data and more"


def test_handle_of_what_is_gone(scene: Scene, mount: bytes, world: str) -> None:
    for remover in (scene.host, scene.guest):
        scene.guest.run([("file", b"f")])
        scene.agent.call("handle", scene.guest.path(b"f"))
        forget(scene, world)
        remover.run([("unlink", b"f")])
        scene.guest.run([("file", b"f")])
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            reopen(scene, mount)
        scene.guest.run([("unlink", b"f")])


def attributes(scene: Scene, name: bytes) -> int:
    """Return those of interest, all of which the file system must know."""
    scene.agent.send("attributes", scene.guest.path(name))
    words, value = scene.agent.reply()
    assert int(decode(words[0]), 0) & ATTRIBUTES == ATTRIBUTES
    return value & ATTRIBUTES


@pytest.mark.parametrize("kind", ["file", "mkdir"])
@pytest.mark.parametrize(
    ("flag", "attribute"),
    [
        (FS_NODUMP_FL, STATX_ATTR_NODUMP),
        (FS_APPEND_FL, STATX_ATTR_APPEND),
        (FS_IMMUTABLE_FL, STATX_ATTR_IMMUTABLE),
    ],
    ids=["nodump", "append", "immutable"],
)
def test_statx_tells_inode_flags(scene: Scene, kind: str, flag: int, attribute: int) -> None:
    scene.guest.run([(kind, b"x")])
    assert attributes(scene, b"x") == 0
    try:
        scene.agent.call("setflags", scene.guest.path(b"x"), flag)
        assert attributes(scene, b"x") == attribute
        scene.agent.call("setflags", scene.guest.path(b"x"), 0)
        assert attributes(scene, b"x") == 0
    finally:
        # By the host, whatever has become of the guest: nobody could remove it with these flags.
        subprocess.run(["chattr", "-ai", scene.directory / "x"], check=True)


def test_statx_tells_inode_flags_of_what_is_looked_up_first(scene: Scene, world: str) -> None:
    scene.guest.run([("file", b"x")])
    scene.agent.call("setflags", scene.guest.path(b"x"), FS_NODUMP_FL)
    forget(scene, world)
    assert attributes(scene, b"x") == STATX_ATTR_NODUMP


@pytest.mark.parametrize("over", [False, True], ids=["unlink", "rename-over"])
def test_watcher_sees_the_end_when_the_last_user_is_gone(scene: Scene, over: bool) -> None:
    """What the guest removes while it holds it by O_PATH ends when that is closed, as locally."""
    scene.guest.run([("file", b"f"), ("file", b"g")])
    fd = scene.agent.call("open", scene.guest.path(b"f"), os.O_PATH, 0)
    scene.watch("f", b"f", Mask.DELETE_SELF)
    scene.guest.run([("rename", b"g", b"f")] if over else [("unlink", b"f")])
    assert scene.settle() == {"f": []}
    assert scene.agent.call("size", b"/proc/self/fd/%d" % fd) == len(b"data")
    scene.agent.call("close", fd)
    assert scene.settle() == {"f": ["DELETE_SELF", "IGNORED"]}


@pytest.fixture
def watcher(case_root: Path) -> Iterator[Agent]:
    """An agent on the host."""
    with LineProcess([os.fspath(paths.TOOLS / "agent")], case_root / "watcher.log") as process:
        yield Agent(process)


@pytest.mark.parametrize(("kind", "verb"), [("file", "unlink"), ("mkdir", "rmdir")])
def test_what_nobody_uses_ends_before_its_name(
    scene: Scene, watcher: Agent, kind: str, verb: str
) -> None:
    """For those on the host that watch it."""
    scene.guest.run([(kind, b"x")])
    scene.agent.call("attributes", scene.guest.path(b"x"))
    seen = watcher.inotify()
    parent = seen.add(scene.host.path(b"."), Mask.DELETE)
    child = seen.add(scene.host.path(b"x"), Mask.DELETE_SELF)
    scene.guest.run([(verb, b"x")])
    events = seen.read(EVENT_DEADLINE_MS, until=(parent, b"x"))
    assert [e.wd for e in events if e.mask & (Mask.DELETE | Mask.DELETE_SELF)] == [child, parent]
