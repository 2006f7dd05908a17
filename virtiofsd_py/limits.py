# SPDX-License-Identifier: BSD-3-Clause
"""What the host has for all of its users, and the part of it that one daemon's guest may have.

Read before the sandbox, in which these files are out of reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

NOFILE_WANTED: Final = 1_000_000
# A guest leaves three quarters to the others, guests and programs of the same user alike. With less
# for the guest, an editor that watches a source tree would be refused on a small host, where the
# kernel allows some ten thousand.
_WATCHES_PART: Final = 4
# What fs.file-max leaves to everybody else: one in so many, and no fewer than these.
_FILES_PART: Final = 8
_FILES_LEFT: Final = 8192
# Where the kernel does not say, or has not been asked.
_FALLBACK: Final = 8192
_UINT32_MAX: Final = 0xFFFF_FFFF
_SYSCTL: Final = Path("/proc/sys")


@dataclass(frozen=True, slots=True)
class WatchLimit:
    """How many watches of one kind the host lets a user have.

    Attributes:
        name: of the sysctl.
        host: its value, or what a user namespace has less.
    """

    name: str
    host: int

    @property
    def part(self) -> int:
        """Of those, the ones that a guest may cause."""
        return max(self.host // _WATCHES_PART, 1)

    def of_guest(self, asked: int) -> int:
        """Return how many a guest may cause that was allowed `asked`, 0 being what is usual."""
        return min(asked, _UINT32_MAX) if asked else self.part


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """Of both kinds of watches."""

    marks: WatchLimit
    watches: WatchLimit


def watch_limits(sysctl: Path = _SYSCTL) -> WatchLimits:
    """Ask the host; `sysctl` is where it says so."""
    return WatchLimits(
        _watch_limit(sysctl, "fanotify", "max_user_marks", "max_fanotify_marks"),
        _watch_limit(sysctl, "inotify", "max_user_watches", "max_inotify_watches"),
    )


def _watch_limit(sysctl: Path, kind: str, of_all: str, of_namespace: str) -> WatchLimit:
    values = [_number(sysctl / "fs" / kind / of_all), _number(sysctl / "user" / of_namespace)]
    known = [min(value, _UINT32_MAX) for value in values if value is not None]
    return WatchLimit(f"fs.{kind}.{of_all}", min(known, default=_FALLBACK))


def files_of_daemon(sysctl: Path = _SYSCTL) -> int:
    """Return how many descriptors a daemon may have that nobody has told another number."""
    return files_below(
        int((sysctl / "fs/nr_open").read_text()), int((sysctl / "fs/file-max").read_text())
    )


def files_below(nr_open: int, file_max: int) -> int:
    """Return that number: at most what one process may have, and not all that there are.

    Args:
        nr_open: most descriptors of a process.
        file_max: most open files of the host.
    """
    left = min(max(file_max // _FILES_PART, _FILES_LEFT), file_max // 2)
    return min(NOFILE_WANTED, nr_open, file_max - left)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
