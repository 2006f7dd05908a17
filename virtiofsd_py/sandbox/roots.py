# SPDX-License-Identifier: BSD-3-Clause
"""Making the share the root, so that no path leads outside of it."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from virtiofsd_py.sandbox import libc, mountinfo
from virtiofsd_py.sandbox.libc import Mount

_PATH_ONLY: Final = os.O_PATH | os.O_CLOEXEC
_DIRECTORY_ONLY: Final = _PATH_ONLY | os.O_DIRECTORY
_SHARED_FILE: Final = "/share"


def open_share(path: str) -> int:
    """Return an O_PATH descriptor of a directory or plain file that can also be read.

    Nothing else is opened for reading: that may have effects.
    """
    fd = os.open(path, _PATH_ONLY)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "neither a directory nor a plain file", path)
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        os.close(fd)
        raise
    return fd


def open_proc_self_fd() -> int:
    """Return an O_PATH descriptor of /proc/self/fd."""
    return os.open("/proc/self/fd", _DIRECTORY_ONLY)


def change(shared_dir: str) -> tuple[int, int]:
    """Change the root by chroot(2).

    Returns:
        Descriptors as `open_share` and `open_proc_self_fd` make them.
    """
    proc_self_fd = open_proc_self_fd()
    if not os.path.isdir(shared_dir):
        share = open_share(shared_dir)
        _enter_nothing()
        return share, proc_self_fd
    os.chroot(shared_dir)
    os.chdir("/")
    return open_share("/"), proc_self_fd


def _enter_nothing() -> None:
    """Make a root of a directory that has no name any more: nobody can put anything there."""
    import tempfile

    nowhere = tempfile.mkdtemp()
    fd = os.open(nowhere, _DIRECTORY_ONLY)
    os.rmdir(nowhere)
    os.fchdir(fd)
    os.close(fd)
    os.chroot(".")


def pivot(shared_dir: str) -> tuple[int, int, int, str]:
    """Exchange the root of a fresh mount namespace.

    Returns:
        What `change` does. The second is of a mount that has nothing above /proc/self/fd: ``..``
        leads nowhere. Then a descriptor of the mount table, and the share's path in it.
    """
    # What is mounted below the share outside still shows up; what we mount does not get out.
    libc.mount(None, "/", None, Mount.SLAVE | Mount.REC)
    share = libc.clone_tree(shared_dir)
    # This pid namespace's own, instead of that of the namespace we came from.
    libc.mount("proc", "/proc", "proc", Mount.NOSUID | Mount.NODEV | Mount.NOEXEC)
    self_fd = mountinfo.open_self()
    libc.mount("/proc/self/fd", "/proc", None, Mount.BIND)
    proc_self_fd = os.open("/proc", _DIRECTORY_ONLY)
    name = _hang_up(share)
    # The old root comes to lie upon the new one; taken off, it is out of reach.
    libc.pivot_root(".", ".")
    libc.unmount_lazily(".")
    os.chdir("/")
    return open_share(name), proc_self_fd, mountinfo.open_table_at(self_fd), name


def _hang_up(share: int) -> str:
    """Attach the share and go to what is to be the root; return the share's path from there.

    Args:
        share: what `libc.clone_tree` returned; closed.
    """
    # Any directory would do to hang it on; the share may be the root, so not there.
    if stat.S_ISDIR(os.fstat(share).st_mode):
        libc.attach_tree(share, "/proc")
        os.fchdir(share)
        os.close(share)
        return "/"
    # A file cannot be the root: it is alone in one that cannot be written to.
    libc.mount("tmpfs", "/proc", "tmpfs", Mount.NOSUID | Mount.NODEV | Mount.NOEXEC)
    os.close(os.open(f"/proc{_SHARED_FILE}", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
    libc.attach_tree(share, f"/proc{_SHARED_FILE}")
    os.close(share)
    libc.mount(None, "/proc", None, Mount.REMOUNT | Mount.RDONLY)
    os.chdir("/proc")
    return _SHARED_FILE
