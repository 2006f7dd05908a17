# SPDX-License-Identifier: BSD-3-Clause
"""What must be seen of each change: data for ``test_events.py``.

The truth of this table is checked against a local file system by the same test, in the world
called "local". Order is compared within each watch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runguest.actors import Step


@dataclass(frozen=True, slots=True)
class Case:
    """One change and what watchers see of it.

    Attributes:
        id: name of the case.
        given: what exists, made by the host before the guest has looked.
        before: what the actor has done before anybody watches.
        watches: label to name.
        act: the change.
        expect: label to events, see ``runguest.events.describe``.
    """

    id: str
    given: Sequence[Step]
    watches: Mapping[str, bytes]
    act: Sequence[Step]
    expect: Mapping[str, Sequence[str]]
    before: Sequence[Step] = ()


_FILE = [("file", b"f")]
_BOTH = {"dir": b".", "file": b"f"}
_DIRECTORY = [("mkdir", b"d")]
_PARENT_AND_SELF = {"dir": b".", "self": b"d"}

CASES: Sequence[Case] = [
    Case(
        "access",
        given=_FILE,
        before=[("open", b"f", b"r")],
        watches=_BOTH,
        act=[("read",)],
        expect={"dir": ["ACCESS f"], "file": ["ACCESS"]},
    ),
    Case(
        "modify",
        given=_FILE,
        before=[("open", b"f", b"w")],
        watches=_BOTH,
        act=[("write", b"x")],
        expect={"dir": ["MODIFY f"], "file": ["MODIFY"]},
    ),
    Case(
        "modify-truncate",
        given=_FILE,
        watches=_BOTH,
        act=[("truncate", b"f")],
        expect={"dir": ["MODIFY f"], "file": ["MODIFY"]},
    ),
    Case(
        "attrib-chmod",
        given=_FILE,
        watches=_BOTH,
        act=[("chmod", b"f")],
        expect={"dir": ["ATTRIB f"], "file": ["ATTRIB"]},
    ),
    Case(
        "attrib-utime",
        given=_FILE,
        watches=_BOTH,
        act=[("utime", b"f")],
        expect={"dir": ["ATTRIB f"], "file": ["ATTRIB"]},
    ),
    Case(
        "close-write",
        given=_FILE,
        before=[("open", b"f", b"w")],
        watches=_BOTH,
        act=[("close",)],
        expect={"dir": ["CLOSE_WRITE f"], "file": ["CLOSE_WRITE"]},
    ),
    Case(
        "close-nowrite",
        given=_FILE,
        before=[("open", b"f", b"r")],
        watches=_BOTH,
        act=[("close",)],
        expect={"dir": ["CLOSE_NOWRITE f"], "file": ["CLOSE_NOWRITE"]},
    ),
    Case(
        "open",
        given=_FILE,
        watches=_BOTH,
        act=[("open", b"f", b"r")],
        expect={"dir": ["OPEN f"], "file": ["OPEN"]},
    ),
    Case(
        "move-within",
        given=_FILE,
        watches=_BOTH,
        act=[("rename", b"f", b"g")],
        expect={"dir": ["MOVED_FROM f #1", "MOVED_TO g #1"], "file": ["MOVE_SELF"]},
    ),
    Case(
        "move-across",
        given=[("mkdir", b"a"), ("mkdir", b"b"), ("file", b"a/f")],
        watches={"from": b"a", "to": b"b", "file": b"a/f"},
        act=[("rename", b"a/f", b"b/g")],
        expect={"from": ["MOVED_FROM f #1"], "to": ["MOVED_TO g #1"], "file": ["MOVE_SELF"]},
    ),
    Case(
        "create",
        given=[],
        watches={"dir": b"."},
        act=[("mknod", b"f")],
        expect={"dir": ["CREATE f"]},
    ),
    Case(
        "create-and-write",
        given=[],
        watches={"dir": b"."},
        act=[("file", b"f")],
        expect={"dir": ["CREATE f", "OPEN f", "MODIFY f", "CLOSE_WRITE f"]},
    ),
    Case(
        "create-symlink",
        given=[],
        watches={"dir": b"."},
        act=[("symlink", b"nowhere", b"l")],
        expect={"dir": ["CREATE l"]},
    ),
    Case(
        "create-link",
        given=_FILE,
        watches=_BOTH,
        act=[("link", b"f", b"g")],
        expect={"dir": ["CREATE g"], "file": ["ATTRIB"]},
    ),
    Case(
        "delete",
        given=_FILE,
        watches=_BOTH,
        act=[("unlink", b"f")],
        expect={"dir": ["DELETE f"], "file": ["ATTRIB", "DELETE_SELF", "IGNORED"]},
    ),
    Case(
        "delete-one-of-two-links",
        given=[*_FILE, ("link", b"f", b"g")],
        watches=_BOTH,
        act=[("unlink", b"g")],
        expect={"dir": ["DELETE g"], "file": ["ATTRIB"]},
    ),
    Case(
        "mkdir",
        given=[],
        watches={"dir": b"."},
        act=[("mkdir", b"d")],
        expect={"dir": ["CREATE|ISDIR d"]},
    ),
    Case(
        "rmdir",
        given=_DIRECTORY,
        watches=_PARENT_AND_SELF,
        act=[("rmdir", b"d")],
        expect={"dir": ["DELETE|ISDIR d"], "self": ["DELETE_SELF", "IGNORED"]},
    ),
    Case(
        "move-directory",
        given=_DIRECTORY,
        watches=_PARENT_AND_SELF,
        act=[("rename", b"d", b"e")],
        expect={
            "dir": ["MOVED_FROM|ISDIR d #1", "MOVED_TO|ISDIR e #1"],
            "self": ["MOVE_SELF"],
        },
    ),
    Case(
        "attrib-directory",
        given=_DIRECTORY,
        watches=_PARENT_AND_SELF,
        act=[("chmod", b"d")],
        expect={"dir": ["ATTRIB|ISDIR d"], "self": ["ATTRIB|ISDIR"]},
    ),
    Case(
        "open-directory",
        given=_DIRECTORY,
        watches=_PARENT_AND_SELF,
        act=[("open", b"d", b"r")],
        expect={"dir": ["OPEN|ISDIR d"], "self": ["OPEN|ISDIR"]},
    ),
]

NAMES: Mapping[str, bytes] = {
    "1-byte": b"n",
    "15-bytes": b"n" * 15,
    "16-bytes": b"n" * 16,
    "255-bytes": b"n" * 255,
    "not-utf8": b"\xff\xfe \x80%\n\xc3",
}


def watch_sets(case: Case) -> list[tuple[str, ...]]:
    """Which watches to try together: each alone, and all."""
    labels = tuple(case.watches)
    return [(label,) for label in labels] + ([labels] if len(labels) > 1 else [])
