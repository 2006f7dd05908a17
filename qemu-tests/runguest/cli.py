# SPDX-License-Identifier: BSD-3-Clause
"""``run-guest``: starts everything, waits, judges, takes everything down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType as StackFrame
from typing import Final

from . import helpers, options, paths, uml
from .console import complaints, read_log
from .daemon import Daemon
from .errors import GuestFailedError, InterruptedBySignal, RunGuestError, UsageError
from .options import Options
from .processes import Child, Workspace
from .session import Session
from .vmm import Machine

_TAG: Final = "vfsd-share"
_POWER_OFF_DEADLINE_S: Final = 60.0
_SHOWN_LOG_LINES: Final = 60
_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Run:
    """One guest, from start to verdict."""

    def __init__(self, asked: Options, workspace: Workspace) -> None:
        self._asked = asked
        self._workspace = workspace
        self._logs = asked.logs or workspace.directory("logs")
        self._logs.mkdir(parents=True, exist_ok=True)
        self._share = asked.share or workspace.directory("share")
        self._daemons: list[Daemon] = []
        self._moves = 0
        self._end_s = None if asked.timeout_s is None else time.monotonic() + asked.timeout_s
        self._vmm: Child | None = None
        self._session: Session | None = None

    def execute(self) -> int:
        """Runs the command; its status, or 125 and the logs on stderr if anything was not right.

        Raises:
            UsageError: something cannot be started.
            InterruptedBySignal: from the signal handler.
        """
        faults: list[str] = []
        status = GuestFailedError.status
        try:
            status = self._converse()
        except (UsageError, InterruptedBySignal):
            raise
        except RunGuestError as error:
            faults.append(str(error))
            status = error.status
        finally:
            if self._vmm:
                self._vmm.end(grace_s=0)
        booted = self._session is not None and self._session.booted
        faults += [fault for daemon in self._daemons for fault in daemon.faults_at_end(booted)]
        for console in sorted(self._logs.glob("console*.log")):
            faults += [f"console: {line}" for line in complaints(read_log(console))]
        self._write("result.json", status=status, faults=faults, **self._statuses())
        if not faults:
            return status
        self._show(faults)
        return status if status == 124 else GuestFailedError.status

    def _converse(self) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            self._vmm = self._start(theirs)
        with _move_signal() as wishes:
            self._write("state.json", **self._state())
            self._session = Session(
                ours,
                self._vmm,
                paths.GUEST_SHARE,
                self._asked.command,
                self._end_s,
                wishes,
                self._move,
            )
            with contextlib.closing(self._session):
                status = self._session.run()
                vmm_status = self._vmm.wait(_POWER_OFF_DEADLINE_S)
        if vmm_status is None:
            raise GuestFailedError(f"the guest does not power off ({_POWER_OFF_DEADLINE_S:.0f} s)")
        if vmm_status != 0:
            raise GuestFailedError(f"{self._vmm.name} ended with status {vmm_status}")
        return status

    def _move(self) -> tuple[socket.socket, Child]:
        from . import qemu

        old, old_qmp = self._vmm, self._path("qmp")
        if self._asked.vmm != "qemu" or old is None:
            raise UsageError("only a QEMU guest can be moved")
        self._moves += 1
        ours, theirs = socket.socketpair()
        with theirs:
            self._vmm = self._start(theirs, incoming=True)
        qemu.migrate(old_qmp, self._vmm, self._path("qmp"), self._path("incoming"))
        old.end()
        self._write("state.json", **self._state())
        return ours, self._vmm

    def _name(self, name: str) -> str:
        """The same for the next VMM, if the guest has moved."""
        return f"{name}-{self._moves}" if self._moves else name

    def _path(self, name: str) -> Path:
        return self._workspace.path / self._name(name)

    def _start(self, channel: socket.socket, *, incoming: bool = False) -> Child:
        asked = self._asked
        machine = Machine(
            kernel=asked.kernel,
            smp=asked.smp,
            queues=asked.queues,
            mem_mib=asked.mem_mib,
            tag=_TAG,
            notification=asked.notification,
            append=asked.append,
            initrd=asked.initrd,
            attached=asked.attached,
        )
        arguments = [f"--num-request-queues={asked.queues}", *asked.daemon_args]
        if not asked.notification and asked.vmm == "uml":
            arguments.append("--fsnotify=off")  # a UML guest has the queues that the daemon offers
        share = self._daemon(asked.daemon, self._share, _TAG, arguments)
        console = self._logs / f"{self._name('console')}.log"
        if asked.vmm == "uml":
            return uml.start(self._workspace, machine, console, channel, share.socket, self._share)
        from . import qemu  # needs qemu.qmp, which a UML run does not

        accel = asked.accel
        if accel == "auto":
            works = qemu.kvm_works(self._workspace, asked.qemu, paths.FIRMWARE, asked.kernel)
            accel = "kvm" if works else "tcg"
        root_arguments = ["--readonly", "--cache=always", "--fsnotify=off"]
        # The guest has seen /proc of this machine, where processes end.
        root_arguments.append("--migration-on-error=guest-error")
        root = self._daemon(asked.root_daemon, Path("/"), qemu.ROOT_TAG, root_arguments)
        return qemu.start(
            self._workspace,
            machine,
            qemu.Emulator(asked.qemu, paths.FIRMWARE, accel),
            console,
            channel,
            share.socket,
            root.socket,
            self._path("qmp"),
            self._logs / f"{self._name('qemu')}.log",
            incoming,
        )

    def _daemon(self, program: Path, shared: Path, tag: str, arguments: Sequence[str]) -> Daemon:
        name = self._name(tag)
        log = self._logs / f"{name}.log"
        daemon = Daemon(self._workspace, log, program, shared, tag, arguments, name=name)
        self._daemons.append(daemon)
        return daemon

    def _state(self) -> dict[str, object]:
        assert self._vmm is not None
        daemon = [each for each in self._daemons if each.tag == _TAG][-1]
        return {
            "pid": os.getpid(),
            "vmm_pid": self._vmm.pid,
            "daemon_pid": daemon.child.pid,
            "socket": str(daemon.socket),
            "share": str(self._share),
            "qmp": str(self._path("qmp")),
            "workspace": str(self._workspace.path),
            "moves": self._moves,
        }

    def _statuses(self) -> dict[str, object]:
        return {
            "vmm_status": self._vmm.status if self._vmm else None,
            "daemon_status": self._daemons[0].child.status if self._daemons else None,
        }

    def _write(self, name: str, **values: object) -> None:
        partial = self._logs / f".{name}"
        partial.write_text(json.dumps(values, indent=1) + "\n")
        partial.rename(self._logs / name)

    def _show(self, faults: Sequence[str]) -> None:
        for log in sorted(self._logs.glob("*.log")):
            lines = read_log(log).splitlines()
            if lines:
                shown = lines[-_SHOWN_LOG_LINES:]
                print(f"---- {log.name} (last {len(shown)} of {len(lines)} lines)", file=sys.stderr)
                print("\n".join(shown), file=sys.stderr)
        print("----", file=sys.stderr)
        for fault in faults:
            print(f"run-guest: {fault}", file=sys.stderr)


@contextlib.contextmanager
def _move_signal() -> Iterator[socket.socket]:
    """Turns SIGUSR1 into bytes on a socket, for the length of a block."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = signal.signal(signal.SIGUSR1, lambda *_: theirs.send(b"m"))
        try:
            yield ours
        finally:
            signal.signal(signal.SIGUSR1, before)


def _interrupt(signum: int, _frame: StackFrame | None) -> None:
    for number in _ENDING_SIGNALS:  # once is enough; let the cleanup finish
        signal.signal(number, signal.SIG_IGN)
    raise InterruptedBySignal(signum)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    try:
        for number in _ENDING_SIGNALS:
            signal.signal(number, _interrupt)
        asked = options.parse(sys.argv[1:] if argv is None else argv)
        helpers.build()
        with Workspace() as workspace:
            return Run(asked, workspace).execute()
    except RunGuestError as error:
        print(f"run-guest: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:  # whoever read our output has gone
        return 128 + signal.SIGPIPE
