# SPDX-License-Identifier: BSD-3-Clause
"""A watch is on what its path means when it is placed, whatever the guest has cached of it before.

The guest looks at a name, the host has it mean something else, and the guest watches it at once. It
must get events of what the name means now and not of what it meant, as on a local file system.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from conftest import Stage
from runguest import paths
from runguest.actors import Step
from runguest.agent import Agent, Guest
from runguest.events import Mask
from runguest.scene import Scene
from test_marks import REPORT_DFID_NAME, REPORT_FID, marked

# Linux include/uapi/linux/fanotify.h
MARK_ONLYDIR: Final = 0x8
MARK_IGNORED_MASK: Final = 0x20
MARK_IGNORED_SURV_MODIFY: Final = 0x40
EVENT_ON_CHILD: Final = Mask(0x08000000)
REPLACEMENTS: Final = 300


@dataclass(frozen=True, slots=True)
class Case:
    """A name that comes to mean something else.

    Attributes:
        id: name of the case.
        given: what exists, and the guest looks at ``path``.
        replace: what the host does then.
        path: what is watched.
        old: what ``path`` was is there now; ``None`` if it is gone.
        look: what the guest looks at instead.
    """

    id: str
    given: Sequence[Step]
    replace: Sequence[Step]
    path: bytes = b"f"
    old: bytes | None = None
    look: bytes | None = None


_FILE: Final[list[Step]] = [("file", b"f", b"old")]
_DIRECTORY: Final[list[Step]] = [("mkdir", b"d"), ("file", b"d/f", b"old")]
_ANEW: Final[list[Step]] = [("mkdir", b"d"), ("file", b"d/f", b"new")]
_LINK: Final[list[Step]] = [
    ("mkdir", b"a"),
    ("file", b"a/f", b"old"),
    ("mkdir", b"b"),
    ("file", b"b/f", b"new"),
    ("symlink", b"a", b"l"),
]
_OTHER_LINK: Final[list[Step]] = [("symlink", b"b", b"m"), ("rename", b"m", b"l")]

FILES: Final[Sequence[Case]] = (
    Case("nothing", _FILE, []),
    Case("rename-over", _FILE, [("file", b"g", b"new"), ("rename", b"g", b"f")]),
    Case("made-anew", _FILE, [("unlink", b"f"), ("file", b"f", b"new")]),
    Case("backup", _FILE, [("rename", b"f", b"o"), ("file", b"f", b"new")], old=b"o"),
    Case(
        "other-link",
        _FILE,
        [("link", b"f", b"o"), ("file", b"g", b"new"), ("rename", b"g", b"f")],
        old=b"o",
    ),
    Case(
        "middle-moved",
        _DIRECTORY,
        [("rename", b"d", b"o"), *_ANEW],
        path=b"d/f",
        old=b"o/f",
    ),
    Case(
        "middle-moved-and-emptied",
        _DIRECTORY,
        [("rename", b"d", b"o"), ("unlink", b"o/f"), *_ANEW],
        path=b"d/f",
        look=b"d",
    ),
    Case(
        "middle-made-anew",
        _DIRECTORY,
        [("unlink", b"d/f"), ("rmdir", b"d"), *_ANEW],
        path=b"d/f",
    ),
    Case(
        "top-of-three",
        [("mkdir", b"t"), ("mkdir", b"t/d"), ("file", b"t/d/f", b"old")],
        [("rename", b"t", b"o"), ("mkdir", b"t"), ("mkdir", b"t/d"), ("file", b"t/d/f")],
        path=b"t/d/f",
        old=b"o/d/f",
    ),
    Case(
        "middle-made-anew-only-looked-at",
        _DIRECTORY,
        [("unlink", b"d/f"), ("rmdir", b"d"), *_ANEW],
        path=b"d/f",
        look=b"d",
    ),
    Case("was-not-there", [], [("file", b"f", b"new")]),
    Case("symlink", _LINK, _OTHER_LINK, path=b"l/f", old=b"a/f"),
)
DIRECTORIES: Final[Sequence[Case]] = (
    Case("nothing", _DIRECTORY, [], path=b"d"),
    Case("moved", _DIRECTORY, [("rename", b"d", b"o"), ("mkdir", b"d")], path=b"d", old=b"o"),
    Case(
        "made-anew",
        _DIRECTORY,
        [("unlink", b"d/f"), ("rmdir", b"d"), ("mkdir", b"d")],
        path=b"d",
    ),
    Case(
        "exchanged",
        [*_DIRECTORY, ("mkdir", b"e")],
        [("rename", b"d", b"o"), ("rename", b"e", b"d"), ("rename", b"o", b"e")],
        path=b"d",
        old=b"e",
    ),
    Case(
        "middle-moved",
        [("mkdir", b"t"), ("mkdir", b"t/d")],
        [("rename", b"t", b"o"), ("mkdir", b"t"), ("mkdir", b"t/d")],
        path=b"t/d",
        old=b"o/d",
    ),
    Case("symlink", _LINK, _OTHER_LINK, path=b"l", old=b"a"),
)
ALL: Final = [*(("file", case) for case in FILES), *(("dir", case) for case in DIRECTORIES)]
EACH_CASE: Final = pytest.mark.parametrize(
    ("kind", "case"), ALL, ids=[f"{kind}-{case.id}" for kind, case in ALL]
)
EACH_API: Final = pytest.mark.parametrize("api", ["inotify", "fanotify", "fanotify-by-name"])


class Watch:
    """A watch of one path, by one of the interfaces."""

    def __init__(self, scene: Scene, api: str, path: bytes, mask: Mask, flags: int = 0) -> None:
        self._scene = scene
        self._group = -1
        if api == "inotify":
            scene.watch("it", path, mask)
        else:
            by_name = REPORT_DFID_NAME if api == "fanotify-by-name" else 0
            self._group = scene.agent.call("fanotify", REPORT_FID | by_name)
            scene.agent.call("mark", self._group, flags, int(mask), scene.guest.path(path))

    def seen(self) -> set[str]:
        """Kinds of events that have come since it was last asked."""
        settled = self._scene.settle()
        if self._group >= 0:
            return {event.split(" ")[0] for event in marked(self._scene.agent, self._group)}
        return {event.split(" ")[0] for event in settled["it"]}

    def close(self) -> None:
        """Ends it, if the end of the scene does not."""
        if self._group >= 0:
            self._scene.agent.call("close", self._group)


def hears_of_what_is_there_now(scene: Scene, api: str, kind: str, case: Case) -> None:
    """Plays ``case``."""

    def change(path: bytes) -> None:
        if kind == "dir":
            scene.host.run([("mknod", path + b"/made")])
        else:
            scene.host.run([("open", path, b"a"), ("write", b"x"), ("close",)])

    mask = Mask.CREATE if kind == "dir" else Mask.MODIFY
    scene.host.run(case.given)
    with suppress(FileNotFoundError):
        scene.agent.call("size", scene.guest.path(case.look or case.path))
    scene.host.run(case.replace)
    watch = Watch(scene, api, case.path, mask)
    if case.old is not None:
        change(case.old)
        assert watch.seen() == set()
    change(case.path)
    assert watch.seen() == {mask.name}
    watch.close()


@EACH_API
@EACH_CASE
def test_a_watch_hears_of_what_its_path_means_now(
    stage: Stage, api: str, kind: str, case: Case
) -> None:
    with stage.scene() as scene:
        hears_of_what_is_there_now(scene, api, kind, case)


@pytest.fixture(
    scope="module",
    params=itertools.product(["auto", "always", "metadata"], ["prefer", "never"]),
    ids="-".join,
)
def cached_stage(
    vmm: str, make_guest: Callable[..., Guest], request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """A guest for each way to cache names and to hold what they mean."""
    cache, handles = request.param
    options = (f"--daemon-arg=--cache={cache}", f"--daemon-arg=--inode-file-handles={handles}")
    with make_guest(vmm, *options) as guest:
        yield Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), True, guest)


@pytest.mark.only("uml")
@EACH_API
@EACH_CASE
def test_whatever_is_cached_and_held(cached_stage: Stage, api: str, kind: str, case: Case) -> None:
    with cached_stage.scene() as scene:
        hears_of_what_is_there_now(scene, api, kind, case)


# -- what has been asked for beside the path -----------------------------------------------------


@pytest.mark.parametrize("api", ["inotify", "fanotify"])
def test_a_path_that_leads_nowhere_now_is_not_watched(stage: Stage, api: str) -> None:
    with stage.scene() as scene:
        scene.host.run(_DIRECTORY)
        scene.agent.call("size", scene.guest.path(b"d/f"))
        scene.host.run([("rename", b"d", b"o")])
        with pytest.raises(FileNotFoundError):
            Watch(scene, api, b"d/f", Mask.MODIFY)


@pytest.mark.parametrize("api", ["inotify", "fanotify"])
def test_what_was_a_directory_is_not_watched_as_one(stage: Stage, api: str) -> None:
    with stage.scene() as scene:
        scene.host.run(_DIRECTORY)
        scene.agent.call("size", scene.guest.path(b"d"))
        scene.host.run([("rename", b"d", b"o"), ("file", b"d")])
        mask = Mask.MODIFY | (Mask.ONLYDIR if api == "inotify" else Mask(0))
        with pytest.raises(NotADirectoryError):
            Watch(scene, api, b"d", mask, MARK_ONLYDIR)


def test_a_file_that_is_a_directory_now_is_marked_with_its_children(stage: Stage) -> None:
    """FAN_EVENT_ON_CHILD means nothing for what it was."""
    with stage.scene() as scene:
        scene.host.run(_FILE)
        scene.agent.call("size", scene.guest.path(b"f"))
        scene.host.run([("unlink", b"f"), ("mkdir", b"f"), ("file", b"f/g")])
        watch = Watch(scene, "fanotify-by-name", b"f", Mask.MODIFY | EVENT_ON_CHILD)
        scene.host.run([("truncate", b"f/g")])
        assert watch.seen() == {"MODIFY"}
        watch.close()


def test_what_is_to_be_ignored_is_what_the_path_means_now(stage: Stage) -> None:
    with stage.scene() as scene:
        scene.host.run([*_FILE, ("file", b"g")])
        scene.agent.call("size", scene.guest.path(b"f"))
        scene.host.run([("rename", b"f", b"o"), ("file", b"f", b"new")])
        group = scene.agent.call("fanotify", REPORT_FID | REPORT_DFID_NAME)
        for flags, mask, name in (
            (0, Mask.MODIFY | EVENT_ON_CHILD, b"."),
            (MARK_IGNORED_MASK | MARK_IGNORED_SURV_MODIFY, Mask.MODIFY, b"f"),
        ):
            scene.agent.call("mark", group, flags, int(mask), scene.guest.path(name))
        for name, seen in ((b"f", []), (b"o", ["MODIFY"]), (b"g", ["MODIFY"])):
            scene.host.run([("truncate", name)])
            scene.settle()
            assert [event.split(" ")[0] for event in marked(scene.agent, group)] == seen
        scene.agent.call("close", group)


def test_a_symlink_itself_is_watched_if_asked(stage: Stage) -> None:
    with stage.scene() as scene:
        scene.host.run(_LINK)
        scene.agent.call("size", scene.guest.path(b"l/f"))
        scene.host.run(_OTHER_LINK)
        watch = Watch(scene, "inotify", b"l", Mask.MOVE_SELF | Mask.CREATE | Mask.DONT_FOLLOW)
        scene.host.run([("mknod", b"a/made"), ("mknod", b"b/made")])
        assert watch.seen() == set()
        scene.host.run([("rename", b"l", b"k")])
        assert watch.seen() == {"MOVE_SELF"}


# -- replaced all the time -----------------------------------------------------------------------


@contextmanager
def replaced_over_and_over(name: Path) -> Iterator[None]:
    """The host replaces a file by another, about a thousand times a second."""
    enough = threading.Event()

    def replace() -> None:
        while not enough.is_set():
            name.with_suffix(".new").touch()
            name.with_suffix(".new").rename(name)
            time.sleep(0.001)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


@pytest.mark.parametrize("api", ["inotify", "fanotify"])
def test_no_watch_is_refused_while_its_name_is_replaced(stage: Stage, api: str) -> None:
    with stage.scene() as scene:
        scene.host.run([("mkdir", b"d"), *_FILE])
        with replaced_over_and_over(scene.directory / "f"):
            for _ in range(REPLACEMENTS):
                Watch(scene, api, b"f", Mask.MODIFY).close()
        watch = Watch(scene, api, b"f", Mask.ATTRIB)
        watch.seen()
        scene.host.run([("chmod", b"f")])
        assert watch.seen() == {"ATTRIB"}
        watch.close()


# -- what was cached before ----------------------------------------------------------------------


@pytest.mark.parametrize("api", ["inotify", "fanotify"])
def test_who_watches_a_directory_finds_in_it_what_is_there(stage: Stage, api: str) -> None:
    """No event will report what was changed before, so it must not be hidden by a cache."""
    with stage.scene() as scene:
        scene.host.run([*_DIRECTORY, ("mknod", b"d/gone")])
        found = {name: scene.guest.path(b"d/" + name) for name in (b"f", b"gone", b"new")}
        assert scene.agent.call("size", found[b"f"]) == len(b"old")
        assert scene.agent.call("size", found[b"gone"]) == 0
        with pytest.raises(FileNotFoundError):
            scene.agent.call("size", found[b"new"])
        scene.host.run([("truncate", b"d/f"), ("unlink", b"d/gone"), ("file", b"d/new", b"1234")])
        watch = Watch(scene, api, b"d", Mask.CREATE | Mask.DELETE | Mask.MODIFY)
        assert scene.agent.call("size", found[b"f"]) == 1
        assert scene.agent.call("size", found[b"new"]) == len(b"1234")
        with pytest.raises(FileNotFoundError):
            scene.agent.call("size", found[b"gone"])
        assert watch.seen() == set()
        watch.close()


def test_who_watches_by_a_descriptor_finds_what_is_there(stage: Stage) -> None:
    """There is no name to look up."""
    with stage.scene() as scene:
        scene.host.run(_FILE)
        path = scene.guest.path(b"f")
        assert scene.agent.call("size", path) == len(b"old")
        fd = scene.agent.call("open", path, os.O_RDONLY, 0)
        by_descriptor = b"/proc/self/fd/%d" % fd
        scene.host.run([("open", b"f", b"a"), ("write", b"er"), ("close",)])
        scene.instance.add(by_descriptor, Mask.MODIFY)
        assert scene.agent.call("size", by_descriptor) == len(b"older")
        scene.agent.call("close", fd)
