# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures: a daemon with a share of its own, and a guest that has said INIT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.running import Daemon
from tests.frontend import Session


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--host-events",
        type=int,
        default=100_000,
        help="how many the host makes at full speed; 1000000 is the long form",
    )
    parser.addoption(
        "--host-errors",
        type=int,
        default=1000,
        help="how many a broken filesystem reports; 100000 is the long form",
    )
    parser.addoption(
        "--border-rounds",
        type=int,
        default=60,
        help="how often a guest tries what it has heard of; 3000 is the long form",
    )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start daemons with the given arguments; each ends with the test."""
    with ExitStack() as stack:
        count = 0

        def run(*arguments: str, share: Path | None = None) -> Daemon:
            nonlocal count
            count += 1
            directory = tmp_path / str(count)
            directory.mkdir()
            return stack.enter_context(Daemon(directory, *arguments, share=share))

        yield run


@pytest.fixture
def daemon(start: Callable[..., Daemon]) -> Daemon:
    """Return a daemon with default options."""
    return start()


@pytest.fixture
def connect() -> Iterator[Callable[..., Session]]:
    """Connect drivers, with the arguments of `Session`, which say INIT; each ends with the test."""
    with ExitStack() as stack:

        def run(daemon: Daemon, **arguments: Any) -> Session:  # noqa: ANN401 - as Session has them
            session = stack.enter_context(Session.connect(daemon.socket, **arguments))
            session.fuse.init()
            return session

        yield run


@pytest.fixture
def guest(daemon: Daemon) -> Iterator[Session]:
    """Yield a driver that has said INIT."""
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        yield session
