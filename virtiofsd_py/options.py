# SPDX-License-Identifier: BSD-3-Clause
"""What the daemon is told, as one frozen `Options`.

`virtiofsd_py.arguments` makes it from a command line; a Python caller may make one directly.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from virtiofsd_py._declared import (
    Cache,
    FileHandles,
    Fsnotify,
    FsnotifyDialect,
    MigrationMode,
    MigrationOnError,
)
from virtiofsd_py.idmap import NamespaceRange, Translation
from virtiofsd_py.xattrmap import Rule

__all__ = [
    "CAPABILITY_NAMES",
    "POLL_US",
    "Cache",
    "CapabilityChange",
    "FileHandles",
    "Fsnotify",
    "FsnotifyDialect",
    "LogLevel",
    "MigrationMode",
    "MigrationOnError",
    "Options",
    "Sandbox",
    "Seccomp",
]

POLL_US: Final = 20
"""What it costs a virtual machine about to sleep and wake up."""

# capabilities(7), each at its number.
CAPABILITY_NAMES: Final = (
    *("chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid"),
    *("setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw"),
    *("ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct"),
    *("sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod"),
    *("lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog"),
    *("wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore"),
)


class Sandbox(enum.StrEnum):
    """What the daemon locks itself into."""

    NAMESPACE = "namespace"
    CHROOT = "chroot"
    NONE = "none"


class Seccomp(enum.StrEnum):
    """What happens to the daemon when it makes a system call that it never needs."""

    NONE = "none"
    KILL = "kill"
    LOG = "log"
    TRAP = "trap"


class LogLevel(enum.StrEnum):
    """The least severe line that is still logged."""

    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    DEBUG = "debug"
    TRACE = "trace"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class CapabilityChange:
    """A capability to keep besides the usual ones, or to drop though it is one of them.

    Attributes:
        name: as in capabilities(7), in small letters and without "cap_".
        keep: whether it is kept.
    """

    name: str
    keep: bool


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
        thread_pool_size: threads that serve each request queue; 0 is one.
        poll_us: how long a request queue's thread polls before it sleeps, in microseconds, where
            requests come as soon as that; 0: it sleeps at once.
        num_request_queues: request queues offered, a thread each.
        cache: what the guest may cache.
        readdirplus: whether READDIRPLUS is offered; always False with ``cache=never``.
        writeback: whether the guest may hold writes back in its cache.
        allow_mmap: whether files that the guest does not cache can be mapped shared.
        allow_direct_io: whether the guest's O_DIRECT reaches the host.
        preserve_noatime: whether the guest's O_NOATIME reaches the host.
        allow_project_ids: whether the guest may change the project ids of files, by which the host
            may limit what space they take.
        readonly: whether the guest is kept from changing anything.
        killpriv_v2: whether the guest leaves the clearing of set-user-id bits to us.
        xattr: whether the guest has extended attributes; always True with `posix_acl`,
            `security_label` or an `xattrmap`.
        posix_acl: whether the guest has POSIX access control lists.
        security_label: whether new files get the label that the guest wants.
        xattrmap: how names of extended attributes are translated; empty: they are not, but
            ``trusted.*`` is not for guests.
        translate_uid: how user ids are translated between guest and host.
        translate_gid: how group ids are.
        announce_submounts: whether mounts below the share are mounts in the guest too.
        inode_file_handles: how inodes are held.
        sandbox: what the daemon locks itself into.
        uid_map: user ids of the sandbox's user namespace; only for other users than root.
        gid_map: group ids of it.
        seccomp: what a forbidden system call leads to.
        modcaps: changes to the capabilities that root keeps.
        rlimit_nofile: descriptor limit to set; 0 leaves it, None is `limits.files_of_daemon`.
        fsnotify: who reports changes.
        fsnotify_dialect: what the guest's kernel speaks; in the old dialect all changes are
            reported by us, unless `fsnotify` is off.
        fsnotify_max_watches: host watches a guest may cause; 0 is a part of what the host allows.
        fsnotify_ring_kib: event ring of one guest, in KiB, a power of two.
        watch_socket: where watch clients connect; None is beside `socket_path`, if that is set,
            and "" is nowhere.
        migration_mode: what the source tells of an inode, and whether the target opens handles:
            they may mean what is not below the share, which it makes sure of.
        migration_on_error: what an inode without that, or one that is not found, leads to: no
            migration, or ESTALE for whoever uses it in the guest. Each end has its own.
        migration_verify_handles: whether the target compares the file handle of what it finds with
            the one that the source saw, which takes the same filesystem at both ends. Said at
            either end.
        migration_confirm_paths: whether the source looks up each path that the kernel tells, in
            case something else is there by now.
        log_level: the least severe line logged.
        syslog: whether the log goes to syslog instead of standard error.
    """

    shared_dir: str
    socket_path: str | None = None
    fd: int | None = None
    socket_group: str | None = None
    tag: str | None = None
    thread_pool_size: int = 0
    poll_us: int = POLL_US
    num_request_queues: int = 1
    cache: Cache = Cache.AUTO
    readdirplus: bool = True
    writeback: bool = False
    allow_mmap: bool = False
    allow_direct_io: bool = False
    preserve_noatime: bool = False
    allow_project_ids: bool = False
    readonly: bool = False
    killpriv_v2: bool = False
    xattr: bool = False
    posix_acl: bool = False
    security_label: bool = False
    xattrmap: tuple[Rule, ...] = ()
    translate_uid: tuple[Translation, ...] = ()
    translate_gid: tuple[Translation, ...] = ()
    announce_submounts: bool = True
    inode_file_handles: FileHandles = FileHandles.PREFER
    sandbox: Sandbox = Sandbox.NAMESPACE
    uid_map: tuple[NamespaceRange, ...] = ()
    gid_map: tuple[NamespaceRange, ...] = ()
    seccomp: Seccomp = Seccomp.KILL
    modcaps: tuple[CapabilityChange, ...] = ()
    rlimit_nofile: int | None = None
    fsnotify: Fsnotify = Fsnotify.MERGED
    fsnotify_dialect: FsnotifyDialect = FsnotifyDialect.NATIVE
    fsnotify_max_watches: int = 0
    fsnotify_ring_kib: int = 1024
    watch_socket: str | None = None
    migration_mode: MigrationMode = MigrationMode.FIND_PATHS
    migration_on_error: MigrationOnError = MigrationOnError.ABORT
    migration_verify_handles: bool = False
    migration_confirm_paths: bool = False
    log_level: LogLevel = LogLevel.INFO
    syslog: bool = False
