# SPDX-License-Identifier: BSD-3-Clause
"""Events of mounts that come and go in one mount namespace: fanotify of Linux 6.15.

A poll of /proc/self/mountinfo says only that something has changed, and the whole table has to be
read to find out what. Here each event has the number of its mount, and one system call says where
that is. Changes that concern the share are still read from the table, which holds more.

fanotify does not report what is made read-only or read-write, and takes CAP_SYS_ADMIN in the user
namespace that the mount namespace belongs to, when it begins.

Spec: fanotify_init(2), fanotify_mark(2), fanotify(7), statmount(2).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

from virtiofsd_py.sandbox import libc
from virtiofsd_py.sandbox.libc import Fanotify

_READ_BYTES: Final = 1 << 16
# As many events as the host keeps by default, and more: one that never rests has to wait for us.
_READS_MAX: Final = 16
_ELSEWHERE_MAX: Final = 4096


class MountEvents:
    """The events of the mount namespace that we are in when it is made."""

    def __init__(self, share: str) -> None:
        """Listen from now on.

        Args:
            share: its path, from the root that we are going to have: mounts are told apart by it.

        Raises:
            OSError: not here: EINVAL before Linux 6.15, EPERM without CAP_SYS_ADMIN, EMFILE.
        """
        self._share = os.fsencode(share).rstrip(b"/")
        self._can_ask = _can_ask()
        # Mounts that were attached while we listened, not below the share. Bounded: of one that is
        # missing here it is taken for possible that it was below.
        self._elsewhere: set[int] = set()
        self._fd = libc.fanotify_init(Fanotify.REPORT_MNT | Fanotify.CLOEXEC | Fanotify.NONBLOCK)
        try:
            namespace_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc.fanotify_mark_namespace(self._fd, namespace_fd)
            finally:
                os.close(namespace_fd)
        except OSError:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        """Return the descriptor to poll: readable when there are events."""
        return self._fd

    def close(self) -> None:
        """Listen no more."""
        os.close(self._fd)

    def concern_share(self) -> bool:
        """Take the events that there are; say whether any may be of a mount below the share."""
        found = False
        for mask, number in self._take():
            found = self._concerns(mask, number) or found
        return found

    def _concerns(self, mask: int, number: int) -> bool:
        if not mask & (Fanotify.MNT_ATTACH | Fanotify.MNT_DETACH):
            return True  # The host's queue was full.
        found = bool(mask & Fanotify.MNT_DETACH) and number not in self._elsewhere
        self._elsewhere.discard(number)
        # A mount that is moved is both.
        if mask & Fanotify.MNT_ATTACH:
            if self._is_near(number):
                return True
            if len(self._elsewhere) == _ELSEWHERE_MAX:
                self._elsewhere.clear()
            self._elsewhere.add(number)
        return found

    def _is_near(self, number: int) -> bool:
        """Say whether a mount is below the share, or what that is on."""
        if not self._can_ask:
            return True
        try:
            place = libc.mount_point(number).rstrip(b"/")
        except OSError as error:
            # Gone again, as the next event says; or out of reach of the root, so not below.
            return error.errno not in (errno.ENOENT, errno.EPERM)
        below = place == self._share or place.startswith(self._share + b"/")
        return below or self._share.startswith(place + b"/")

    def _take(self) -> Iterator[tuple[int, int]]:
        """Yield masks and numbers of mounts."""
        for _ in range(_READS_MAX):
            try:
                raw = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return
            yield from libc.mount_events(raw)


def _can_ask() -> bool:
    """Say whether statmount(2) works at all: who confines us may know nothing of it."""
    try:
        libc.mount_point(0)
    except OSError as error:
        return error.errno == errno.EINVAL
    return True
