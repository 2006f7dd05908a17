# SPDX-License-Identifier: BSD-3-Clause
"""The connection to the system log, which the C library keeps for this process."""

from __future__ import annotations

from typing import Final

IDENT: Final = "virtiofsd-py"


def connect() -> None:
    """Connect at once, for later there may be no way to; anew if there is a connection."""
    import syslog

    syslog.closelog()
    syslog.openlog(IDENT, syslog.LOG_PID | syslog.LOG_NDELAY, syslog.LOG_DAEMON)
