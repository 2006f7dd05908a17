# SPDX-License-Identifier: BSD-3-Clause
"""System calls that Python's `os` lacks in 3.11. Each raises OSError and returns nothing else.

Their numbers and structures come from this machine's headers (native/sandbox/sandbox.h).

Spec: unshare(2), mount(2), pivot_root(2), prctl(2), open_tree(2), move_mount(2), fanotify_init(2),
fanotify_mark(2), statmount(2).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import IntFlag
from typing import Final

from virtiofsd_py._sandbox import ffi, lib

_PATH_BYTES: Final = 4096 + 1


class Clone(IntFlag):
    """Namespaces to leave."""

    NEWNS = lib.CLONE_NEWNS
    NEWUSER = lib.CLONE_NEWUSER
    NEWPID = lib.CLONE_NEWPID
    NEWNET = lib.CLONE_NEWNET


class Mount(IntFlag):
    """Flags of mount(2)."""

    RDONLY = lib.MS_RDONLY
    NOSUID = lib.MS_NOSUID
    NODEV = lib.MS_NODEV
    NOEXEC = lib.MS_NOEXEC
    REMOUNT = lib.MS_REMOUNT
    BIND = lib.MS_BIND
    REC = lib.MS_REC
    SLAVE = lib.MS_SLAVE


class Fanotify(IntFlag):
    """Flags of fanotify_init(2), and events."""

    CLOEXEC = lib.FAN_CLOEXEC
    NONBLOCK = lib.FAN_NONBLOCK
    REPORT_MNT = lib.FAN_REPORT_MNT
    MNT_ATTACH = lib.FAN_MNT_ATTACH
    MNT_DETACH = lib.FAN_MNT_DETACH


def _check(result: int, name: str | None = None) -> int:
    if result < 0:
        raise OSError(ffi.errno, os.strerror(ffi.errno), name)
    return result


def unshare(what: Clone) -> None:
    """Leave namespaces for new ones."""
    _check(lib.unshare(what), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: Mount) -> None:
    """Mount, bind, or change propagation."""
    raw = [ffi.NULL if text is None else os.fsencode(text) for text in (source, target, kind)]
    _check(lib.mount(*raw, flags, ffi.NULL), target)


def unmount_lazily(target: str) -> None:
    """Take a mount out of the tree, whoever uses it."""
    _check(lib.umount2(os.fsencode(target), lib.MNT_DETACH), target)


def clone_tree(path: str) -> int:
    """Copy the mounts from `path` down, attached nowhere; return a descriptor of the copy."""
    flags = lib.OPEN_TREE_CLONE | lib.AT_RECURSIVE | lib.OPEN_TREE_CLOEXEC
    return _check(lib.open_tree(lib.AT_FDCWD, os.fsencode(path), flags), path)


def attach_tree(tree_fd: int, target: str) -> None:
    """Attach what `clone_tree` returned."""
    flags = lib.MOVE_MOUNT_F_EMPTY_PATH
    _check(lib.move_mount(tree_fd, b"", lib.AT_FDCWD, os.fsencode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Exchange this mount namespace's root."""
    _check(lib.vfsd_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us `signal_number` when the thread that forked us ends.

    A change of ids, or a gain of capabilities, undoes it.
    """
    _check(lib.prctl(lib.PR_SET_PDEATHSIG, ffi.cast("unsigned long", signal_number)), "prctl")


def name_thread(name: str) -> None:
    """Give the calling thread a name, of which the kernel keeps 15 bytes."""
    _check(lib.prctl(lib.PR_SET_NAME, ffi.new("char[]", name.encode())), "prctl")


def fanotify_init(flags: Fanotify) -> int:
    """Return a descriptor of a new group."""
    return _check(lib.fanotify_init(flags, 0), "fanotify_init")


def fanotify_mark_namespace(group_fd: int, namespace_fd: int) -> None:
    """Have a group that reports mounts report those in a mount namespace."""
    flags = lib.FAN_MARK_ADD | lib.FAN_MARK_MNTNS
    mask = Fanotify.MNT_ATTACH | Fanotify.MNT_DETACH
    _check(lib.fanotify_mark(group_fd, flags, mask, namespace_fd, ffi.NULL), "fanotify_mark")


def mount_events(raw: bytes) -> Iterator[tuple[int, int]]:
    """Yield what was read of a group that reports mounts, a pair for each event.

    First its `Fanotify` bits, then the unique number of its mount, 0 where there is none.
    """
    mask, number = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    at = 0
    while at := lib.vfsd_mount_event(raw, len(raw), at, mask, number):
        yield mask[0], number[0]


def mount_point(number: int) -> bytes:
    """Return where a mount is, from our root.

    Args:
        number: the unique one, that is never used again.
    """
    path = ffi.new("char[]", _PATH_BYTES)
    _check(lib.vfsd_mount_point(number, path), "statmount")
    return bytes(ffi.string(path))
