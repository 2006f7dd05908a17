# SPDX-License-Identifier: BSD-3-Clause
"""What can go wrong, by exit status."""

from __future__ import annotations

EXIT_USAGE = 2
EXIT_TIMEOUT = 124
EXIT_GUEST_FAILED = 125


class RunGuestError(Exception):
    """Base of everything ``run-guest`` reports in one line; ``status`` is its exit status."""

    status = EXIT_GUEST_FAILED


class UsageError(RunGuestError):
    """The command line, or a file it names, cannot be used."""

    status = EXIT_USAGE


class GuestFailedError(RunGuestError):
    """Guest, VMM or daemon died, fell silent, complained or left something behind."""


class TimedOutError(RunGuestError):
    """``--timeout`` ran out."""

    status = EXIT_TIMEOUT


class InterruptedBySignal(RunGuestError):
    """SIGINT, SIGTERM or SIGHUP asked for the end."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by signal {signum}")
        self.status = 128 + signum
