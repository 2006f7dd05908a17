# SPDX-License-Identifier: BSD-3-Clause
"""What POSIX and the man pages promise holds on the share as on a local file system.

The cases are data, under ``qemu-tests/posix``. The same ones run on a local file system, which
shows that they are right, and on the share; every answer there that is not the expected one is an
entry of ``differences.toml`` with its reason.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import posix_script
import pytest
from posix_script import Case, Mismatch
from runguest import paths
from runguest.agent import REPLY_DEADLINE_S, Guest, LineProcess

GUEST_PROGRAM: Final = f"{paths.GUEST_TOOLS}/posix"
READY_DEADLINE_S: Final = 240.0

# By name: options of the daemon. Only with the capability it may set the flags that others obey.
SETTINGS: Final = {
    "default": (),
    "able": ("--modcaps=+linux_immutable", "--inode-file-handles=never"),
    "acl": ("--posix-acl", "--xattr"),
    "killpriv": ("--killpriv-v2",),
    "uncached": ("--cache=never",),
    "writeback": ("--writeback",),
}


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest) -> list[Case]:
    """The cases that were asked for; never none."""
    part = request.config.getoption("posix_cases")
    chosen = [case for case in posix_script.load() if part in case.name]
    assert chosen, f"no case has {part!r} in its name"
    return chosen


def run(process: LineProcess, cases: list[Case]) -> Iterator[Mismatch]:
    """Runs all cases and gives what is not as expected."""
    assert process.read_line(READY_DEADLINE_S) == "ready"
    for number, case in enumerate(cases):
        # All at once: a case is less than a pipe holds, and so are its answers.
        process.write_line("\n".join([f"case {number}", *(step.call for step in case.steps)]))
        assert process.read_line(REPLY_DEADLINE_S) == "0", case.name
        answers = [process.read_line(REPLY_DEADLINE_S) for _ in case.steps]
        for step, got in zip(case.steps, answers, strict=True):
            if step.expected not in (got, "*"):
                yield Mismatch(case.name, step, got)
                break  # the others may only follow from it


def judge(process: LineProcess, cases: list[Case], name: str) -> None:
    """Runs all cases under the name by which ``differences.toml`` knows the run."""
    wrong = posix_script.complaints(cases, run(process, cases), posix_script.differences(name))
    assert not wrong, f"{name}, {len(wrong)}:\n" + "\n".join(wrong)


@pytest.mark.only("local")
def test_cases_are_right(world: str, case_root: Path, cases: list[Case]) -> None:
    home = case_root / "posix"
    home.mkdir()
    log = case_root / "posix.log"
    try:
        with LineProcess([os.fspath(paths.TOOLS / "posix"), os.fspath(home)], log) as process:
            judge(process, cases, world)
    finally:
        shutil.rmtree(home)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Picks guests and settings: without --posix-all, those that are quick."""
    if "place" not in metafunc.fixturenames:
        return
    option = metafunc.config.getoption
    places = ["uml/tmpfs", "uml/default"]
    if option("posix_all"):
        places = [f"{vmm}/{where}" for vmm in ("uml", "qemu") for where in ("tmpfs", *SETTINGS)]
    chosen = option("world") or ["uml", "qemu"]
    metafunc.parametrize(
        "place",
        [
            pytest.param(place, marks=pytest.mark.guest)
            for place in places
            if place.split("/")[0] in chosen
        ],
    )


def test_cases_hold(place: str, make_guest: Callable[..., Guest], cases: list[Case]) -> None:
    vmm, where = place.split("/")
    top = "/dev/shm" if where == "tmpfs" else paths.GUEST_SHARE
    options = [f"--daemon-arg={argument}" for argument in SETTINGS.get(where, ())]
    with make_guest(vmm, *options, command=(GUEST_PROGRAM, top)) as guest:
        judge(guest, cases, place)
