# SPDX-License-Identifier: BSD-3-Clause
"""Watch clients: programs of the daemon's user that receive the events of the share.

A client connects to the daemon's watch socket, sends a `request`, and receives the descriptor of an
event ring of its own in shared memory (native/watch/shm_ring.h), which it reads without any call to
the daemon (`client`). The daemon's side is `control`, to which a connected client is a consumer.
What the ring holds is in `records`::

    with Subscription("/run/fs.sock.watch", Request(watches=(Watch("docs"),))) as events:
        for record in events:
            print(record)

See `control` for who may connect, and `records` for what is reported. What is exported here is the
client's, and needs neither the daemon's core nor its side of the connection (`control`, `mounts`).
"""

from virtiofsd_py._records import MountChange, Origin, RecordType, Status, SuperblockChange
from virtiofsd_py.fsnotify.client import Refused, Subscription
from virtiofsd_py.fsnotify.records import (
    BadRecord,
    Event,
    EventKind,
    FilesystemError,
    Loss,
    MountEvent,
    Record,
    WatchStatus,
)
from virtiofsd_py.fsnotify.request import BadRequest, Request, Watch, default_socket

__all__ = [
    "BadRecord",
    "BadRequest",
    "Event",
    "EventKind",
    "FilesystemError",
    "Loss",
    "MountChange",
    "MountEvent",
    "Origin",
    "Record",
    "RecordType",
    "Refused",
    "Request",
    "Status",
    "Subscription",
    "SuperblockChange",
    "Watch",
    "WatchStatus",
    "default_socket",
]
