# SPDX-License-Identifier: BSD-3-Clause
"""A command in a guest of its own, by run-guest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from runguest import paths

DEADLINE_S: Final = 300


def run_in_guest(
    vmm: str, share: Path, *command: str, options: tuple[str, ...] = (), text: str | None = None
) -> str:
    """Run a command in the share; return what it prints.

    Args:
        vmm: kind of guest.
        share: what it mounts.
        command: with its arguments.
        options: of run-guest.
        text: what the command reads from its input.
    """
    done = subprocess.run(
        [
            *(os.fspath(paths.RUN_GUEST), "--vmm", vmm, "--share", os.fspath(share)),
            *(*options, "--", *command),
        ],
        input=text,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
