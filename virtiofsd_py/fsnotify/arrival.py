# SPDX-License-Identifier: BSD-3-Clause
"""Waits for a socket that a daemon is going to make, by inotify on its directory."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from inotify_simple import INotify, flags


class SocketArrival:
    """Readable when something has happened to a name in a directory, from now on.

    A socket accepts no connection between bind() and listen(). The daemon changes its mode after
    both, so whoever tries again after each event gets there. A context manager; one thread.
    """

    def __init__(self, path: str) -> None:
        """Watch for `path`.

        Raises:
            OSError: its directory is not there, or cannot be watched.
        """
        directory, self._name = os.path.split(path)
        self._inotify = INotify(nonblocking=True)
        try:
            self._inotify.add_watch(
                directory or ".",
                flags.CREATE | flags.MOVED_TO | flags.ATTRIB | flags.DELETE_SELF | flags.ONLYDIR,
            )
        except OSError as error:
            self._inotify.close()
            raise OSError(error.errno, error.strerror, directory or ".") from error

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return int(self._inotify.fileno())

    def has_changed(self) -> bool:
        """Take the events that wait, and return whether any of them may be the socket's.

        Raises:
            OSError: ENOENT, the directory has been removed.
        """
        changed = False
        for event in self._inotify.read(timeout=0):
            if event.mask & (flags.DELETE_SELF | flags.IGNORED):
                raise FileNotFoundError(2, os.strerror(2), "the directory of the socket")
            changed |= event.name == self._name or bool(event.mask & flags.Q_OVERFLOW)
        return changed

    def __enter__(self) -> Self:
        """Watch for the length of a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop watching."""
        self._inotify.close()
