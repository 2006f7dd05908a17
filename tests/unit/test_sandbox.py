# SPDX-License-Identifier: BSD-3-Clause
"""The sandbox's parts, in processes of their own; the whole is tests/daemon/test_sandbox.py."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from virtiofsd_py.options import CAPABILITY_NAMES, CapabilityChange, Seccomp
from virtiofsd_py.sandbox import capabilities, seccomp


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run Python code to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


DRIVER = """
import ctypes, fcntl, os, resource, signal, socket, sys, termios, threading
from virtiofsd_py.options import Seccomp
from virtiofsd_py.sandbox import seccomp
from virtiofsd_py.sandbox.libc import Clone, unshare

libc, filters = ctypes.CDLL(None), seccomp.load()
other = os.fork()  # a process that what is confined has to leave alone
if other == 0:
    signal.pause()
ours, theirs = socket.socketpair()
dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
THREAD, CLONE = 0x3d0f00, filters.seccomp_syscall_resolve_name(b'clone')
for action, code in CASES:
    pid = os.fork()
    if pid == 0:
        seccomp.confine(filters, Seccomp(action))
        try:
            exec(code)
        except BaseException as error:
            os._exit(getattr(error, 'errno', 99))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os.kill(other, signal.SIGKILL)
os.waitpid(other, 0)
"""

FORBIDDEN = "os.getpgid(0)"
DEADLY = [
    FORBIDDEN,
    "os.fork()",
    "os.execv('/bin/true', ['true'])",
    "unshare(Clone.NEWUSER)",
    "os.setpgid(0, 0)",
    "os.chroot('.')",
    "os.kill(1, 0)",
    "fcntl.ioctl(0, termios.TIOCSTI, b'x')",
    "libc.ptrace(0, 0, 0, 0)",
    "libc.prctl(4, 1, 0, 0, 0)",
    # What a thread takes, and no more: of namespaces, say.
    "libc.syscall(CLONE, THREAD | 0x20000, 0, 0, 0, 0)",
    "libc.syscall(CLONE, THREAD | 0x10000000, 0, 0, 0, 0)",
    "libc.syscall(CLONE, THREAD | 0x2000, 0, 0, 0, 0)",
    # Of this process, not of others.
    "libc.tgkill(other, other, 0)",
    "resource.prlimit(other, resource.RLIMIT_NOFILE)",
    "resource.prlimit(other, resource.RLIMIT_NOFILE, (1, 1))",
    "os.sched_setaffinity(other, {0})",
    "fcntl.fcntl(0, fcntl.F_SETOWN, other)",
    "fcntl.fcntl(0, fcntl.F_SETSIG, 9)",
    "libc.fcntl(0, 15, ctypes.byref((ctypes.c_int * 2)(1, other)))",
    "libc.kill(other, 0)",
    "libc.pidfd_open(other, 0)",
    "signal.pidfd_send_signal(0, 0)",
]
HARMLESS = [
    "thread = threading.Thread(target=len, args=('',)); thread.start(); thread.join()",
    "unshare(Clone(0x200))",
    "os.setresuid(-1, os.geteuid(), -1)",
    "open('/proc/self/status').read()",
    "libc.prctl(15, b'name', 0, 0, 0)",
    "signal.pthread_kill(threading.get_ident(), 0)",
    "resource.getrlimit(resource.RLIMIT_NOFILE)",
    "ours.send(b'x'); theirs.recv(1); ours.sendmsg([b'x']); theirs.setblocking(False)",
    "os.set_inheritable(0, True); os.set_blocking(0, True)",
    "fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 0)",
    "fcntl.lockf(os.memfd_create('x'), fcntl.LOCK_EX)",
]
CASES = [
    *((Seccomp.KILL, code, -signal.SIGSYS) for code in DEADLY),
    *((Seccomp.KILL, code, 0) for code in HARMLESS),
    (Seccomp.KILL, "socket.socket(socket.AF_UNIX)", errno.EPERM),
    (Seccomp.KILL, "dgram.sendto(b'x', '\\0abstract')", errno.EPERM),
    (Seccomp.KILL, "dgram.connect('\\0abstract')", errno.EPERM),
    (Seccomp.LOG, FORBIDDEN, 0),
    (Seccomp.TRAP, FORBIDDEN, -signal.SIGSYS),
    (Seccomp.TRAP, f"signal.signal(signal.SIGSYS, lambda *_: os._exit(7)); {FORBIDDEN}", 7),
]


@pytest.mark.slow
def test_filter() -> None:
    cases = [(str(action), code) for action, code, _ in CASES]
    done = run(DRIVER.replace("CASES", repr(cases)))
    assert done.stderr == ""
    found = [(*case, int(status)) for case, status in zip(cases, done.stdout.split(), strict=True)]
    assert found == [(str(action), code, status) for action, code, status in CASES]


def test_no_name_is_listed_twice() -> None:
    names = [
        n for group in (*seccomp.ALLOWED.values(), *seccomp.REFUSED.values()) for n in group.split()
    ]
    assert len(names) == len(set(names))
    assert not {"clone", "unshare", "prctl", "ioctl", "fcntl", "tgkill", "sendto"} & set(names), (
        "those have rules of their own"
    )


@pytest.mark.parametrize(
    ("file_handles", "changes", "names"),
    [
        (False, [], capabilities.USUAL),
        (True, [], capabilities.USUAL | {"dac_read_search"}),
        (True, [("dac_read_search", False)], capabilities.USUAL),
        (
            False,
            [("sys_admin", True), ("chown", False)],
            (capabilities.USUAL | {"sys_admin"}) - {"chown"},
        ),
        (False, [("kill", True), ("kill", False)], capabilities.USUAL),
    ],
)
def test_kept_capabilities(
    file_handles: bool, changes: list[tuple[str, bool]], names: frozenset[str]
) -> None:
    given = [CapabilityChange(name, keep) for name, keep in changes]
    assert capabilities.kept(file_handles=file_handles, changes=given) == names
    assert names <= set(CAPABILITY_NAMES)


def test_nothing_is_imported_or_read_from_the_share(tmp_path: Path) -> None:
    script = tmp_path / "planted.py"
    script.write_text("print('planted')\n")
    done = run(
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from virtiofsd_py.sandbox import imports\n"
        "imports.forbid()\n"
        "try:\n    import planted\n"
        "except ImportError as error:\n    print(error)\n"
        f"exec(compile('raise KeyError(5)', {str(script)!r}, 'exec'))\n"
    )
    assert done.returncode == 1
    assert done.stdout == "planted: too late, the root has changed\n"
    assert "KeyError: 5" in done.stderr
    assert f'File "{script}", line 1' in done.stderr
    assert "print" not in done.stderr


def test_serving_loads_nothing_big() -> None:
    """An idle daemon is two processes, each with what has been imported."""
    loaded = "import sys, virtiofsd_py.cli, virtiofsd_py.daemon; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-P", "-c", loaded], capture_output=True, check=True)
    assert not {"tempfile", "random", "difflib", "importlib.abc"} & set(run.stdout.decode().split())
