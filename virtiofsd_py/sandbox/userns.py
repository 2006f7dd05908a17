# SPDX-License-Identifier: BSD-3-Clause
"""The user namespace that other users than root need for all other namespaces.

Spec: user_namespaces(7), newuidmap(1).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from virtiofsd_py.errors import StartError
from virtiofsd_py.idmap import NamespaceRange
from virtiofsd_py.sandbox import libc

_log = logging.getLogger(__name__)


def unshare(uid_map: Sequence[NamespaceRange], gid_map: Sequence[NamespaceRange]) -> None:
    """Enter a new user namespace; without a map one's own id stays what it is.

    Raises:
        StartError: it is not permitted, or the maps are not.
    """
    uid = NamespaceRange(os.geteuid(), os.geteuid(), 1)
    gid = NamespaceRange(os.getegid(), os.getegid(), 1)
    raw: list[tuple[str, str]] = []
    jobs: list[tuple[str, Sequence[NamespaceRange]]] = []
    for kind, given, own in (("gid", gid_map, gid), ("uid", uid_map, uid)):
        ranges = given or [own]
        if len(ranges) == 1 and ranges[0].count == 1 and ranges[0].outside == own.outside:
            if kind == "gid":
                raw.append(("setgroups", "deny"))
            raw.append((f"{kind}_map", _words(ranges)))
        else:
            jobs.append((f"new{kind}map", ranges))
    mapper = _Mapper(jobs) if jobs else None
    try:
        libc.unshare(libc.Clone.NEWUSER)
        for name, text in raw:
            Path("/proc/self", name).write_text(text)
    except OSError as error:
        raise StartError(f"--sandbox: a user namespace: {error.strerror}") from error
    if mapper:
        mapper.run()


def leave_groups() -> bool:
    """Give up supplementary groups, which no map turns into a guest's; return whether we may."""
    try:
        if os.getgroups():
            os.setgroups([])
    except PermissionError:
        return False
    return True


def become_root(uid_map: Sequence[NamespaceRange], gid_map: Sequence[NamespaceRange]) -> None:
    """Take the namespace's ids 0, where it has them, and with a map no group besides."""
    if any(r.inside == 0 for r in gid_map):
        os.setresgid(0, 0, 0)
    if any(r.inside == 0 for r in uid_map):
        os.setresuid(0, 0, 0)
    # The kernel lets nobody do so whose own group is the only one that is mapped.
    if (gid_map or uid_map) and not leave_groups():
        _log.warning("event=groups_stay reason=--gid-map has no other group than one's own")


def _words(ranges: Sequence[NamespaceRange]) -> str:
    return "\n".join(f"{r.inside} {r.outside} {r.count}" for r in ranges)


class _Mapper:
    """A child that stays outside of the namespace, where newuidmap and newgidmap have a say."""

    def __init__(self, jobs: Sequence[tuple[str, Sequence[NamespaceRange]]]) -> None:
        wait_fd, self._go_fd = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._go_fd)
            _map(jobs, parent, wait_fd)
        os.close(wait_fd)

    def run(self) -> None:
        """Have the maps written.

        Raises:
            StartError: they are not permitted, or the programs are missing.
        """
        os.write(self._go_fd, b"1")
        os.close(self._go_fd)
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 127:
            raise StartError("--uid-map: newuidmap or newgidmap is not installed (uidmap)")
        if code != 0:
            raise StartError("--uid-map: newuidmap or newgidmap refuses; see subuid(5), subgid(5)")


def _map(
    jobs: Sequence[tuple[str, Sequence[NamespaceRange]]], target: int, wait_fd: int
) -> NoReturn:
    status = 1
    try:
        if os.read(wait_fd, 1):
            for program, ranges in jobs:
                argv = [program, str(target), *_words(ranges).split()]
                status = os.spawnvp(os.P_WAIT, program, argv)
                if status:
                    break
    finally:
        os._exit(status if status >= 0 else 1)
