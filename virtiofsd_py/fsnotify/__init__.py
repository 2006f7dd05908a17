# SPDX-License-Identifier: BSD-3-Clause
"""Local consumers: programs of the daemon's user that hear what happens in the share.

A consumer connects to the daemon's watch socket, says what it wants (`request`), and is given an
event ring in shared memory of its own (native/watch/shm_ring.h), which it reads without any call to
the daemon (`client`). The daemon's side is `control`; what comes out of the ring is in `records`::

    with Subscription("/run/fs.sock.watch", Request(watches=(Watch("docs"),))) as events:
        for record in events:
            print(record)

Who may: see `control`. What is told of: see `records`.
"""

from virtiofsd_py.engine import RecordType
from virtiofsd_py.fsnotify.client import Refused, Subscription
from virtiofsd_py.fsnotify.control import Control, WatchSocket
from virtiofsd_py.fsnotify.mounts import MountWatch
from virtiofsd_py.fsnotify.records import (
    BadRecord,
    Event,
    EventKind,
    FilesystemError,
    Loss,
    MountChange,
    MountEvent,
    Origin,
    Record,
    Status,
    SuperblockChange,
    WatchStatus,
)
from virtiofsd_py.fsnotify.request import BadRequest, Request, Watch, default_socket

__all__ = [
    "BadRecord",
    "BadRequest",
    "Control",
    "Event",
    "EventKind",
    "FilesystemError",
    "Loss",
    "MountChange",
    "MountEvent",
    "MountWatch",
    "Origin",
    "Record",
    "RecordType",
    "Refused",
    "Request",
    "Status",
    "Subscription",
    "SuperblockChange",
    "Watch",
    "WatchSocket",
    "WatchStatus",
    "default_socket",
]
