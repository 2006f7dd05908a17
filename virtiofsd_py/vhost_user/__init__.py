# SPDX-License-Identifier: BSD-3-Clause
"""A vhost-user back-end: the control conversation with a virtual machine monitor.

Three layers, each usable without the next: `messages` (bytes to frozen types), `Server` (a state
machine that drives a `Backend` and does no I/O), `transport` (a socket with descriptors, and
`serve`, the loop). The data path, rings and guest memory, is the `Backend`'s own.

    with Listener.bind(path) as listener:
        connection = listener.accept()
    with connection, Server(backend) as server:
        serve(connection, server)

Spec: QEMU docs/interop/vhost-user.rst.
"""

from virtiofsd_py.vhost_user.backend import (
    Backend,
    DirtyLog,
    GuestAddress,
    MemoryRegion,
    UserAddress,
    VringSetup,
)
from virtiofsd_py.vhost_user.errors import (
    BackendError,
    BadMessage,
    Disconnected,
    MessageRefused,
    ProtocolError,
    ProtocolViolation,
    TransportError,
    VhostUserError,
)
from virtiofsd_py.vhost_user.messages import (
    BackendRequest,
    Header,
    HeaderFlag,
    ProtocolFeature,
    Request,
    TransferDirection,
    VirtioFeature,
)
from virtiofsd_py.vhost_user.server import (
    DEFAULT_PROTOCOL_FEATURES,
    SUPPORTED_PROTOCOL_FEATURES,
    Server,
)
from virtiofsd_py.vhost_user.transport import Connection, Listener, Message, Watch, serve

__all__ = [
    "DEFAULT_PROTOCOL_FEATURES",
    "SUPPORTED_PROTOCOL_FEATURES",
    "Backend",
    "BackendError",
    "BackendRequest",
    "BadMessage",
    "Connection",
    "DirtyLog",
    "Disconnected",
    "GuestAddress",
    "Header",
    "HeaderFlag",
    "Listener",
    "MemoryRegion",
    "Message",
    "MessageRefused",
    "ProtocolError",
    "ProtocolFeature",
    "ProtocolViolation",
    "Request",
    "Server",
    "TransferDirection",
    "TransportError",
    "UserAddress",
    "VhostUserError",
    "VirtioFeature",
    "VringSetup",
    "Watch",
    "serve",
]
