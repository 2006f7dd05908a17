# SPDX-License-Identifier: BSD-3-Clause
"""Guests for the cases: each kind is booted once and shared, every case has its own directory.

A case runs in worlds: ``local`` (no guest: a local file system, the truth), ``uml`` and ``qemu``.
``--world`` picks some; none is skipped silently.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1]))

from runguest import helpers, paths
from runguest.agent import Agent, Guest, LineProcess
from runguest.scene import Scene

GUEST_WORLDS: tuple[str, ...] = ("uml", "qemu")
WORLDS: tuple[str, ...] = ("local", *GUEST_WORLDS)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--world", action="append", choices=WORLDS, help="only there; repeatable")
    parser.addoption(
        "--posix-all", action="store_true", help="POSIX cases in all guests with all settings"
    )
    parser.addoption(
        "--posix-cases", default="", metavar="TEXT", help="only those with TEXT in their names"
    )
    parser.addoption(
        "--replaced-rounds",
        type=int,
        default=500,
        help="how often a guest calls what the host keeps replacing; 100000 is the long form",
    )
    parser.addoption(
        "--guest-option", action="append", default=[], help="of run-guest, for all; repeatable"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(world): the case makes sense only there")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = metafunc.config.getoption("world") or WORLDS
    only = metafunc.definition.get_closest_marker("only")
    for fixture in {"world", "vmm"} & set(metafunc.fixturenames):
        worlds = WORLDS
        if fixture == "vmm" or "guest_stage" in metafunc.fixturenames:
            worlds = GUEST_WORLDS
        values = [
            pytest.param(world, marks=() if world == "local" else pytest.mark.guest)
            for world in (only.args if only else worlds)
            if world in chosen
        ]
        metafunc.parametrize(fixture, values, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A case with no world left was not asked for, which is no reason to call it skipped."""
    unasked = [item for item in items if item.get_closest_marker("skip") and "NOTSET" in item.name]
    config.hook.pytest_deselected(items=unasked)
    items[:] = [item for item in items if item not in unasked]


@pytest.fixture(scope="session")
def case_root() -> Path:
    """A directory for shares and logs, on the file system of the build; kept until the next run."""
    home = paths.BUILD / "cases"
    for old in home.glob("[0-9]*"):
        if not Path(f"/proc/{old.name}").exists():  # other sessions may be running
            shutil.rmtree(old, ignore_errors=True)
    root = home / str(os.getpid())
    root.mkdir(parents=True)
    helpers.build()
    return root


@pytest.fixture(scope="session")
def make_guest(case_root: Path, pytestconfig: pytest.Config) -> Callable[..., Guest]:
    """Makes a guest with a share and a log directory of its own: ``make_guest(vmm, *options)``."""
    numbers = iter(range(1_000_000))
    for_all: list[str] = pytestconfig.getoption("guest_option")

    def make(vmm: str, *options: str, command: tuple[str, ...] | None = None) -> Guest:
        home = case_root / f"{vmm}-{next(numbers)}"
        share = home / "share"
        share.mkdir(parents=True)
        logs = home / "logs"
        return Guest(
            vmm, share, logs, (*for_all, *options), **({"command": command} if command else {})
        )

    return make


@dataclass(frozen=True, slots=True)
class Stage:
    """A share, an agent that sees it, and where it sees it."""

    agent: Agent
    share: Path
    mount: Path
    remote: bool
    guest: Guest | None

    @property
    def daemon_pid(self) -> int:
        """The daemon that serves the share."""
        assert self.guest is not None
        pid: int = self.guest.record("state")["daemon_pid"]
        return pid

    def scene(self) -> Scene:
        """A fresh directory there."""
        return Scene(self.agent, self.share, self.mount, self.remote)


def _stage(
    stack: ExitStack, world: str, make_guest: Callable[..., Guest], *options: str, remote: bool
) -> Stage:
    guest = stack.enter_context(make_guest(world, *options))
    return Stage(Agent(guest), guest.share, Path(paths.GUEST_SHARE), remote, guest)


@pytest.fixture(scope="session")
def stage(world: str, case_root: Path, make_guest: Callable[..., Guest]) -> Iterator[Stage]:
    """Where host changes reach the guest. Cache timeouts are as long as can be."""
    with ExitStack() as stack:
        if world == "local":
            share = case_root / "local"
            share.mkdir()
            argv = [os.fspath(paths.TOOLS / "agent")]
            process = stack.enter_context(LineProcess(argv, case_root / "local.log"))
            yield Stage(Agent(process), share, share, True, None)
        else:
            yield _stage(stack, world, make_guest, "--daemon-arg=--cache=always", remote=True)


@pytest.fixture(scope="session")
def guest_stage(stage: Stage) -> Stage:
    """``stage``, but never the local world: for those who look at the daemon."""
    return stage


@pytest.fixture(scope="session")
def server_stage(vmm: str, make_guest: Callable[..., Guest]) -> Iterator[Stage]:
    """Where the daemon reports everybody's changes, as on a host without fanotify."""
    options = ("--daemon-arg=--cache=always", "--daemon-arg=--fsnotify=server")
    with ExitStack() as stack:
        yield _stage(stack, vmm, make_guest, *options, remote=True)


@pytest.fixture(scope="session")
def deaf_stage(vmm: str, make_guest: Callable[..., Guest]) -> Iterator[Stage]:
    """Where they do not: the daemon has ``--fsnotify=off``, the device no notification queue."""
    options = ("--daemon-arg=--fsnotify=off", "--no-notification")
    with ExitStack() as stack:
        yield _stage(stack, vmm, make_guest, *options, remote=False)


@pytest.fixture
def scene(stage: Stage) -> Iterator[Scene]:
    """A scene where host changes reach the guest."""
    with stage.scene() as scene:
        yield scene
