# SPDX-License-Identifier: BSD-3-Clause
"""inotify events as cases write and compare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntFlag

from .words import encode


class Mask(IntFlag):
    """inotify's bits. Spec: inotify(7)."""

    ACCESS = 0x1
    MODIFY = 0x2
    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    CLOSE_NOWRITE = 0x10
    OPEN = 0x20
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    ALL = 0xFFF
    UNMOUNT = 0x2000
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x1000000
    DONT_FOLLOW = 0x2000000
    EXCL_UNLINK = 0x4000000
    MASK_CREATE = 0x10000000
    MASK_ADD = 0x20000000
    ISDIR = 0x40000000
    ONESHOT = 0x80000000


@dataclass(frozen=True, slots=True)
class Event:
    """One event as read from an inotify instance."""

    wd: int
    mask: Mask
    cookie: int
    name: bytes

    @property
    def kind(self) -> str:
        """The mask by name, ISDIR last, as in ``CREATE|ISDIR``."""
        bits = [bit.name or "" for bit in Mask if bit in self.mask and bit.bit_count() == 1]
        return "|".join(bits) or hex(self.mask)


def describe(events: Iterable[Event], labels: Mapping[int, str]) -> dict[str, list[str]]:
    """What each watch saw, in order, readable: ``{"dir": ["MOVED_FROM f #1", "MOVED_TO g #1"]}``.

    Order is kept within a watch, which is what inotify promises across actors. Cookies become
    #1, #2… in order of appearance. Every label is a key, so "nothing" is an empty list.

    Args:
        events: in order of arrival.
        labels: watch descriptor to name; -1 is where overflow shows.
    """
    seen: dict[str, list[str]] = {label: [] for label in labels.values()}
    cookies: dict[int, str] = {}
    for event in events:
        words = [event.kind]
        if event.name:
            words.append(encode(event.name))
        if event.cookie:
            words.append(cookies.setdefault(event.cookie, f"#{len(cookies) + 1}"))
        seen.setdefault(labels.get(event.wd, f"wd {event.wd}"), []).append(" ".join(words))
    return seen
