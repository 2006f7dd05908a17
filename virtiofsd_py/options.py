# SPDX-License-Identifier: BSD-3-Clause
"""What the daemon is told, as one frozen `Options`.

`virtiofsd_py.arguments` makes it from a command line; a Python caller may make one directly.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Cache(enum.StrEnum):
    """How long the guest may trust what it knows."""

    AUTO = "auto"
    ALWAYS = "always"
    METADATA = "metadata"
    NEVER = "never"


class Sandbox(enum.StrEnum):
    """What the daemon locks itself into."""

    NAMESPACE = "namespace"
    CHROOT = "chroot"
    NONE = "none"


class FileHandles(enum.StrEnum):
    """Whether inodes are held by file handle rather than by an O_PATH descriptor."""

    NEVER = "never"
    PREFER = "prefer"
    MANDATORY = "mandatory"


class LogLevel(enum.StrEnum):
    """The least severe line that is still logged."""

    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    DEBUG = "debug"
    TRACE = "trace"
    OFF = "off"


class Fsnotify(enum.StrEnum):
    """Who reports a change to the guest's watchers (remote-fsnotify modes)."""

    OFF = "off"
    MERGED = "merged"
    SERVER = "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything the daemon is told. One of `socket_path` and `fd` is set, never both.

    Attributes:
        shared_dir: directory (or plain file) to share; not checked to exist.
        socket_path: where to bind the vhost-user socket.
        fd: number of an inherited *listening* descriptor.
        socket_group: group that may connect; None means the owner only.
        tag: mount tag for the configuration space, 1 to 36 bytes as UTF-8; None means that the
            front-end provides it.
        thread_pool_size: workers beside the queue threads; 0 serves in the queue threads.
        num_request_queues: request queues offered, a thread each.
        cache: what the guest may cache.
        readdirplus: whether READDIRPLUS is offered; always False with ``cache=never``.
        allow_direct_io: whether the guest's O_DIRECT reaches the host.
        preserve_noatime: whether the guest's O_NOATIME reaches the host.
        readonly: whether the guest is kept from changing anything.
        announce_submounts: whether mounts below the share are mounts in the guest too.
        inode_file_handles: how inodes are held.
        sandbox: what the daemon locks itself into.
        rlimit_nofile: descriptor limit to set; 0 leaves it, None means min(1000000, nr_open).
        fsnotify: who reports changes.
        fsnotify_max_watches: host watches a guest may cause; 0 means as many as the host allows.
        fsnotify_ring_kib: event ring of one guest, in KiB, a power of two.
        log_level: the least severe line logged.
        syslog: whether the log goes to syslog instead of standard error.
    """

    shared_dir: str
    socket_path: str | None = None
    fd: int | None = None
    socket_group: str | None = None
    tag: str | None = None
    thread_pool_size: int = 0
    num_request_queues: int = 1
    cache: Cache = Cache.AUTO
    readdirplus: bool = True
    allow_direct_io: bool = False
    preserve_noatime: bool = False
    readonly: bool = False
    announce_submounts: bool = True
    inode_file_handles: FileHandles = FileHandles.PREFER
    sandbox: Sandbox = Sandbox.NONE
    rlimit_nofile: int | None = None
    fsnotify: Fsnotify = Fsnotify.MERGED
    fsnotify_max_watches: int = 0
    fsnotify_ring_kib: int = 1024
    log_level: LogLevel = LogLevel.INFO
    syslog: bool = False
