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
KINDS = ("ext4", "xfs")
_SIZE = 320 << 20  # the least that mkfs.xfs takes; the image is sparse


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
def loop_disk(image: Path, point: Path, kind: str, *options: str) -> Iterator[Path]:
    """Make a file system in `image`, mount it at `point`, which is made, and yield that.

    Args:
        image: where it is put.
        point: where it is mounted.
        kind: one of KINDS.
        options: of mkfs.
    """
    mkfs = f"mkfs.{kind}"
    if shutil.which(mkfs, path="/usr/sbin:/sbin:/usr/bin") is None:
        pytest.skip(f"no {mkfs}: see tools/install-deps")
    with image.open("wb") as file:
        file.truncate(_SIZE)
    subprocess.run([mkfs, "-q", *options, str(image)], check=True, stdout=subprocess.DEVNULL)
    point.mkdir()
    with mounted(point, "-o", "loop", str(image)):
        yield point


@contextmanager
def disk(directory: Path, kind: str) -> Iterator[Path]:
    """Make a file system in `directory`; yield where it is mounted.

    Of ext4 with few inodes, so that the numbers of those that are removed are soon used again.
    """
    options = {"ext4": ("-N", "512"), "xfs": ()}[kind]
    with loop_disk(directory / f"{kind}.img", directory / kind, kind, *options) as point:
        yield point
