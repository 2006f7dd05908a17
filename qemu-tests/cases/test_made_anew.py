# SPDX-License-Identifier: BSD-3-Clause
"""The host removes a directory that the guest knows and makes it anew, as builds do.

Whatever a program in the guest does next by a name in it happens in the new one.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runguest import paths
from runguest.agent import Guest

READY_DEADLINE_S = 240.0
DEADLINE_S = 60.0

# Acts on a directory, one a line; "ok" or the name of the error.
PROGRAM = """
import errno, os, sys
share = sys.argv[1]
aside = share + "/aside"
def make(path, flags=0):
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | flags))
def know(d):
    for _ in range(4):
        assert os.listdir(d) == ["old"] and os.stat(d + "/old")
acts = {
    "know": know,
    "open": lambda d: os.close(os.open(d + "/here", os.O_RDONLY)),
    "stat": lambda d: os.stat(d + "/here"),
    "list": lambda d: os.listdir(d).index("here"),
    "create": lambda d: make(d + "/new"),
    "create O_EXCL": lambda d: make(d + "/new", os.O_EXCL),
    "open O_TMPFILE": lambda d: os.close(os.open(d, os.O_TMPFILE | os.O_RDWR)),
    "mkdir": lambda d: os.mkdir(d + "/new"),
    "mknod": lambda d: os.mkfifo(d + "/new"),
    "symlink": lambda d: os.symlink("here", d + "/new"),
    "link": lambda d: os.link(aside + "/file", d + "/new"),
    "link from": lambda d: os.link(d + "/here", aside + "/new"),
    "unlink": lambda d: os.unlink(d + "/here"),
    "rmdir": lambda d: os.rmdir(d + "/heredir"),
    "rename": lambda d: os.rename(d + "/here", d + "/new"),
    "rename from": lambda d: os.rename(d + "/here", aside + "/new"),
    "rename into": lambda d: os.rename(aside + "/file", d + "/new"),
    "chdir": lambda d: (os.chdir(d + "/heredir"), os.chdir("/")),
    "enter": os.chdir,
    "leave": lambda d: os.chdir("/"),
    "list all": lambda d: print(len(os.listdir(d)), end=" "),
}
print("ready", flush=True)
for line in sys.stdin:
    act, _, name = line.strip().partition(" in ")
    try:
        acts[act](name if name == "." else share + "/" + name)
        print("ok", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""
# What is there afterwards in the new one: besides "here", "heredir", and the act's "new".
ACTS = {
    "open": (),
    "stat": (),
    "list": (),
    "create": ("+new",),
    "create O_EXCL": ("+new",),
    "open O_TMPFILE": (),
    "mkdir": ("+new",),
    "mknod": ("+new",),
    "symlink": ("+new",),
    "link": ("+new",),
    "link from": (),
    "unlink": ("-here",),
    "rmdir": ("-heredir",),
    "rename": ("-here", "+new"),
    "rename from": ("-here",),
    "rename into": ("+new",),
    "chdir": (),
}


def make(directory: Path, *names: str) -> None:
    directory.mkdir()
    for name in names:
        if name.endswith("dir"):
            (directory / name).mkdir()
        else:
            (directory / name).write_text(name)


EVERY_WAY = pytest.mark.parametrize(
    "options",
    [
        ("--cache=auto",),
        ("--cache=always",),
        ("--cache=never",),
        ("--cache=always", "--inode-file-handles=never"),
    ],
    ids=lambda options: "-".join(option.removeprefix("--") for option in options),
)


def acting(vmm: str, make_guest: Callable[..., Guest], options: tuple[str, ...]) -> Guest:
    python = os.path.realpath(sys.executable)
    return make_guest(
        vmm,
        *(f"--daemon-arg={option}" for option in options),
        command=(python, "-c", PROGRAM, paths.GUEST_SHARE),
    )


def ask(guest: Guest, act: str, where: str = "dist") -> str:
    guest.write_line(f"{act} in {where}")
    answer: str = guest.read_line(DEADLINE_S).strip()
    return answer


@EVERY_WAY
def test_it_is_the_new_one(
    vmm: str, make_guest: Callable[..., Guest], options: tuple[str, ...]
) -> None:
    guest = acting(vmm, make_guest, options)
    wrong = []
    with guest:
        assert guest.read_line(READY_DEADLINE_S).strip() == "ready"
        dist = guest.share / "dist"
        aside = guest.share / "aside"
        for act, changes in ACTS.items():
            make(aside, "file")
            make(dist, "old")
            assert ask(guest, "know") == "ok"
            shutil.rmtree(dist)
            make(dist, "here", "heredir")
            answer = ask(guest, act)
            there = {"here", "heredir"}
            there |= {name[1:] for name in changes if name[0] == "+"}
            there -= {name[1:] for name in changes if name[0] == "-"}
            found = set(os.listdir(dist))
            if answer != "ok" or found != there:
                wrong.append(f"{act}: {answer}, {found}")
            shutil.rmtree(dist)
            shutil.rmtree(aside)
    assert not wrong


@pytest.mark.parametrize(
    "options",
    [
        ("--cache=always",),
        ("--cache=auto", "--inode-file-handles=never"),
        ("--cache=never", "--inode-file-handles=never"),
    ],
    ids=lambda options: "-".join(option.removeprefix("--") for option in options),
)
def test_who_is_in_it_finds_nothing(
    vmm: str, make_guest: Callable[..., Guest], options: tuple[str, ...]
) -> None:
    """The working directory is the old one: as on a local filesystem, it has no names.

    Where only a handle holds it, the guest must not ask for its attributes, which are gone.
    """
    guest = acting(vmm, make_guest, options)
    named = [act for act in ACTS if act not in ("list", "open O_TMPFILE")]
    with guest:
        assert guest.read_line(READY_DEADLINE_S).strip() == "ready"
        make(guest.share / "aside", "file")
        answers = {}
        for act in named:
            make(guest.share / "dist", "here", "heredir")
            assert ask(guest, "enter") == "ok"
            shutil.rmtree(guest.share / "dist")
            answers[act] = ask(guest, act, ".")
            assert ask(guest, "leave") == "ok"
        assert answers == dict.fromkeys(named, "ENOENT")
