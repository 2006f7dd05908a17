# SPDX-License-Identifier: BSD-3-Clause
"""The programs under ``examples``, as they are: what a user writes, run in guests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from runguest import paths
from runguest.agent import Guest
from test_marks import launcher
from test_whole import PRIVILEGED, disks, fail

__all__ = ["disks"]

DEADLINE_S = 60.0


def lines(guest: Guest, count: int) -> list[str]:
    """The next ``count`` lines of the program."""
    return [guest.read_line(DEADLINE_S).strip() for _ in range(count)]


def program(name: str, place: str, count: int) -> tuple[str, ...]:
    return (f"{paths.GUEST_TOOLS}/example-{name}", f"{paths.GUEST_SHARE}{place}", str(count))


def test_inotify(vmm: str, make_guest: Callable[..., Guest]) -> None:
    with make_guest(vmm, command=program("watch", "", 4)) as guest:
        assert lines(guest, 1) == ["watching"]
        (guest.share / "f").write_text("hello")
        (guest.share / "f").rename(guest.share / "g")
        assert lines(guest, 4) == ["CREATE f", "CLOSE_WRITE f", "MOVED_FROM f", "MOVED_TO g"]


def test_fanotify(
    vmm: str, make_guest: Callable[..., Guest], case_root: Path, disks: list[Path]
) -> None:
    """Events and errors of a disk that is mounted as the share."""
    disk = disks[0]
    daemon = launcher(
        case_root / "daemon-of-a-disk",
        f"""
        for argument; do case $argument in --shared-dir=*) share=${{argument#*=}} ;; esac; done
        mountpoint -q "$share" || mount -o errors=continue {disk} "$share" || exit 1
        """,
    )
    options = (f"--daemon={daemon}", PRIVILEGED)
    guest = make_guest(vmm, *options, command=program("monitor", "", 5))
    try:
        with guest:
            assert lines(guest, 1) == ["watching"]
            (guest.share / "a").mkdir()
            assert lines(guest, 1) == [f"CREATE {paths.GUEST_SHARE}/a"]
            (guest.share / "a" / "b").mkdir()
            assert lines(guest, 1) == [f"CREATE {paths.GUEST_SHARE}/a/b"]
            (guest.share / "a" / "b" / "f").symlink_to("x")
            assert lines(guest, 1) == [f"CREATE {paths.GUEST_SHARE}/a/b/f"]
            (guest.share / "a" / "b" / "f").unlink()
            assert lines(guest, 1) == [f"DELETE {paths.GUEST_SHARE}/a/b/f"]
            fail(disk, 1)
            assert lines(guest, 1) == ["ERROR 117, 1 in all"]
    finally:
        subprocess.run(["umount", "-l", guest.share], check=True)
