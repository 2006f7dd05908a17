# SPDX-License-Identifier: BSD-3-Clause
"""Everything that can go wrong between a front-end and us, and whether the connection survives it.

The rule: a message whose framing is sound and that needs no answer of its own is refused and the
connection lives on; it is told so with a non-zero acknowledgement if it asked for one. Anything
after which the two sides would disagree about what comes next ends the connection.
"""

from __future__ import annotations


class VhostUserError(Exception):
    """Base of every error of this library.

    Attributes:
        survives: whether the connection can go on after it.
    """

    survives: bool = False


class BackendError(VhostUserError):
    """Raised by a `Backend` that cannot do what it was asked; nothing may have changed."""

    survives = True


class TransportError(VhostUserError):
    """The socket failed, or descriptors were lost on the way."""


class Disconnected(TransportError):
    """The front-end is gone.

    Attributes:
        clean: whether it went between two messages.
    """

    def __init__(self, clean: bool) -> None:
        """Say whether the last message was `clean`, that is, complete."""
        super().__init__("the front-end closed the connection" + ("" if clean else " mid-message"))
        self.clean = clean


class ProtocolError(VhostUserError):
    """The front-end sent what it may not send.

    Attributes:
        reply: encoded reply that the front-end is still owed, or None.
    """

    def __init__(self, reason: str, reply: bytes | None = None) -> None:
        """Keep the `reason` for the log and the `reply` for the wire."""
        super().__init__(reason)
        self.reply = reply


class BadMessage(ProtocolError):
    """Peer bytes that do not decode. The only error that codecs raise."""


class MessageRefused(ProtocolError):
    """One message was refused and changed nothing; the connection lives on."""

    survives = True


class ProtocolViolation(ProtocolError):
    """The two sides no longer agree: the connection must be closed."""
