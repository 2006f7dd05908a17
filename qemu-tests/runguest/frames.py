# SPDX-License-Identifier: BSD-3-Clause
"""The data channel's frames: the host's half of ``guest/channel.h``, without I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from .errors import GuestFailedError, UsageError

MAX_PAYLOAD_BYTES: Final = 65536
MAX_INPUT_BYTES: Final = 2048
MAX_COMMAND_BYTES: Final = 65536
_HEADER: Final = struct.Struct("<II")
_STATUS: Final = struct.Struct("<I")


class FrameType(IntEnum):
    """First word of a frame; see ``guest/channel.h`` for who sends what when."""

    HELLO = ord("H")
    STDOUT = ord("O")
    STDERR = ord("E")
    WANT = ord("W")
    EXIT = ord("X")
    FAILURE = ord("F")
    PONG = ord("P")
    COMMAND = ord("C")
    STDIN = ord("I")
    PING = ord("p")
    BYE = ord("B")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame in either direction."""

    type: FrameType
    payload: bytes = b""

    def pack(self) -> bytes:
        """The frame as it goes over the wire."""
        return _HEADER.pack(self.type, len(self.payload)) + self.payload

    def exit_status(self) -> int:
        """The status in an EXIT frame.

        Raises:
            GuestFailedError: the payload is not one word.
        """
        if len(self.payload) != _STATUS.size:
            raise GuestFailedError("the guest's exit frame is malformed")
        status: int = _STATUS.unpack(self.payload)[0]
        return status


def command_frames(cwd: str, argv: Sequence[str]) -> list[Frame]:
    """The COMMAND frames that run ``argv`` in ``cwd``; each needs a credit.

    Raises:
        UsageError: the command is too long.
    """
    text = b"".join(word.encode("utf-8", "surrogateescape") + b"\0" for word in (cwd, *argv))
    if len(text) > MAX_COMMAND_BYTES:
        raise UsageError(f"the command is longer than {MAX_COMMAND_BYTES} bytes")
    pieces = [text[at : at + MAX_INPUT_BYTES] for at in range(0, len(text), MAX_INPUT_BYTES)]
    return [Frame(FrameType.COMMAND, piece) for piece in (*pieces, b"")]


class FrameParser:
    """Turns the stream into frames, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Takes ``data``, yields each frame it completes.

        Raises:
            GuestFailedError: the stream is not frames.
        """
        self._pending += data
        while len(self._pending) >= _HEADER.size:
            code, length = _HEADER.unpack_from(self._pending)
            if length > MAX_PAYLOAD_BYTES or code not in FrameType.__members__.values():
                raise GuestFailedError(
                    f"nonsense on the data channel: {bytes(self._pending[:64])!r}"
                )
            end = _HEADER.size + length
            if len(self._pending) < end:
                return
            frame = Frame(FrameType(code), bytes(self._pending[_HEADER.size : end]))
            del self._pending[:end]
            yield frame
