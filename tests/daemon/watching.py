# SPDX-License-Identifier: BSD-3-Clause
"""``virtiofsd-py watch`` as a process, for all tests that run one."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.daemon.running import COMMAND, DEADLINE_S, Daemon

SENTINEL = "sentinel"


class Watcher:
    """A ``watch`` command that is ready."""

    def __init__(self, daemon: Daemon, *arguments: str, launcher: tuple[str, ...] = ()) -> None:
        self._read = b""
        command = [*launcher, COMMAND, "watch", f"--socket-path={daemon.socket}", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def line(self, deadline_s: float = DEADLINE_S) -> str:
        """Return the next line; TimeoutError if none comes, EOFError if none can."""
        assert self.process.stdout is not None
        end = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(0, end - time.monotonic())):
                    raise TimeoutError(f"no line but {self._read!r}")
                got = os.read(self.process.stdout.fileno(), 1 << 16)
                if not got:
                    raise EOFError(f"it ended: {self.process.communicate()}")
                self._read += got
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def record(self) -> dict[str, Any]:
        """Return the next line's object."""
        return dict(json.loads(self.line()))

    def ready(self) -> None:
        """Wait until everything is watched."""
        while self.record() != {
            "type": "watch",
            "status": "ready",
            "path": "",
            "error": 0,
            "watch": 0,
        }:
            pass

    def until_sentinel(self, directory: Path) -> list[dict[str, Any]]:
        """Make a sentinel in a watched directory; return what came before it."""
        (directory / SENTINEL).mkdir()
        (directory / SENTINEL).rmdir()
        records = []
        while True:
            record = self.record()
            if Path(record.get("path", "")).name != SENTINEL:
                records.append(record)
            elif record["event"] == "delete":
                return records

    def end(self) -> tuple[int, str, str]:
        """Return status and what was not read, once it has ended."""
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, (self._read + out).decode(), err.decode()

    def kill(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@contextmanager
def watchers(*first: str) -> Iterator[Callable[..., Watcher]]:
    """Start watchers with these arguments first; each ends with the context."""
    with ExitStack() as stack:

        def run(daemon: Daemon, *arguments: str, launcher: tuple[str, ...] = ()) -> Watcher:
            watcher = Watcher(daemon, *first, *arguments, launcher=launcher)
            stack.callback(watcher.kill)
            return watcher

        yield run


def short(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(r.get("event") or r["type"], r.get("path", "")) for r in records]
