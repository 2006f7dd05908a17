# SPDX-License-Identifier: BSD-3-Clause
"""Errors of host filesystems below the share, as ``virtiofsd-py watch`` shows them."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.running import Daemon
from tests.daemon.test_fserrors import EFSBADCRC, EFSCORRUPTED, Disk
from tests.daemon.test_whole import PRIVILEGED
from tests.daemon.watching import Watcher, watchers

pytestmark = pytest.mark.slow


@pytest.fixture
def share(tmp_path: Path) -> Iterator[tuple[Path, Disk, Disk]]:
    """A share with two disks below it."""
    path = tmp_path / "share"
    path.mkdir()
    with ExitStack() as stack:
        disks = []
        for name in ("one", "other"):
            disks.append(Disk(tmp_path / f"{name}.img", path / name))
            stack.callback(disks[-1].close)
        yield path, disks[0], disks[1]


def cover(disk: Disk) -> None:
    """Let nobody come across what is broken; it is uncovered with the disk."""
    subprocess.run(["mount", "-t", "tmpfs", "none", disk.path / "broken"], check=True)


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    with watchers("--json") as start:
        yield start


def until_ready(watcher: Watcher) -> list[dict[str, Any]]:
    records = [watcher.record()]
    while records[-1].get("status") != "ready":
        records.append(watcher.record())
    return records[:-1]


def test_errors_of_each_filesystem(
    start: Callable[..., Daemon],
    watch: Callable[..., Watcher],
    share: tuple[Path, Disk, Disk],
) -> None:
    path, one, other = share
    cover(one)
    cover(other)
    daemon = start(*PRIVILEGED, share=path)
    watcher, single = watch(daemon, "--type=error"), watch(daemon, "--type=error", "other")
    assert until_ready(watcher) == []
    assert until_ready(single) == []
    with daemon.stopped():
        one.fail(1000)
        other.fail(3)
    told: list[dict[str, Any]] = []
    while sum(r["count"] for r in told) < 1003:
        told.append(watcher.record())
    assert {r["type"] for r in told} == {"error"}
    assert sum(r["count"] for r in told if r["path"] == "one") == 1000
    assert {r["path"] for r in told} == {"one", "other"}
    assert {r["error"] for r in told} == {EFSCORRUPTED}
    # Few records, whatever the number.
    assert len(told) < 10
    # The other disk is all that this one hears of.
    told.clear()
    while sum(r["count"] for r in told) < 3:
        told.append(single.record())
    assert {r["path"] for r in told} == {"other"}
    assert sum(r["count"] for r in told) == 3


def test_what_is_broken_is_named(
    start: Callable[..., Daemon],
    watch: Callable[..., Watcher],
    share: tuple[Path, Disk, Disk],
) -> None:
    """The daemon comes across it itself: it cannot watch what it cannot read."""
    path, one, other = share
    cover(one)
    daemon = start(*PRIVILEGED, share=path)
    watcher = watch(daemon, "--type=error")
    (said,) = [r for r in until_ready(watcher) if r["type"] == "watch"]
    broken = {"path": "other/broken", "error": EFSBADCRC}
    assert said.items() >= ({"status": "incomplete"} | broken).items()
    other.read_broken()
    record = watcher.record()
    assert record.items() >= ({"type": "error"} | broken).items()


def test_without_privilege_that_is_said(daemon: Daemon, watch: Callable[..., Watcher]) -> None:
    (said,) = until_ready(watch(daemon, "--type=error,event"))
    assert (said["status"], said["error"]) == ("no_errors", errno.EPERM)
    # Unless nobody asked for them.
    assert until_ready(watch(daemon)) == []
    assert until_ready(watch(daemon, "--type=event")) == []
