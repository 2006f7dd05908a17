# SPDX-License-Identifier: BSD-3-Clause
"""System calls that Python's `os` lacks in 3.11. Each raises OSError and returns nothing else.

Spec: unshare(2), mount(2), pivot_root(2), prctl(2), open_tree(2), move_mount(2), fanotify_init(2),
fanotify_mark(2), statmount(2).
"""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntFlag
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)

AT_FDCWD: Final = -100

# Alike on every machine that Linux still runs on, but Alpha.
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
SYS_STATMOUNT: Final = 457
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
_PR_SET_NAME: Final = 15

# struct mnt_id_req: size, spare, mnt_id, param
_MNT_ID_REQ: Final = struct.Struct("=IIQQ")
_STATMOUNT_MNT_POINT: Final = 0x10
_STATMOUNT_PLACE_AT: Final = 108  # of mnt_point in struct statmount
_STATMOUNT_TEXT_AT: Final = 512
_PATH_MAX: Final = 4096


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


class Fanotify(IntFlag):
    """Flags of fanotify_init(2), and events."""

    CLOEXEC = 1
    NONBLOCK = 2
    REPORT_MNT = 0x4000
    MNT_ATTACH = 0x0100_0000
    MNT_DETACH = 0x0200_0000


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


def name_thread(name: str) -> None:
    """Give the calling thread a name, of which the kernel keeps 15 bytes."""
    _check(_libc.prctl(ctypes.c_int(_PR_SET_NAME), name.encode()), "prctl")


def fanotify_init(flags: Fanotify) -> int:
    """Return a descriptor of a new group."""
    return _check(_libc.fanotify_init(ctypes.c_uint(flags), ctypes.c_uint(0)), "fanotify_init")


def fanotify_mark_namespace(group_fd: int, namespace_fd: int) -> None:
    """Have a group that reports mounts hear of those in a mount namespace."""
    add, mark_mntns = 0x1, 0x110
    _check(
        _libc.fanotify_mark(
            ctypes.c_int(group_fd),
            ctypes.c_uint(add | mark_mntns),
            ctypes.c_uint64(Fanotify.MNT_ATTACH | Fanotify.MNT_DETACH),
            ctypes.c_int(namespace_fd),
            None,
        ),
        "fanotify_mark",
    )


def mount_point(number: int) -> bytes:
    """Return where a mount is, from our root.

    Args:
        number: the unique one, that is never used again.
    """
    request = _MNT_ID_REQ.pack(_MNT_ID_REQ.size, 0, number, _STATMOUNT_MNT_POINT)
    answer = ctypes.create_string_buffer(_STATMOUNT_TEXT_AT + _PATH_MAX + 1)
    _check(
        _libc.syscall(
            ctypes.c_long(SYS_STATMOUNT),
            request,
            answer,
            ctypes.c_size_t(len(answer)),
            ctypes.c_uint(0),
        ),
        "statmount",
    )
    (at,) = struct.unpack_from("=I", answer, _STATMOUNT_PLACE_AT)
    return answer.raw[_STATMOUNT_TEXT_AT + at :].partition(b"\0")[0]
