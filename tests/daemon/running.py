# SPDX-License-Identifier: BSD-3-Clause
"""A daemon process to test: started, connected to, and always ended."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.frontend.closing import Closing

DEADLINE_S = 60.0
# Another build of the same command, such as the instrumented one.
COMMAND = os.environ.get("VIRTIOFSD_PY", str(Path(sys.executable).parent / "virtiofsd-py"))
# Such a build uses memory of its own.
INSTRUMENTED = "VIRTIOFSD_PY" in os.environ
# A build that goes wrong on request: native/base/faults.h.
FAULTY = Path(__file__).resolve().parents[2] / "build/faults/virtiofsd-py"
DELAYED = ("VFSD_FAULT_DELAY_MS=50",)
DELAYED_WITHOUT_BARRIER = (*DELAYED, "VFSD_FAULT_NO_BARRIER=1")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Return once `condition` is true, which no event tells; TimeoutError says `what` is not so."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"never: {what}")
        time.sleep(0.005)


def named_threads(pid: int) -> dict[str, list[Path]]:
    """Return where /proc has each thread of a process but the first, by name.

    Each of the core's threads gives itself its name, soon after it has begun; until then it has
    that of the first. Only for processes that have no other threads.
    """
    found: dict[str, list[Path]] = {}

    def all_named() -> bool:
        found.clear()
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # it has ended
                found.setdefault((task / "comm").read_text().strip(), []).append(task)
        others = (name for name, tasks in found.items() if name[:5] != "vfsd-" for _ in tasks)
        return len(list(others)) <= 1

    wait_until(all_named, "a name for each thread")
    return found


def waiting(pid: int) -> Iterator[str]:
    """Yield what each thread of a process waits for in the kernel, as far as that says."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            name, state, at, stack = (
                (task / what).read_text().strip() for what in ("comm", "stat", "wchan", "stack")
            )
        except OSError:  # it has ended, or the stack is not for us
            continue
        yield f"{name} {state.rpartition(') ')[2][0]} {at} {' '.join(stack.split()[1::2])}"


class Daemon(Closing):
    """One process, ready when the constructor returns.

    Attributes:
        share: what is shared, on the host.
        socket: where a front-end connects.
        pid: the process that serves; `process` is its guardian, if it has one.
        log: lines it has written so far, as far as they were read.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        share: Path | None = None,
        launcher: Sequence[str] = (),
        command: str = COMMAND,
    ) -> None:
        """Start it, by `launcher`, with its socket in `directory`; wait until it is ready."""
        self.share = share or directory / "share"
        if not self.share.exists():
            self.share.mkdir()
        self.socket = directory / "vhost.sock"
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [
                *launcher,
                command,
                f"--shared-dir={self.share}",
                f"--socket-path={self.socket}",
                "--tag=test",
                *arguments,
            ],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        self.pid = self.process.pid
        try:
            ready = self.wait_for_log("event=ready")
            self.pid = int(ready.partition(" pid=")[2].split()[0])
        except BaseException:
            self.kill()
            raise

    def wait_for_log(self, text: str, deadline_s: float = DEADLINE_S) -> str:
        """Return the next line with `text`; TimeoutError if none comes, EOFError if none can."""
        assert self.process.stderr is not None
        end = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stderr, selectors.EVENT_READ)
            line = b""
            while True:
                if not selector.select(max(0, end - time.monotonic())):
                    raise TimeoutError(f"no {text!r} in {self.log}")
                got = os.read(self.process.stderr.fileno(), 1)
                if not got:
                    raise EOFError(f"it ended without {text!r}: {self.log}")
                if got != b"\n":
                    line += got
                    continue
                self.log.append(line.decode(errors="replace"))
                line = b""
                if text in self.log[-1]:
                    return self.log[-1]

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Return the exit status; the rest of the log is in `log` then."""
        assert self.process.stderr is not None
        _, rest = self.process.communicate(timeout=deadline_s)
        self.log += rest.decode(errors="replace").splitlines()
        return self.process.returncode

    def terminate(self) -> int:
        """End it by SIGTERM; return its status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Make sure that it is gone; show the end of its log, for the case that the test failed."""
        threads: list[str] = []
        if self.process.poll() is None:
            threads = list(waiting(self.pid))
            self.process.kill()
        if self.process.stderr is not None and not self.process.stderr.closed:
            self.wait()
            end = [f"daemon ended with {self.process.returncode}", *threads, *self.log[-50:]]
            sys.stderr.write("\n".join(end) + "\n")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let every thread rest meanwhile, so that the host's queues fill up."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            while any(
                (task / "stat").read_text().rpartition(") ")[2][0] != "T"
                for task in Path(f"/proc/{self.pid}/task").iterdir()
            ):
                os.sched_yield()  # the signal takes a moment to reach them all
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def fdinfo(self) -> list[str]:
        """Return what the host shows of its descriptors, all lines of all of them."""
        lines = []
        for info in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # closed since
                lines += info.read_text().splitlines()
        return lines

    def resident_kib(self) -> int:
        """Return how much memory the process that serves has resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def fanotify_marks(self) -> list[str]:
        """Return the mark lines that the host shows for this process."""
        return [line for line in self.fdinfo() if line.startswith("fanotify ino:")]

    def close(self) -> None:
        """Make sure that it is gone, as `kill` does."""
        self.kill()
