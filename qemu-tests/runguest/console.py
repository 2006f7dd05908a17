# SPDX-License-Identifier: BSD-3-Clause
"""Reading a guest's console log: is there a line that no healthy kernel prints?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_COMPLAINT: Final = re.compile(
    r"""
      \b(BUG|WARNING|KASAN|KCSAN|KFENCE|UBSAN|Oops|KTAP:[ ]FAIL)\b[: ]
    | kernel[ ]BUG[ ]at
    | Kernel[ ]panic
    | general[ ]protection[ ]fault
    | unable[ ]to[ ]handle
    | \b(possible|inconsistent|circular)[ ].*\b(deadlock|locking|lock[ ](state|dependency))
    | suspicious[ ]RCU[ ]usage
    | DEBUG_LOCKS_WARN_ON
    | sleeping[ ]function[ ]called
    | INFO:[ ](task[ ].*[ ]blocked|rcu|trying[ ]to[ ]register)
    | rcu:[ ]INFO
    | soft[ ]lockup|hard[ ]LOCKUP
    | Busy[ ]inodes[ ]after[ ]unmount
    | list_(add|del)[ ]corruption
    | guest[ ]init:
    """,
    re.VERBOSE,
)

_HARMLESS: Final = re.compile(r"Spectre V\d|mitigation|MDS: |retbleed", re.IGNORECASE)


def complaints(text: str) -> list[str]:
    """The lines of a console log that make a run a failure."""
    return [
        line.strip()
        for line in text.splitlines()
        if _COMPLAINT.search(line) and not _HARMLESS.search(line)
    ]


def read_log(path: Path) -> str:
    """A log as text, whatever bytes a guest put into it; empty if it does not exist."""
    try:
        return path.read_bytes().decode("utf-8", "replace").replace("\r", "")
    except FileNotFoundError:
        return ""
