# SPDX-License-Identifier: BSD-3-Clause
"""What a client asks for, and how it is sent: one JSON object in one message.

The socket is a SOCK_SEQPACKET. The client sends its request, the daemon answers ``{"ring_bytes":
N}`` with the ring's memory as a descriptor, or ``{"error": ERRNO, "reason": TEXT}`` and hangs up.
From then on the daemon sends messages of one byte, ``!``: records wait. They may come before the
answer. The client sends nothing more; when it hangs up, its watches end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from virtiofsd_py._records import RecordType
from virtiofsd_py.errors import VirtiofsdError
from virtiofsd_py.fsnotify.records import EventKind
from virtiofsd_py.structures import WatchRequest, WatchSpec

VERSION: Final = 1
REQUEST_BYTES_MAX: Final = 1 << 16
RING_BYTES_MIN: Final = 1 << 16
RING_BYTES_MAX: Final = 1 << 26
WATCHES_MAX: Final = 64
PATH_BYTES_MAX: Final = 4095

ALL_EVENTS: Final = (1 << len(EventKind)) - 1
CHANGES: Final = ALL_EVENTS & ~(
    1 << EventKind.ACCESS
    | 1 << EventKind.OPEN
    | 1 << EventKind.CLOSE_NOWRITE
    | 1 << EventKind.CLOSE_WRITE
)
"""Events of something being changed, as opposed to used."""


class BadRequest(VirtiofsdError):
    """A request is malformed, or exceeds a limit."""

    survives = True


@dataclass(frozen=True, slots=True)
class Watch:
    """One thing to watch.

    Attributes:
        path: from the share on; empty, "." and "/" are the share itself. Symbolic links are not
            followed.
        mask: event bits, 1 << `EventKind`.
        recursive: whether all that is below a directory is watched, or only what is in it.
    """

    path: str = ""
    mask: int = CHANGES
    recursive: bool = True


def _every_type() -> dict[RecordType, int]:
    return {kind: (1 << 64) - 1 for kind in RecordType}


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants to receive.

    Attributes:
        watches: what is watched, at most `WATCHES_MAX`.
        subtypes: for each type of record that is wanted, a bit for each subtype. `Loss` and
            `WatchStatus` come anyway.
        ring_bytes: size of the ring, for records that were not read yet; a power of two.
    """

    watches: tuple[Watch, ...] = (Watch(),)
    subtypes: Mapping[RecordType, int] = field(default_factory=_every_type)
    ring_bytes: int = 1 << 18

    def encode(self) -> bytes:
        """Return the request as a message."""
        return json.dumps(
            {
                "version": VERSION,
                "ring_bytes": self.ring_bytes,
                "subtypes": {kind.name.lower(): bits for kind, bits in self.subtypes.items()},
                "watches": [
                    {"path": w.path, "mask": w.mask, "recursive": w.recursive} for w in self.watches
                ],
            }
        ).encode()


def parse_untrusted(raw: bytes) -> WatchRequest:
    """Read a request.

    Raises:
        BadRequest: it is malformed, or exceeds a limit. Nothing else.
    """
    try:
        # Given bytes, json would guess the encoding, and import what that takes.
        data = json.loads(raw.decode())
    except (ValueError, RecursionError):
        raise BadRequest("the request is no JSON") from None
    data = _mapping(data, "the request")
    if data.get("version") != VERSION:
        raise BadRequest(f"version {data.get('version')!r}; this is version {VERSION}")
    ring_bytes = _number(data, "ring_bytes", RING_BYTES_MIN, RING_BYTES_MAX)
    if ring_bytes & (ring_bytes - 1):
        raise BadRequest("ring_bytes is no power of two")
    watches = data.get("watches")
    if not isinstance(watches, list) or len(watches) > WATCHES_MAX:
        raise BadRequest(f"watches is no list of at most {WATCHES_MAX}")
    subtypes = _mapping(data.get("subtypes"), "subtypes")
    names = {kind.name.lower(): kind for kind in RecordType}
    for name in subtypes:
        if name not in names:
            raise BadRequest(f"no type of record is called {name!r}")
    return WatchRequest(
        ring_bytes=ring_bytes,
        subtypes={names[name]: _number(subtypes, name, 0, (1 << 64) - 1) for name in subtypes},
        watches=[_watch(i, _mapping(watch, "a watch")) for i, watch in enumerate(watches)],
    )


def _watch(index: int, data: Mapping[str, Any]) -> WatchSpec:
    path = data.get("path")
    if not isinstance(path, str) or not isinstance(data.get("recursive"), bool):
        raise BadRequest("a watch has no path, or does not say whether it is recursive")
    return WatchSpec(
        id=index,
        mask=_number(data, "mask", 0, ALL_EVENTS),
        recursive=data["recursive"],
        path=clean_path(path),
    )


def clean_path(path: str) -> bytes:
    """Return `path` relative to the share, as the core expects it.

    Raises:
        BadRequest: it leads upwards, or cannot be one.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadRequest(f"{path!r} leads upwards")
    try:
        raw = os.fsencode("/".join(parts))
    except UnicodeEncodeError:
        raise BadRequest(f"{path!r} is no path") from None
    if b"\0" in raw or len(raw) > PATH_BYTES_MAX:
        raise BadRequest(f"{path[:64]!r} is no path")
    return raw


def default_socket(socket_path: str) -> str:
    """Return where a daemon with this vhost-user socket listens for watch clients by default."""
    return socket_path + ".watch"


def _mapping(data: object, what: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise BadRequest(f"{what} is no object")
    return data


def _number(data: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = data.get(name)
    if type(value) is not int or not low <= value <= high:
        raise BadRequest(f"{name} is no number from {low} to {high}")
    return value
