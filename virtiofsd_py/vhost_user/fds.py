# SPDX-License-Identifier: BSD-3-Clause
"""Ownership of received descriptors: whatever nobody took is closed, on every path."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from virtiofsd_py.vhost_user.errors import MessageRefused


def close_fds(fds: Iterable[int | None]) -> None:
    """Close each descriptor that is one."""
    for fd in fds:
        if fd is not None:
            os.close(fd)


def duplicate_fds(fds: Iterable[int | None]) -> list[int | None]:
    """Return close-on-exec duplicates; None stays None.

    Raises:
        MessageRefused: the process has no room for them; none was made.
    """
    copies: list[int | None] = []
    try:
        for fd in fds:
            copies.append(None if fd is None else os.dup(fd))
    except OSError as error:
        close_fds(copies)
        raise MessageRefused(f"cannot duplicate a descriptor: {error.strerror}") from error
    return copies


class ReceivedFds:
    """The descriptors that came with one message, closed at the end unless taken."""

    def __init__(self, fds: Iterable[int]) -> None:
        """Own `fds`."""
        self._fds = list(fds)

    def expect(self, count: int) -> None:
        """Insist on the number of descriptors.

        Raises:
            MessageRefused: there are more or fewer.
        """
        if len(self._fds) != count:
            raise MessageRefused(f"{len(self._fds)} descriptors instead of {count}")

    def __len__(self) -> int:
        """Return how many are left."""
        return len(self._fds)

    def take(self) -> int:
        """Give the first one left to the caller."""
        return self._fds.pop(0)

    def __enter__(self) -> Self:
        """Own the descriptors for the length of a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close what nobody took."""
        close_fds(self._fds)
        self._fds.clear()
