# SPDX-License-Identifier: BSD-3-Clause
"""The mount table, as the daemon sees it, and notification of changes to the host's.

In the namespace sandbox the daemon has a mount namespace that is a slave of the host's: what is
mounted or unmounted below the share there is so here too, if the share lies on a mount that is
shared (systemd makes all of them so; in a container they may be private, and then neither daemon
nor guest sees it). A superblock that is made read-only is so in all namespaces, but the kernel
wakes only pollers of the namespace in which the change was made. A single mount that is made
read-only on the host is not so here: the change is to the host's copy alone.

So the daemon reads its own table, and is also woken by the host's, which it cannot read: its
guardian has that open. Where the kernel reports which mounts come and go, these events replace the
polling of the daemon's own table (see `mountevents`); notification of what is made read-only still
comes from the host's.

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
        notify_fd: an epoll descriptor, readable when the host has changed a mount.
        share: path of the share in the table of `fd`.
        events: of the mounts in that table, if the kernel reports them; else poll the table.
    """

    fd: int
    notify_fd: int
    share: str
    events: MountEvents | None


class MountNotifier:
    """Notifies of changes in the mount namespace of its creation; created before the fork."""

    def __init__(self) -> None:
        """Open the table, for the life of the process, or in the child of its parent."""
        self._table_fd = os.open(_PATH, _FLAGS)
        with select.epoll() as epoll:
            epoll.register(self._table_fd, select.EPOLLPRI)
            self.fd = os.dup(epoll.fileno())

    def keep_only(self) -> Self:
        """In the child: keep the notifications, but not the table, which the parent holds open."""
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
