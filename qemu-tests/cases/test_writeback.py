# SPDX-License-Identifier: BSD-3-Clause
"""With ``--writeback`` the guest keeps size, times and pages of a file until it has written them.

Whoever has received the event of a host change finds what the host has made, however the guest knew
the file; unless the guest has changes of its own that it has not written yet. Then it keeps those,
and after they have been written it finds what both have made of the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from conftest import Stage
from runguest import paths
from runguest.agent import Agent, Guest
from runguest.scene import EVENT_DEADLINE_MS, Scene
from runguest.words import decode

OLD: Final = b"old content\n"
MTIME: Final = 1_234_567_890


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


CHANGES: Final[dict[str, Callable[[Path], object]]] = {
    "append": lambda path: append(path, b"and more\n"),
    "cut": lambda path: os.truncate(path, 3),
    "empty": lambda path: os.truncate(path, 0),
    "extend": lambda path: os.truncate(path, 5000),
    "longer": lambda path: path.write_bytes(b"new content that is longer\n"),
    "shorter": lambda path: path.write_bytes(b"new\n"),
    "same-length": lambda path: path.write_bytes(OLD.upper()),
    "pages": lambda path: path.write_bytes(bytes(range(256)) * 100),
}


@pytest.fixture(scope="session")
def writeback_stage(world: str, stage: Stage, make_guest: Callable[..., Guest]) -> Iterator[Stage]:
    """A guest that writes back; locally there is nothing to write back."""
    if world == "local":
        yield stage
        return
    with make_guest(world, "--daemon-arg=--writeback", "--daemon-arg=--cache=always") as guest:
        yield Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), True, guest)


@pytest.fixture(scope="session")
def timed_stage(world: str, make_guest: Callable[..., Guest]) -> Iterator[Stage]:
    """The same with attributes that time out."""
    with make_guest(world, "--daemon-arg=--writeback") as guest:
        yield Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), True, guest)


@pytest.fixture
def scene(writeback_stage: Stage) -> Iterator[Scene]:
    with writeback_stage.scene() as made:
        yield made


@pytest.fixture
def file(scene: Scene) -> Path:
    """A file of the host's that the guest watches."""
    path = scene.directory / "f"
    path.write_bytes(OLD)
    scene.watch("dir", b".")
    return path


def content(scene: Scene, name: bytes = b"f") -> tuple[bytes, int]:
    """What the guest reads, and the size that it sees."""
    scene.agent.send("content", scene.guest.path(name))
    words, size = scene.agent.reply()
    return decode(words[0]), size


def expect(scene: Scene, path: Path) -> None:
    """The guest sees what the host sees."""
    data = path.read_bytes()
    assert scene.agent.call("size", scene.guest.path(b"f")) == len(data)
    assert content(scene) == (data, len(data))
    assert scene.agent.call("mtime", scene.guest.path(b"f")) == int(path.stat().st_mtime)


def know(scene: Scene, how: str) -> int:
    """The guest gets to know the file. Returns what it has open, or -1."""
    name = scene.guest.path(b"f")
    match how:
        case "stat":
            scene.agent.call("size", name)
        case "read":
            assert content(scene) == (OLD, len(OLD))
        case "wrote":
            fd = scene.agent.call("open", name, os.O_WRONLY | os.O_TRUNC, 0)
            scene.agent.call("write", fd, OLD)
            scene.agent.call("close", fd)
        case "open" | "open-for-writing":
            fd = scene.agent.call("open", name, os.O_RDONLY if how == "open" else os.O_RDWR, 0)
            scene.agent.call("read", fd, 100)
            return fd
        case "wrote-and-synced":
            fd = scene.agent.call("open", name, os.O_RDWR | os.O_TRUNC, 0)
            scene.agent.call("write", fd, OLD)
            scene.agent.call("fsync", fd)
            return fd
    return -1


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "how", ["unknown", "stat", "read", "wrote", "open", "open-for-writing", "wrote-and-synced"]
)
def test_host_change_is_taken_up(scene: Scene, file: Path, how: str, change: str) -> None:
    fd = know(scene, how)
    try:
        for _ in range(2):  # also when it is not the first
            scene.settle()
            CHANGES[change](file)
            assert any("MODIFY" in event for event in scene.settle()["dir"])
            expect(scene, file)
            file.write_bytes(OLD)
            scene.settle()
            expect(scene, file)
    finally:
        if fd >= 0:
            scene.agent.call("close", fd)


@pytest.mark.parametrize("how", ["stat", "read", "wrote", "open-for-writing"])
def test_host_sets_times(scene: Scene, file: Path, how: str) -> None:
    fd = know(scene, how)
    scene.settle()
    os.utime(file, (MTIME, MTIME))
    assert any("ATTRIB" in event for event in scene.settle()["dir"])
    expect(scene, file)
    if fd >= 0:
        scene.agent.call("close", fd)


def test_host_replaces_it(scene: Scene, file: Path) -> None:
    know(scene, "wrote")
    (scene.directory / "g").write_bytes(b"another file\n")
    (scene.directory / "g").rename(file)
    scene.settle()
    expect(scene, file)


def test_guest_appends_after_the_host(scene: Scene, file: Path) -> None:
    """Where the guest writes next is where the host has ended."""
    know(scene, "wrote")
    scene.settle()
    append(file, b"host\n")
    scene.settle()
    scene.agent.call("append", scene.guest.path(b"f"), b"guest\n")
    assert file.read_bytes() == OLD + b"host\n" + b"guest\n"
    expect(scene, file)


@pytest.mark.only("uml", "qemu")
def test_what_the_guest_has_not_written_wins_until_it_is(scene: Scene, file: Path) -> None:
    fd = scene.agent.call("open", scene.guest.path(b"f"), os.O_RDWR, 0)
    scene.agent.call("write", fd, b"NEW")
    scene.settle()
    append(file, b"host\n")
    scene.settle()
    mine = b"NEW" + OLD[3:]
    assert content(scene) == (mine, len(mine))
    scene.agent.call("fsync", fd)
    assert file.read_bytes() == mine + b"host\n"
    expect(scene, file)
    scene.agent.call("close", fd)


@pytest.mark.only("uml", "qemu")
def test_what_the_guest_has_not_written_survives_being_cut_off(scene: Scene, file: Path) -> None:
    """The whole of a page that has been changed is written, up to the size that the guest knows."""
    fd = scene.agent.call("open", scene.guest.path(b"f"), os.O_RDWR | os.O_APPEND, 0)
    scene.agent.call("write", fd, b"guest\n")
    scene.settle()
    os.truncate(file, 0)
    scene.settle()
    mine = OLD + b"guest\n"
    assert content(scene) == (mine, len(mine))
    scene.agent.call("fsync", fd)
    assert file.read_bytes() == mine
    expect(scene, file)
    scene.agent.call("close", fd)


def test_guest_keeps_the_times_of_its_own_writes(scene: Scene, file: Path) -> None:
    """Nothing that it wrote comes back as somebody else's change."""
    know(scene, "wrote")
    before = scene.agent.call("mtime", scene.guest.path(b"f"))
    events = scene.settle()["dir"]
    assert not any("ATTRIB" in event for event in events)
    expect(scene, file)
    assert scene.agent.call("mtime", scene.guest.path(b"f")) == before


def test_overflow_makes_the_guest_look_again(scene: Scene, file: Path) -> None:
    """More than one change to one file, of which the last counts."""
    know(scene, "read")
    scene.settle()
    for size in range(50, 0, -1):
        file.write_bytes(b"x" * size)
    scene.settle()
    expect(scene, file)


@pytest.mark.only("uml", "qemu")
@pytest.mark.parametrize("how", ["stat", "read", "wrote", "open-for-writing"])
def test_unwatched_change_is_taken_up_when_attributes_time_out(
    timed_stage: Stage, how: str
) -> None:
    with timed_stage.scene() as scene:
        path = scene.directory / "f"
        path.write_bytes(OLD)
        fd = know(scene, how)
        append(path, b"and more\n")
        end = time.monotonic() + EVENT_DEADLINE_MS / 1000
        size = path.stat().st_size
        while scene.agent.call("size", scene.guest.path(b"f")) != size:
            assert time.monotonic() < end
        expect(scene, path)
        if fd >= 0:
            scene.agent.call("close", fd)
