# SPDX-License-Identifier: BSD-3-Clause
"""What the host mounts on a directory that the guest has looked up, the guest finds there.

With cache timeouts of a day: nothing but the daemon's word makes the guest look again. The host is
a mount namespace that ends with the guest, and all mounts with it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from runguest import paths
from runguest.agent import LineProcess

DEADLINE_S = 300.0
ANSWER_DEADLINE_S = 60.0
LOOKS = 20

# Reads requests, a line each, and answers in a line.
GUEST = """
import ctypes, os, sys
os.chdir("/mnt/share")
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(os.O_NONBLOCK)
# All but what nobody wants, of which the daemon needs one kind.
for path in (b".", b"d"):
    assert libc.inotify_add_watch(fd, path, 0xF06) > 0
def which(path):
    return open(path + "/which").read()
def mounted(path):
    return str(f" /mnt/share/{path} " in open("/proc/self/mountinfo").read())
def events(_):
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return ""
    said = []
    while data:
        size = int.from_bytes(data[12:16], sys.byteorder)
        mask = int.from_bytes(data[4:8], sys.byteorder)
        said.append(f"{mask:x}:{data[16:16 + size].rstrip(bytes(1)).decode()}")
        data = data[16 + size:]
    return " ".join(said)
print("ready", flush=True)
for line in sys.stdin:
    verb, path = line.split()
    print(globals()[verb](path), flush=True)
"""


class Guest:
    """A guest of a daemon whose share is a shared mount, and the host that it sees."""

    def __init__(self, process: LineProcess, share: Path) -> None:
        self._process = process
        self._share = share
        assert process.read_line(DEADLINE_S) == "ready"

    def ask(self, verb: str, path: str = "-") -> str:
        """Return the guest's answer."""
        self._process.write_line(f"{verb} {path}")
        return self._process.read_line(ANSWER_DEADLINE_S)

    def run(self, *command: str) -> None:
        """Run a command on the host, in the share."""
        namespace = f"--mount=/proc/{self._process.process.pid}/ns/mnt"
        subprocess.run(
            ["nsenter", namespace, "sh", "-c", 'cd "$0" && exec "$@"', self._share, *command],
            check=True,
            timeout=ANSWER_DEADLINE_S,
        )

    def becomes(self, verb: str, path: str, answer: str) -> None:
        """Ask until the answer is that."""
        end = time.monotonic() + ANSWER_DEADLINE_S
        while (got := self.ask(verb, path)) != answer:
            assert time.monotonic() < end, got


Boot = Callable[..., AbstractContextManager[Guest]]


@pytest.fixture
def boot(vmm: str, tmp_path: Path) -> Boot:
    """Boots a guest with the given arguments of the daemon, for the length of a block."""

    @contextmanager
    def run(*arguments: str) -> Iterator[Guest]:
        share = tmp_path / "share"
        for name in ("d", "e"):
            (share / name).mkdir(parents=True)
            (share / name / "which").write_text(f"plain {name}")
        script = 'mount --bind "$0" "$0" && mount --make-shared "$0" && exec "$@"'
        with LineProcess(
            [
                *("unshare", "--mount", "sh", "-c", script, os.fspath(share)),
                *(os.fspath(paths.RUN_GUEST), "--vmm", vmm, "--share", os.fspath(share)),
                *(f"--daemon-arg={each}" for each in ("--cache=always", *arguments)),
                *("--", "python3", "-c", GUEST),
            ],
            tmp_path / "log",
        ) as process:
            yield Guest(process, share)

    return run


def mount(guest: Guest, path: str, text: str) -> None:
    guest.run("mount", "-t", "tmpfs", "none", path)
    guest.run("sh", "-c", f"printf '{text}' > {path}/which")


@pytest.mark.only("uml")
def test_guest_looks_again(boot: Boot) -> None:
    with boot("--announce-submounts") as guest:
        assert guest.ask("which", "d") == "plain d"
        assert guest.ask("which", "e") == "plain e"
        mount(guest, "d", "mounted")
        guest.becomes("which", "d", "mounted")
        # A filesystem of its own, and the other directory is what it was.
        assert guest.ask("mounted", "d") == "True"
        assert guest.ask("mounted", "e") == "False"
        assert guest.ask("which", "e") == "plain e"
        # Below that one another, by a directory that is somewhere else too.
        guest.run("mkdir", "d/deep")
        guest.run("mount", "--bind", "e", "d/deep")
        guest.becomes("which", "d/deep", "plain e")
        assert guest.ask("mounted", "d/deep") == "True"
        guest.run("umount", "-l", "d/deep")
        guest.run("sh", "-c", "printf deep > d/deep/which")
        guest.becomes("which", "d/deep", "deep")
        assert guest.ask("mounted", "d/deep") == "False"
        guest.run("umount", "-l", "d")
        guest.becomes("which", "d", "plain d")
        assert guest.ask("mounted", "d") == "False"
        # To watchers nothing has happened: what has changed is what names lead to.
        assert guest.ask("events") == ""
        # Nor are they deaf now.
        guest.run("mkdir", "sentinel")
        guest.becomes("events", "-", "40000100:sentinel")


@pytest.mark.only("uml")
def test_without_remote_fsnotify_it_does_not(boot: Boot) -> None:
    with boot("--fsnotify=off") as guest:
        assert guest.ask("which", "d") == "plain d"
        mount(guest, "d", "mounted")
        for _ in range(LOOKS):
            assert guest.ask("which", "d") == "plain d"
        assert guest.ask("mounted", "d") == "False"


# The same in two filesystems of the host, which give the same numbers.
TWINS = """
for place in . m; do
    mount -t tmpfs none "$0/$place"
    mkdir "$0/$place/a" "$0/$place/m"
    echo "in $place" > "$0/$place/a/f"
    ln "$0/$place/a/f" "$0/$place/a/g"
done
cd /
exec "$@"
"""
LOOK = """
set -e
cd /mnt/share
test ! a/f -ef m/a/f
test a/f -ef a/g
test m/a/f -ef m/a/g
stat -c %d . m | sort -u | wc -l
find . -type f | sort
ls -R | grep -c f
mkdir /tmp/tar
tar cf - . | tar -C /tmp/tar -xf -
cp -a . /tmp/cp
for copy in /tmp/tar /tmp/cp; do
    diff -r . $copy
    cat $copy/m/a/f
done
rm -r m/a
find . -type f | sort
"""


@pytest.mark.only("uml")
@pytest.mark.parametrize(("argument", "devices"), [("--no-announce-submounts", 1), ("", 2)])
def test_two_filesystems_of_the_same_numbers(tmp_path: Path, argument: str, devices: int) -> None:
    share = tmp_path / "share"
    share.mkdir()
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-e", "-c", TWINS, os.fspath(share)),
            *(os.fspath(paths.RUN_GUEST), "--vmm", "uml", "--share", os.fspath(share)),
            *([f"--daemon-arg={argument}"] if argument else []),
            *("--", "sh", "-c", LOOK),
        ],
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    own, below = ["./a/f", "./a/g"], ["./m/a/f", "./m/a/g"]
    assert done.stdout.splitlines() == [
        *(str(devices), *own, *below, "2"),
        *("in m", "in m"),
        *own,
    ]
