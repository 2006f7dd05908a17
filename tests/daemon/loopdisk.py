# SPDX-License-Identifier: BSD-3-Clause
"""Filesystems of a test's own, on loop devices that are gone with their mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = ("ext4", "xfs")
_SIZE = 320 << 20  # the least that mkfs.xfs takes; the image is sparse


@contextmanager
def loop_disk(image: Path, point: Path, kind: str, *options: str) -> Iterator[Path]:
    """Make a filesystem in `image`, mount it at `point`, which is made, and yield that.

    Args:
        image: where it is put.
        point: where it is mounted.
        kind: one of KINDS.
        options: of mkfs.
    """
    with image.open("wb") as file:
        file.truncate(_SIZE)
    subprocess.run([f"mkfs.{kind}", "-q", *options, str(image)], check=True)
    point.mkdir()
    with mounted(point, "-o", "loop", str(image)):
        yield point


@contextmanager
def mounted(point: Path, *arguments: str) -> Iterator[None]:
    """Mount at `point`, as mount(8) is told; detach it even if somebody is there."""
    subprocess.run(["mount", *arguments, str(point)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)
