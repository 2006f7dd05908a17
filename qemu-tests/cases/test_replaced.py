# SPDX-License-Identifier: BSD-3-Clause
"""The host replaces a file and a symbolic link by rename all the time: no program gets ESTALE.

A guest's kernel looks a name up once more when what it knew is gone (ESTALE), and only once.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from runguest import paths
from runguest.agent import Guest

GAP_S = 0.001
READY_DEADLINE_S = 240.0
ROUND_DEADLINE_S = 0.1  # of a loaded machine
"""For one round of all calls."""

PROGRAM = """
import collections, errno, os, sys
share, rounds = sys.argv[1], int(sys.argv[2])
file, link = share + "/value", share + "/current"
calls = {
    "open": lambda: os.close(os.open(file, os.O_RDONLY)),
    "open by link": lambda: os.close(os.open(link, os.O_RDWR)),
    "create": lambda: os.close(os.open(file, os.O_RDWR | os.O_CREAT)),
    "truncate": lambda: os.truncate(file, 1),
    "readlink": lambda: os.readlink(link),
    "chmod": lambda: os.chmod(file, 0o600),
    "chown": lambda: os.chown(link, 0, 0, follow_symlinks=False),
    "utime": lambda: os.utime(file),
    "access": lambda: os.access(file, os.R_OK),
    "listxattr": lambda: os.listxattr(file),
    "setxattr": lambda: os.setxattr(file, "user.a", b"1"),
    "lstat": lambda: os.lstat(link),
    "statvfs": lambda: os.statvfs(file),
}
failed = collections.Counter()
print("ready", flush=True)
for _ in range(rounds):
    for name, call in calls.items():
        try:
            call()
        except OSError as error:
            failed[name + ": " + errno.errorcode[error.errno]] += 1
print("failed", dict(failed), flush=True)
"""


@contextmanager
def replacing(share: Path) -> Iterator[Iterator[int]]:
    """Replaces both as long as the context lasts; yields what counts."""
    stop = threading.Event()
    rounds = itertools.count()

    def replace() -> None:
        (share / "new").write_text("a value")
        (share / "new").rename(share / "value")
        (share / "new").symlink_to("value")
        (share / "new").rename(share / "current")
        next(rounds)

    def work() -> None:
        while not stop.wait(GAP_S):
            replace()

    replace()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield rounds
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    "options",
    [
        ("--cache=auto",),
        ("--cache=always",),
        ("--cache=never",),
        ("--inode-file-handles=never",),
    ],
    ids=lambda options: options[0].removeprefix("--"),
)
def test_no_program_gets_estale(
    vmm: str,
    make_guest: Callable[..., Guest],
    options: tuple[str, ...],
    pytestconfig: pytest.Config,
) -> None:
    rounds = pytestconfig.getoption("replaced_rounds")
    python = os.path.realpath(sys.executable)
    guest = make_guest(
        vmm,
        *(f"--daemon-arg={option}" for option in ("--xattr", *options)),
        command=(python, "-c", PROGRAM, paths.GUEST_SHARE, str(rounds)),
    )
    with replacing(guest.share) as replaced, guest:
        assert guest.read_line(READY_DEADLINE_S).strip() == "ready"
        before = next(replaced)
        answer = guest.read_line(READY_DEADLINE_S + rounds * ROUND_DEADLINE_S).strip()
        assert next(replaced) - before > rounds // 100
    assert answer == "failed {}"
