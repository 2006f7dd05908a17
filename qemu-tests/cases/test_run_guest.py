# SPDX-License-Identifier: BSD-3-Clause
"""``run-guest`` itself: what it promises in ``--help``."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from probes import family
from runguest import paths
from runguest.agent import Agent, Guest
from runguest.console import complaints
from runguest.errors import GuestFailedError
from runguest.processes import wait_readable

DEADLINE_S = 300
# reboot(2) with LINUX_REBOOT_CMD_POWER_OFF: a small system has no program for it.
POWER_OFF = "import ctypes; ctypes.CDLL(None).reboot(0x4321FEDC)"


def run_guest(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = [os.fspath(paths.RUN_GUEST), *arguments]
    return subprocess.run(argv, input=stdin, capture_output=True, timeout=DEADLINE_S, check=False)


def test_streams_and_status_are_those_of_the_command(vmm: str) -> None:
    done = run_guest("--vmm", vmm, "--", "sh", "-c", "pwd; echo oops >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == (b"/mnt/share\n", b"oops\n", 3)


def test_input_is_forwarded_whatever_its_size(vmm: str) -> None:
    data = random.Random(1).randbytes(300_000)
    done = run_guest("--vmm", vmm, "--", "cat", stdin=data)
    assert done.returncode == 0
    assert done.stdout == data


@pytest.mark.only("qemu")
def test_all_processors_run(vmm: str) -> None:
    assert run_guest("--vmm", vmm, "--smp", "3", "--", "nproc").stdout == b"3\n"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("sh", "-c", "kill -9 $$"), 137),
        (("no-such-command",), 127),
        (("/etc/passwd",), 126),
        (("sh", "-c", "sleep 1000 & exit 0"), 0),
    ],
    ids=["killed", "not-found", "not-executable", "leaves-a-child"],
)
def test_status(vmm: str, command: tuple[str, ...], status: int) -> None:
    assert run_guest("--vmm", vmm, "--", *command).returncode == status


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("sh", "-c", "echo 'WARNING: made up' > /dev/kmsg"), "WARNING: made up"),
        (("python3", "-c", POWER_OFF), "before the command did"),
    ],
    ids=["complains", "leaves"],
)
def test_a_guest_that_fails_is_a_failure(vmm: str, command: tuple[str, ...], words: str) -> None:
    done = run_guest("--vmm", vmm, "--", *command)
    assert done.returncode == 125
    assert words in done.stderr.decode()
    assert "console.log" in done.stderr.decode()


@pytest.mark.only("uml")
@pytest.mark.parametrize("word", ["WARNING: made up", "all is well"], ids=["fails", "does not"])
def test_logs_of_a_guest_that_fails_are_kept(
    vmm: str,
    word: str,
    make_guest: Callable[..., Guest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paths, "FAILED_GUESTS", tmp_path)
    fails = "WARNING" in word
    guest = make_guest(vmm, command=("sh", "-c", f"echo '{word}' > /dev/kmsg"))
    with pytest.raises(GuestFailedError) if fails else contextlib.nullcontext(), guest:
        pass
    assert [word in log.read_text() for log in tmp_path.glob("*/console.log")] == [True] * fails


@pytest.mark.only("uml")
def test_a_signal_while_the_kernel_ends_does_no_harm(vmm: str, tmp_path: Path) -> None:
    """UML's interrupts are signals, and one may come when there is no kernel left to serve it."""
    argv = [os.fspath(paths.RUN_GUEST), "--vmm", vmm, "--", "sh", "-c", "echo ready; cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guest:
        assert guest.stdin
        assert guest.stdout
        assert guest.stdout.readline() == b"ready\n"
        program = os.fspath(paths.UML_KERNEL)
        kernel = next(
            pid for pid in family(guest.pid) if os.readlink(f"/proc/{pid}/exe") == program
        )
        # The last of its calls that stops the timer is made on the way out of main().
        inject = [
            "--trace=timer_settime",
            "--inject=timer_settime:signal=SIGIO",
            f"--attach={kernel}",
        ]
        log = tmp_path / "strace"
        with log.open("wb") as output, subprocess.Popen(["strace", *inject], stderr=output):
            while b"attached" not in log.read_bytes():
                wait_readable([], 0.01)
            guest.stdin.close()
    assert guest.returncode == 0
    assert b"exited with 0" in log.read_bytes()


def test_time_runs_out(vmm: str) -> None:
    assert run_guest("--vmm", vmm, "--timeout", "3", "--", "sleep", "1000").returncode == 124


@pytest.mark.parametrize(
    "arguments",
    [
        ("--vmm", "uml"),
        ("--vmm", "kvm", "--", "true"),
        ("--vmm", "uml", "--smp", "2", "--", "true"),
        ("--vmm", "uml", "--share", "/no/such/directory", "--", "true"),
        ("--vmm", "uml", "--attach", "tag=/socket", "--", "true"),
        ("--vmm", "qemu", "--attach", "/socket", "--", "true"),
        ("--vmm", "uml", "--kernel", "/no/such/kernel", "--", "true"),
    ],
)
def test_a_wrong_command_line_is_status_2_and_names_the_cause(arguments: tuple[str, ...]) -> None:
    done = run_guest(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith((b"run-guest: ", b"usage: "))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(
    vmm: str, signum: signal.Signals, make_guest: Callable[..., Guest]
) -> None:
    """Even after SIGKILL no process; then the next run removes the directory."""
    with contextlib.closing(make_guest(vmm)) as guest:
        Agent(guest)
        processes = [os.pidfd_open(pid) for pid in family(guest.process.pid)[1:]]
        workspace = Path(guest.record("state")["workspace"])
        assert len(processes) >= 2
        guest.process.send_signal(signum)
        assert guest.close() == (-signum if signum == signal.SIGKILL else 128 + signum)
    for pidfd in processes:
        assert wait_readable([pidfd], DEADLINE_S)  # it has ended
        os.close(pidfd)
    if signum == signal.SIGKILL:
        assert run_guest("--vmm", "uml", "--", "true").returncode == 0
    assert not workspace.exists()


def test_console_complaints_are_told_from_chatter() -> None:
    bad = [
        "WARNING: CPU: 0 PID: 15 at lib/refcount.c:28 refcount_warn_saturate",
        "BUG: KASAN: slab-use-after-free in fuse_notify",
        "kernel BUG at fs/inode.c:1!",
        "Kernel panic - not syncing: Attempted to kill init!",
        "WARNING: possible circular locking dependency detected",
        "INFO: task agent:12 blocked for more than 120 seconds.",
        "BUG: sleeping function called from invalid context at mm/slab.h:1",
    ]
    good = [
        "Linux version 6.12.95 (gcc) #1 SMP",
        "Spectre V2 : WARNING: Unprivileged eBPF is enabled",
        "debug: circular buffer of 64 KiB",
        "rcu: Hierarchical RCU implementation.",
    ]
    assert complaints("\n".join(bad + good)) == bad
