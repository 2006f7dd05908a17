# SPDX-License-Identifier: BSD-3-Clause
"""The agent's words: any bytes as printable text without spaces (``guest/agent.c``)."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes


def encode(data: bytes) -> str:
    """Percent-encodes; the empty word is a lone ``%``."""
    return "".join(chr(b) if 0x20 < b < 0x7F and b != 0x25 else f"%{b:02x}" for b in data) or "%"


def decode(word: str) -> bytes:
    """The inverse of ``encode``."""
    return b"" if word == "%" else unquote_to_bytes(word)
