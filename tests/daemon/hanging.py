# SPDX-License-Identifier: BSD-3-Clause
"""What a host may have that does not answer: a filesystem whose server is silent, a frozen one."""

from __future__ import annotations

import ctypes
import os
import select
import stat
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_MS_NOSUID_NODEV = 2 | 4
_MNT_DETACH = 2
_IN_HEADER = struct.Struct("=IIQQIIII")
_OUT_HEADER = struct.Struct("=IiQ")
_GETATTR, _INIT = 3, 26
_ENOSYS = 38
_READ_BYTES = 1 << 17
# fuse_init_out: 7.31, 64 bytes; fuse_attr_out of a root: asked for each time.
_INIT_OUT = struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, 4096, 1, 0, 0, 0)
_ATTR_OUT = struct.pack(
    "=QII QQQQQQ IIIIIIIIII", 0, 0, 0, 1, 0, 0, 0, 0, 0, *(0, 0, 0), stat.S_IFDIR | 0o755, 2,
    *(0, 0, 0, 4096, 0),
)  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


class SilentFilesystem:
    """A mounted FUSE filesystem that knows its root, until its server falls silent.

    Whoever asks it then waits until a signal kills him.
    """

    def __init__(self, path: Path) -> None:
        """Mount it at `path`, a directory."""
        self._path = os.fsencode(path)
        try:
            self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            pytest.skip(f"no FUSE here: {error}")
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        result = _libc.mount(b"hung", self._path, b"fuse", _MS_NOSUID_NODEV, options.encode())
        if result < 0:
            os.close(self._fd)
            pytest.skip(f"no FUSE here: {os.strerror(ctypes.get_errno())}")
        self._stop = os.eventfd(0)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        path.stat()  # it is there

    def fall_silent(self) -> None:
        """Take no more questions."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()

    def wait_asked(self, deadline_s: float) -> bool:
        """Wait, silent, until there is a question."""
        return bool(select.select([self._fd], [], [], deadline_s)[0])

    def close(self) -> None:
        """Abort it, so that everybody who waits gets an error, and unmount it."""
        _libc.umount2(self._path, _MNT_DETACH)
        self.fall_silent()
        os.close(self._fd)
        os.close(self._stop)

    def _serve(self) -> None:
        with suppress(OSError):  # it is unmounted
            while self._stop not in select.select([self._fd, self._stop], [], [])[0]:
                request = os.read(self._fd, _READ_BYTES)
                _, opcode, unique, *_ = _IN_HEADER.unpack_from(request)
                if opcode == _INIT:
                    self._answer(unique, 0, _INIT_OUT)
                elif opcode == _GETATTR:
                    self._answer(unique, 0, _ATTR_OUT)
                else:
                    self._answer(unique, -_ENOSYS, b"")

    def _answer(self, unique: int, error: int, payload: bytes) -> None:
        with suppress(FileNotFoundError):  # an INTERRUPT, or who asked has gone
            os.write(self._fd, _OUT_HEADER.pack(16 + len(payload), error, unique) + payload)


@contextmanager
def silent_filesystem(path: Path) -> Iterator[SilentFilesystem]:
    """Mount one at `path`, which is made."""
    path.mkdir()
    mounted = SilentFilesystem(path)
    try:
        yield mounted
    finally:
        mounted.close()


@contextmanager
def frozen_filesystem(path: Path, image: Path) -> Iterator[None]:
    """Mount an ext4 at `path`, which is made, that waits for whoever writes to it."""
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    try:
        _run("mkfs.ext4", "-q", image)
        _run("mount", "-o", "loop", image, path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no ext4 on a loop device here: {error}")
    try:
        _run("fsfreeze", "--freeze", path)
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", path)
    finally:
        _run("umount", "--lazy", path)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
