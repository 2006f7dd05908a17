# SPDX-License-Identifier: BSD-3-Clause
"""Making the share the root, so that no path leads outside of it."""

from __future__ import annotations

import os
from typing import Final

from virtiofsd_py.sandbox import libc
from virtiofsd_py.sandbox.libc import Mount

_PATH_ONLY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def open_directory(path: str) -> int:
    """Return an O_PATH descriptor of a directory that can also be read."""
    os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    return os.open(path, _PATH_ONLY)


def open_proc_self_fd() -> int:
    """Return an O_PATH descriptor of /proc/self/fd."""
    return os.open("/proc/self/fd", _PATH_ONLY)


def change(shared_dir: str) -> int:
    """Change the root by chroot(2); return a descriptor as `open_proc_self_fd` does."""
    proc_self_fd = open_proc_self_fd()
    os.chroot(shared_dir)
    os.chdir("/")
    return proc_self_fd


def pivot(shared_dir: str) -> int:
    """Exchange the root of a fresh mount namespace; return what `open_proc_self_fd` does.

    The descriptor is of a mount that has nothing above /proc/self/fd: ``..`` leads nowhere.
    """
    # What is mounted below the share outside still shows up; what we mount does not get out.
    libc.mount(None, "/", None, Mount.SLAVE | Mount.REC)
    share = libc.clone_tree(shared_dir)
    # This pid namespace's own, instead of that of the namespace we came from.
    libc.mount("proc", "/proc", "proc", Mount.NOSUID | Mount.NODEV | Mount.NOEXEC)
    libc.mount("/proc/self/fd", "/proc", None, Mount.BIND)
    proc_self_fd = os.open("/proc", _PATH_ONLY)
    # Any directory would do to hang the share on; the share may be the root, so not there.
    libc.attach_tree(share, "/proc")
    os.fchdir(share)
    os.close(share)
    # The old root comes to lie upon the new one; taken off, it is out of reach.
    libc.pivot_root(".", ".")
    libc.unmount_lazily(".")
    os.chdir("/")
    return proc_self_fd
