# SPDX-License-Identifier: BSD-3-Clause
"""Locking the daemon in, before it believes a word of its guest.

`enter` is called once, from a process with one thread, when everything that lies outside of the
share is open. What it does, in this order: supplementary groups go; namespaces or the root change,
in a child whose guardian stays outside (see `guardian`); the seccomp filter is put in force;
capabilities go. Threads made afterwards inherit all of it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from virtiofsd_py.errors import StartError
from virtiofsd_py.idmap import NamespaceRange
from virtiofsd_py.options import Sandbox, Seccomp
from virtiofsd_py.sandbox import capabilities, imports, libc, mountinfo, roots, seccomp, userns
from virtiofsd_py.sandbox.guardian import ENDING, READY, Ended, Split, split
from virtiofsd_py.sandbox.mountevents import MountEvents
from virtiofsd_py.sandbox.mountinfo import MountNotifier, MountTable

__all__ = ["Ended", "Inside", "Plan", "check_share", "enter"]

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to lock the daemon into.

    Attributes:
        mode: namespaces, another root, or neither.
        shared_dir: the directory that becomes the root, or a plain file, which is alone then.
        uid_map: user ids of a user namespace, which other users than root get.
        gid_map: group ids of it.
        seccomp: what a forbidden system call leads to.
        capabilities: names of those to keep.
        reconnect: called in the new network namespace while names of the old root still lead
            somewhere. A datagram socket reaches whatever has a name in the namespace that it was
            made in: whoever needs one makes it here.
    """

    mode: Sandbox
    shared_dir: str
    uid_map: tuple[NamespaceRange, ...]
    gid_map: tuple[NamespaceRange, ...]
    seccomp: Seccomp
    capabilities: frozenset[str]
    reconnect: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Inside:
    """Where the daemon finds itself.

    Attributes:
        root_fd: O_PATH descriptor of the share; the caller's.
        proc_self_fd: O_PATH descriptor of this process's /proc/self/fd; the caller's.
        mounts: the mount table.
        pid: this process as the namespace knows it that the daemon was started in.
        apart: whether a guardian cleans up, so that this process leaves that.
    """

    root_fd: int
    proc_self_fd: int
    mounts: MountTable
    pid: int
    apart: bool
    _on_ready: Callable[[], None]
    _link: socket.socket | None = field(default=None)

    def announce_ready(self) -> None:
        """Have `on_ready` called, outside."""
        if self._link is None:
            self._on_ready()
            return
        self._link.send(READY)

    def announce_end(self) -> None:
        """Have the guardian, if there is one, see to it that this process ends soon."""
        if self._link is not None:
            with suppress(OSError):
                self._link.send(ENDING)


def check_share(path: str) -> None:
    """Make sure that a share can be served, before anything is made.

    Raises:
        OSError: it is missing, cannot be read, or is neither a directory nor a plain file.
    """
    os.close(roots.open_share(path))


def enter(plan: Plan, on_ready: Callable[[], None]) -> Inside | Ended:
    """Lock this process in, or a child of it.

    Args:
        plan: what to lock it into.
        on_ready: called outside of the sandbox once `Inside.announce_ready` was.

    Returns:
        `Inside` to whoever is to serve; `Ended` to its guardian, once that child has ended.

    Raises:
        StartError: something is not permitted or missing; never in the guardian.
    """
    # Where there are none, nothing need be permitted: a user namespace may forbid it.
    if os.geteuid() == 0 and os.getgroups():
        _at("supplementary groups", lambda: os.setgroups([]))
    notifier = _at("the mount table", MountNotifier)
    if plan.mode is Sandbox.NONE:
        inside = _stay(plan, notifier, on_ready)
    else:
        process = _leave(plan, on_ready)
        if isinstance(process, Ended):
            return process
        inside = _change_root(plan, process, notifier.keep_only(), on_ready)
    if plan.seccomp is not Seccomp.NONE:
        seccomp.confine(seccomp.load(), plan.seccomp)
    # In a user namespace of its own every user has them all.
    if os.geteuid() == 0 or inside.apart:
        capabilities.keep_only(plan.capabilities)
    return inside


def _stay(plan: Plan, notifier: MountNotifier, on_ready: Callable[[], None]) -> Inside:
    root_fd = roots.open_share(plan.shared_dir)
    mounts = _table_here(plan, notifier, os.path.realpath(plan.shared_dir))
    return Inside(root_fd, roots.open_proc_self_fd(), mounts, os.getpid(), False, on_ready)


def _table_here(plan: Plan, notifier: MountNotifier, share: str) -> MountTable:
    """Return the table in which the share has its path from the root that we have now.

    Args:
        plan: what to lock the daemon into.
        notifier: of changes to the host's mounts.
        share: its path from the root that we are going to have.
    """
    path = os.path.realpath(plan.shared_dir)
    return MountTable(mountinfo.open_table(), notifier.fd, path, _mount_events(share))


def _mount_events(share: str) -> MountEvents | None:
    """Listen for mounts of the namespace that we are in; without the means for it, return None."""
    try:
        events = MountEvents(share)
    except OSError as error:
        _log.info("event=mounts by=mountinfo reason=%s: %s", error.filename, error.strerror)
        return None
    _log.info("event=mounts by=fanotify")
    return events


def _leave(plan: Plan, on_ready: Callable[[], None]) -> Split | Ended:
    """Part from the guardian; for namespaces, into a new pid and maybe user namespace."""
    if plan.mode is Sandbox.CHROOT:
        if os.geteuid() != 0:
            raise StartError("--sandbox=chroot: only for root; use namespace or none")
        return split(on_ready)
    if os.geteuid() != 0:
        if plan.uid_map or plan.gid_map:
            userns.leave_groups()  # or in the namespace, where there are more who may
        userns.unshare(plan.uid_map, plan.gid_map)
    # It is a namespace for children only.
    _at("a pid namespace", lambda: libc.unshare(libc.Clone.NEWPID))
    return split(on_ready, lambda: userns.become_root(plan.uid_map, plan.gid_map))


def _change_root(
    plan: Plan, process: Split, notifier: MountNotifier, on_ready: Callable[[], None]
) -> Inside:
    if plan.mode is Sandbox.CHROOT:
        mounts = _at("the mount table", lambda: _table_here(plan, notifier, "/"))
        root_fd, proc_self_fd = _at("chroot", lambda: roots.change(plan.shared_dir))
    else:
        _at(
            "a mount and a network namespace",
            lambda: libc.unshare(libc.Clone.NEWNS | libc.Clone.NEWNET),
        )
        _tell_network()
        plan.reconnect()
        events = _mount_events("/")
        root_fd, proc_self_fd, table_fd, share = _at(
            "a mount namespace", lambda: roots.pivot(plan.shared_dir)
        )
        mounts = MountTable(table_fd, notifier.fd, share, events)
    imports.forbid()
    return Inside(root_fd, proc_self_fd, mounts, process.pid, True, on_ready, process.link)


def _tell_network() -> None:
    """Say what is in the new network namespace, to whoever wants to know that much."""
    if not _log.isEnabledFor(logging.DEBUG):
        return
    from virtiofsd_py.sandbox import network

    try:
        _log.debug("event=network links=%s", ",".join(network.links()))
    except (ImportError, OSError) as error:
        _log.debug("event=network unknown=%s", error)


def _at(step: str, act: Callable[[], _Result]) -> _Result:
    """Do one step; name it if it fails."""
    try:
        return act()
    except OSError as error:
        what = f"{step}: {error.filename}" if error.filename else step
        raise StartError(f"--sandbox: {what}: {error.strerror}") from error
