# SPDX-License-Identifier: BSD-3-Clause
"""The driver's side of a virtio-fs device, in the standard library alone.

It shares memory, sends real vhost-user messages, fills real rings and speaks FUSE over them, so a
daemon can be driven without any guest. It shares no code with the daemon: both read the
specifications on their own. And it can lie, at every layer.

    with Session.connect("/run/fs.sock") as session:
        session.fuse.init()
        entry = session.fuse.lookup(ROOT_ID, "hello")

Modules: `memory` (guest memory), `vhost` (control messages), `vring` (split rings), `fuse_wire` and
`fuse` (requests), `notify` (notification queue), `session` (all of it, connected), `rfc2021`
(a guest of 2021).
"""

from tests.frontend.fuse import FuseClient, FuseError, Reply
from tests.frontend.fuse_wire import ROOT_ID, InitFlag, Opcode
from tests.frontend.memory import GuestMemory
from tests.frontend.notify import NotificationQueue, Record, parse_notification
from tests.frontend.session import Session
from tests.frontend.vhost import FrontEnd, RefusedByBackend
from tests.frontend.vring import Buffer, DriverRing

__all__ = [
    "ROOT_ID",
    "Buffer",
    "DriverRing",
    "FrontEnd",
    "FuseClient",
    "FuseError",
    "GuestMemory",
    "InitFlag",
    "NotificationQueue",
    "Opcode",
    "Record",
    "RefusedByBackend",
    "Reply",
    "Session",
    "parse_notification",
]
