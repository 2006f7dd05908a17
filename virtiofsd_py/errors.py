# SPDX-License-Identifier: BSD-3-Clause
"""What can go wrong, as exceptions that know whether the guest's connection survives.

Every message is one line that names its cause, fit to be the last thing the daemon says.
`virtiofsd_py.vhost_user` has a tree of its own, for it imports nothing of ours.
"""

from __future__ import annotations

import os
from typing import ClassVar


class VirtiofsdError(Exception):
    """Base of every error of this package.

    Attributes:
        survives: whether the daemon can go on serving after it.
    """

    survives: ClassVar[bool] = False


class ConfigError(VirtiofsdError):
    """The command line asks for what is not accepted. The command ends with status 2."""


class StartError(VirtiofsdError):
    """Something needed at start is missing, taken or forbidden. The command ends with status 1."""


class _ErrnoError(VirtiofsdError):
    """An error number and what was being done.

    Attributes:
        errno: positive error number, as in the module `errno`.
        what: what failed: an operation, a path, or both.
    """

    def __init__(self, errno: int, what: str) -> None:
        """Compose the message from `what` and the host's text for `errno`."""
        super().__init__(f"{what}: {os.strerror(errno)}")
        self.errno = errno
        self.what = what


class HostFsError(_ErrnoError):
    """The host filesystem refused one operation; whoever asked gets the error number."""

    survives = True


class EngineError(_ErrnoError):
    """The C core refused a call or stopped."""


def check(result: int, what: str) -> int:
    """Return what a C function has returned.

    Raises:
        EngineError: it is -errno.
    """
    if result < 0:
        raise EngineError(-result, what)
    return result
