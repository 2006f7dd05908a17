# SPDX-License-Identifier: BSD-3-Clause
"""System calls that Python's `os` lacks in 3.11. Each raises OSError and returns nothing else.

Spec: unshare(2), mount(2), pivot_root(2), prctl(2), open_tree(2), move_mount(2).
"""

from __future__ import annotations

import ctypes
import os
from enum import IntFlag
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)

AT_FDCWD: Final = -100

# Alike on every machine that Linux still runs on, but Alpha.
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
# The C library has no function for this one.
_SYS_PIVOT_ROOT: Final = {
    "x86_64": 155,
    "aarch64": 41,
    "riscv64": 41,
    "loongarch64": 41,
    "ppc64le": 203,
    "s390x": 217,
}

_PR_SET_PDEATHSIG: Final = 1


class Clone(IntFlag):
    """Namespaces to leave."""

    NEWNS = 0x0002_0000
    NEWUSER = 0x1000_0000
    NEWPID = 0x2000_0000
    NEWNET = 0x4000_0000


class Mount(IntFlag):
    """Flags of mount(2)."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    REMOUNT = 0x20
    BIND = 0x1000
    REC = 0x4000
    SLAVE = 0x8_0000


def _check(result: int, name: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def unshare(what: Clone) -> None:
    """Leave namespaces for new ones."""
    _check(_libc.unshare(ctypes.c_int(what)), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: Mount) -> None:
    """Mount, bind, or change propagation."""
    raw = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    _check(_libc.mount(*raw, ctypes.c_ulong(flags), None), target)


def unmount_lazily(target: str) -> None:
    """Take a mount out of the tree, whoever uses it."""
    mnt_detach = 2
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(mnt_detach)), target)


def clone_tree(path: str) -> int:
    """Copy the mounts from `path` down, attached nowhere; return a descriptor of the copy."""
    flags = 0x1 | 0x8000 | os.O_CLOEXEC  # OPEN_TREE_CLONE | AT_RECURSIVE
    return _check(
        _libc.syscall(
            ctypes.c_long(_SYS_OPEN_TREE),
            ctypes.c_int(AT_FDCWD),
            os.fsencode(path),
            ctypes.c_uint(flags),
        ),
        path,
    )


def attach_tree(tree_fd: int, target: str) -> None:
    """Attach what `clone_tree` returned."""
    empty_path = 0x4  # MOVE_MOUNT_F_EMPTY_PATH
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOVE_MOUNT),
            ctypes.c_int(tree_fd),
            b"",
            ctypes.c_int(AT_FDCWD),
            os.fsencode(target),
            ctypes.c_uint(empty_path),
        ),
        target,
    )


def pivot_root(new_root: str, put_old: str) -> None:
    """Exchange this mount namespace's root."""
    machine = os.uname().machine
    number = _SYS_PIVOT_ROOT.get(machine)
    if number is None:
        raise NotImplementedError(f"number of pivot_root on {machine}")
    _check(
        _libc.syscall(ctypes.c_long(number), os.fsencode(new_root), os.fsencode(put_old)),
        "pivot_root",
    )


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us `signal_number` when the thread that forked us ends.

    A change of ids, or a gain of capabilities, undoes it.
    """
    zero = ctypes.c_ulong(0)
    _check(
        _libc.prctl(
            ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal_number), zero, zero, zero
        ),
        "prctl",
    )
