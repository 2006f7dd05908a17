# SPDX-License-Identifier: BSD-3-Clause
"""Builds the guest's static C helpers, when they are older than their sources."""

from __future__ import annotations

import fcntl
import os
import subprocess
from typing import Final

from . import paths
from .errors import UsageError

_FLAGS: Final = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-static")
_PROGRAMS: Final = {
    "init": ("init.c", "channel.c"),
    "agent": (
        "agent.c",
        "inodes.c",
        "latency.c",
        "marks.c",
        "observe.c",
        "rounds.c",
        "script.c",
        "words.c",
    ),
    "posix": (
        "posix.c",
        "posix_files.c",
        "posix_inodes.c",
        "posix_names.c",
        "posix_words.c",
        "words.c",
    ),
    "example-monitor": ("../examples/monitor.c",),
    "example-watch": ("../examples/watch.c",),
}


def build() -> None:
    """Brings ``paths.TOOLS`` up to date; safe to call from several processes at once.

    Raises:
        UsageError: the compiler is missing or refuses.
    """
    paths.TOOLS.mkdir(parents=True, exist_ok=True)
    sources = [*paths.SOURCES.iterdir(), *paths.EXAMPLES.iterdir()]
    newest = max(path.stat().st_mtime_ns for path in sources)
    with (paths.TOOLS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for program, parts in _PROGRAMS.items():
            target = paths.TOOLS / program
            if target.exists() and target.stat().st_mtime_ns >= newest:
                continue
            partial = paths.TOOLS / f"{program}.new"
            argv = ["gcc", *_FLAGS, "-o", os.fspath(partial)]
            argv += [os.fspath(paths.SOURCES / part) for part in parts]
            try:
                subprocess.run(argv, check=True, capture_output=True, text=True)
            except FileNotFoundError as error:
                raise UsageError("gcc is not installed") from error
            except subprocess.CalledProcessError as error:
                raise UsageError(f"{program} does not build:\n{error.stderr}") from error
            partial.rename(target)
