# SPDX-License-Identifier: BSD-3-Clause
"""The mount table, as the daemon sees it, and word of the host's changes to its own.

In the namespace sandbox the daemon has a mount namespace that is a slave of the host's: what is
mounted or unmounted below the share there happens here too, if the share lies on a mount that is
shared (systemd makes all of them so; in a container they may be private, and then neither daemon
nor guest sees anything of it). Whether a superblock is read-only is the same everywhere, but who
watches another namespace than the one in which that was changed is not woken. Whether a single
mount is read-only does not get here: it holds for the host's copy alone.

So the daemon reads its own table, and besides is woken by the host's, without being able to read
that: its guardian has it open. Where the kernel says which mounts come and go, it is woken by that
instead of its own table (see `mountevents`); what is made read-only takes the host's bell still.

Spec: proc_pid_mountinfo(5), mount_namespaces(7).
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from typing import Final, Self

from virtiofsd_py.sandbox.mountevents import MountEvents

_PATH: Final = "/proc/self/mountinfo"
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class MountTable:
    """Where the daemon finds its mounts; the descriptors are the caller's.

    Attributes:
        fd: /proc/self/mountinfo, to be read.
        bell_fd: an epoll descriptor, readable when the host has changed a mount.
        share: path of the share in what `fd` tells.
        events: of the mounts in that table, if the kernel tells us; else it is to be polled.
    """

    fd: int
    bell_fd: int
    share: str
    events: MountEvents | None


class MountNotifier:
    """Word of changes in the mount namespace that we are in now; made before the fork."""

    def __init__(self) -> None:
        """Open it; for as long as the process, or in the child as its parent, lives."""
        self._table_fd = os.open(_PATH, _FLAGS)
        with select.epoll() as epoll:
            epoll.register(self._table_fd, select.EPOLLPRI)
            self.fd = os.dup(epoll.fileno())

    def keep_only(self) -> Self:
        """In the child: hear of changes, but give up reading. The parent's copy keeps it alive."""
        os.close(self._table_fd)
        return self


def open_table() -> int:
    """Open the mount table of the namespace and the root that we have now."""
    return os.open(_PATH, _FLAGS)


def open_self() -> int:
    """Return what `open_table_at` needs, while there is a /proc."""
    return os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_table_at(self_fd: int) -> int:
    """Do what `open_table` does where there is no /proc any more; `self_fd` is closed."""
    try:
        return os.open("mountinfo", _FLAGS, dir_fd=self_fd)
    finally:
        os.close(self_fd)
