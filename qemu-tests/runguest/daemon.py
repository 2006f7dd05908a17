# SPDX-License-Identifier: BSD-3-Clause
"""A virtio-fs daemon of one run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .console import read_log
from .errors import GuestFailedError
from .processes import Child, Workspace, wait_readable

START_DEADLINE_S: Final = 60.0
END_DEADLINE_S: Final = 30.0
_SO_ACCEPTCON: Final = 0x10000


class Daemon:
    """One daemon: a share, a socket in a directory of its own, a process.

    The directory is the daemon's alone, so that what it leaves there can be found.
    """

    def __init__(
        self,
        workspace: Workspace,
        log: Path,
        program: Path,
        shared_dir: Path,
        tag: str,
        extra: Sequence[str] = (),
        *,
        name: str | None = None,
    ) -> None:
        """Starts it; returns when it listens.

        Args:
            workspace: owner of the process and of the socket's directory.
            log: takes what it prints.
            program: a virtiofsd by its command line.
            shared_dir: what it serves.
            tag: virtio-fs tag.
            extra: further arguments.
            name: of the socket's directory, if not the tag.

        Raises:
            UsageError: the program cannot be run.
            GuestFailedError: it ended, or did not listen in time.
        """
        self.tag = tag
        self.directory = workspace.directory(name or tag)
        self.socket = self.directory / "socket"
        argv = [
            os.fspath(program),
            f"--socket-path={self.socket}",
            f"--shared-dir={shared_dir}",
            f"--tag={tag}",
            *extra,
        ]
        # SIGTERM when we are killed: it removes its socket.
        self.child = workspace.adopt(Child(name or tag, argv, log, death_signal=signal.SIGTERM))
        self._await_listening()

    def _await_listening(self) -> None:
        # There is no event for "listens", and a trial connection would be the only one it takes.
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._listens():
            if wait_readable([self.child.pidfd], 0.01):
                status = self.child.wait(1)
                last_words = read_log(self.child.log).strip()
                raise GuestFailedError(f"the daemon ended at once ({status}): {last_words}")
            if time.monotonic() > deadline:
                raise GuestFailedError(f"the daemon does not listen after {START_DEADLINE_S:.0f} s")

    def _listens(self) -> bool:
        path = os.fspath(self.socket)
        for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
            fields = line.split(maxsplit=7)
            if len(fields) == 8 and fields[7] == path and int(fields[3], 16) & _SO_ACCEPTCON:
                return True
        return False

    def faults_at_end(self, was_used: bool) -> list[str]:
        """Call when the guest has gone: what the daemon did wrong on its way out, if anything.

        Args:
            was_used: a front-end has come and gone, so the daemon has to end by itself.
        """
        if not was_used:
            self.child.ask_to_end()
        status = self.child.wait(END_DEADLINE_S)
        if status is None:
            return [f"the daemon ({self.child.name}) outlives its guest"]
        faults = []
        if status != 0:
            faults.append(f"the daemon ({self.child.name}) ended with status {status}")
        left = sorted(path.name for path in self.directory.iterdir())
        if left:
            faults.append(f"the daemon ({self.child.name}) left behind: {', '.join(left)}")
        return faults
