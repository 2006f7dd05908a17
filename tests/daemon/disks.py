# SPDX-License-Identifier: BSD-3-Clause
"""File systems of a test's own, which end with the test, and what Python cannot do to them."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_LIBC = ctypes.CDLL(None, use_errno=True)
_MKFS = {
    # Few inodes, so that the numbers of those that are removed are soon used again.
    "ext4": ("64M", ("mkfs.ext4", "-q", "-F", "-N", "512")),
    "xfs": ("320M", ("mkfs.xfs", "-q", "-f")),
}


@contextmanager
def mounted(target: Path, *what: str) -> Iterator[None]:
    """Mount what mount(8) is told; it may be unmounted by then."""
    subprocess.run(["mount", *what, target], check=True)
    try:
        yield
    finally:
        unmount(target)


def unmount(target: Path) -> None:
    """Unmount it, if it is mounted, from under whoever uses it."""
    subprocess.run(["umount", "-l", target], check=False, stderr=subprocess.DEVNULL)


def exchange(one: Path, other: Path) -> None:
    """Have two names change places: renameat2(2) with RENAME_EXCHANGE."""
    if _LIBC.renameat2(-100, bytes(one), -100, bytes(other), 2):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def disk(directory: Path, kind: str) -> Iterator[Path]:
    """Make a file system of that kind in `directory`; yield where it is mounted."""
    size, mkfs = _MKFS[kind]
    if shutil.which(mkfs[0], path="/usr/sbin:/sbin:/usr/bin") is None:
        pytest.skip(f"no {mkfs[0]}: see tools/install-deps")
    image, target = directory / f"{kind}.img", directory / kind
    target.mkdir()
    subprocess.run(["truncate", "-s", size, image], check=True)
    subprocess.run([*mkfs, image], check=True, stdout=subprocess.DEVNULL)
    with mounted(target, "-o", "loop", str(image)):
        yield target
