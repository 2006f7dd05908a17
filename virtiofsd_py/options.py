# SPDX-License-Identifier: BSD-3-Clause
"""The daemon's options, as one frozen `Options`, which is the table of the command line too.

`virtiofsd_py.arguments` makes it from a command line; a Python caller may make one directly. A new
option is one row here.
"""

from __future__ import annotations

import enum
from dataclasses import MISSING, dataclass
from typing import Final

from virtiofsd_py._declared import (
    Cache,
    FileHandles,
    Fsnotify,
    FsnotifyDialect,
    MigrationMode,
    MigrationOnError,
)
from virtiofsd_py.errors import ConfigError
from virtiofsd_py.idmap import (
    Kind,
    NamespaceRange,
    Translation,
    parse_namespace_range,
    parse_translation,
)
from virtiofsd_py.option_rows import Group, Value, alternatives, choice, number, text
from virtiofsd_py.xattrmap import Rule, parse

__all__ = [
    "CAPABILITY_NAMES",
    "POLL_US",
    "POLL_US_MAX",
    "POOL_MAX",
    "PROGRAM",
    "QUEUES_MAX",
    "RING_KIB_MAX",
    "RING_KIB_MIN",
    "SOCKET",
    "TAG_MAX_BYTES",
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

PROGRAM: Final = "virtiofsd-py"

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


TAG_MAX_BYTES: Final = 36
QUEUES_MAX: Final = 64
POOL_MAX: Final = 1024
POLL_US_MAX: Final = 1000
RING_KIB_MIN: Final = 64
RING_KIB_MAX: Final = 65536

# The last byte of sockaddr_un's path is its NUL: unix(7).
SOCKET: Final = text("a path of 1 to 107 bytes", "PATH", max_bytes=107)


def _watch_socket(given: str) -> object:
    return "" if given == "none" else SOCKET.parse(given)


def _capability_changes(given: str) -> tuple[CapabilityChange, ...]:
    """Read ``+name:-name``."""
    changes = []
    at = 1
    for item in given.split(":"):
        name = item[1:].lower().removeprefix("cap_")
        if item[:1] not in ("+", "-"):
            raise ConfigError(f"has {item!r} without + or - in front (character {at})")
        if name not in CAPABILITY_NAMES:
            raise ConfigError(f"names no capability: {item[1:]!r} (character {at + 1})")
        changes.append(CapabilityChange(name, keep=item[0] == "+"))
        at += len(item) + 1
    return tuple(changes)


_SHARE: Final = text("the path of a directory or plain file", "PATH")
_GROUP: Final = text("the name of a group", "GROUP")
_TAG: Final = text(f"1 to {TAG_MAX_BYTES} bytes", "TAG", max_bytes=TAG_MAX_BYTES)
_RULES: Final = Value(parse, "rules such as :map::user.virtiofs.:", "RULES")
_IDS: Final = Value(
    parse_translation, "a translation such as map:0:100000:65536", "KIND:FROM:TO:COUNT"
)
_IDS_HELP: Final = (
    "translate user ids between guest and host; KIND is "
    f"{alternatives([*Kind])}, the last without TO; repeatable"
)
_RANGE: Final = Value(
    parse_namespace_range, "a range such as :0:100000:65536:", ":INSIDE:OUTSIDE:COUNT:"
)
_WATCH_SOCKET: Final = Value(_watch_socket, "a path of 1 to 107 bytes, or none", "PATH")
_CAPABILITIES: Final = Value(
    _capability_changes, "changes such as +sys_admin:-mknod", "+NAME:-NAME"
)
_RING: Final = number(RING_KIB_MIN, RING_KIB_MAX, power_of_two=True)

_connection: Final = Group("Share and connection")
_queues: Final = Group("Queues")
_files: Final = Group("Filesystem")
_names: Final = Group("Extended attributes and ids")
_fsnotify: Final = Group("Remote fsnotify")
_security: Final = Group("Security and limits")
_migration: Final = Group("Migration")
_logging: Final = Group("Log")


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options: a row for each attribute and its long option.

    The type, what the help says, what is accepted and the default are the row's; comments add what
    a Python caller has to know besides. Names and meanings are those of the Rust virtiofsd, so that
    whatever starts that daemon can start this one. One of `socket_path` and `fd` is set, never both.
    """

    # Not checked to exist.
    shared_dir: str = _connection("directory, or plain file, to share; required", _SHARE, MISSING, legacy="source")
    socket_path: str | None = _connection("vhost-user socket to create; this or --fd is required", SOCKET, None,
        also={"socket": ("the same [deprecated]", True)})
    fd: int | None = _connection("serve on this inherited, listening descriptor", number(0, 2**31 - 1), None)
    socket_group: str | None = _connection("group that may connect to the socket", _GROUP, None, words="its owner only")
    # Measured as UTF-8.
    tag: str | None = _connection("mount tag to offer to front-ends that leave it to the daemon", _TAG, None,
        words="the front-end's")

    num_request_queues: int = _queues("request queues to offer, each with a thread of its own", number(1, QUEUES_MAX), 1)
    thread_pool_size: int = _queues("threads for each request queue, so that a slow request holds up no other; 0 is "
        "one thread, the fastest where nothing is slow", number(0, POOL_MAX), 0)
    poll_us: int = _queues("look for the next request for up to this many microseconds before sleeping, as long as that "
        "pays; 0 sleeps at once, more than 20 answers sooner for more processor time; not with a pool",
        number(0, POLL_US_MAX), POLL_US)

    cache: Cache = _files("what the guest may cache: attributes and names for 1 s (auto), everything for a day "
        "(always), all but data for a day (metadata), nothing (never)",
        choice(Cache, aliases={"none": Cache.NEVER}), Cache.AUTO, legacy="cache")
    # Always False with cache=never.
    readdirplus: bool = _files("list directories without the attributes of their entries", None, True,
        name="no-readdirplus", sets=False, legacy="no_readdirplus", legacy_no="readdirplus")
    writeback: bool = _files("let the guest hold writes back in its cache; a stock kernel then misses what the host "
        "does to files it knows (docs/limits.md)", legacy="writeback", legacy_no="no_writeback")
    allow_mmap: bool = _files("let the guest map files shared that it does not cache")
    allow_direct_io: bool = _files("let the guest's O_DIRECT reach the host",
        legacy="allow_direct_io", legacy_no="no_allow_direct_io")
    preserve_noatime: bool = _files("let the guest's O_NOATIME reach the host; without it that does nothing")
    allow_project_ids: bool = _files("let the guest change project ids, and with them the host's limits on space")
    readonly: bool = _files("keep the guest from changing anything")
    killpriv_v2: bool = _files("clear set-user-id and set-group-id bits for the guest",
        legacy="killpriv_v2", legacy_no="no_killpriv_v2",
        also={"no-killpriv-v2": ("leave them to the guest (default)", False)})
    announce_submounts: bool = _files("show mounts below the share as mounts in the guest (default)", None, True,
        legacy="announce_submounts",
        also={"no-announce-submounts": ("show them as plain directories, for overlays with a mount in a lower layer, "
            "say; inode numbers of other filesystems than the share's are made to differ then", False)})
    inode_file_handles: FileHandles = _files("hold inodes by file handle, which takes no descriptor and finds again "
        "what the guest has forgotten when it opens a handle of its own",
        choice(FileHandles, aliases={"fallback": FileHandles.PREFER}), FileHandles.PREFER)

    # Always True with posix_acl, security_label or an xattrmap.
    xattr: bool = _names("let the guest have extended attributes", legacy="xattr", legacy_no="no_xattr")
    xattrmap: tuple[Rule, ...] = _names("translate names of extended attributes by these rules; implies --xattr",
        _RULES, (), legacy="xattrmap", words="names pass as they are, but trusted.*")
    posix_acl: bool = _names("let the guest have POSIX access control lists; implies --xattr",
        legacy="posix_acl", legacy_no="no_posix_acl")
    security_label: bool = _names("give new files the label that the guest wants; implies --xattr",
        legacy="security_label", legacy_no="no_security_label")
    translate_uid: tuple[Translation, ...] = _names(_IDS_HELP, _IDS, (), repeats=True,
        words="ids pass as they are")
    translate_gid: tuple[Translation, ...] = _names("the same for group ids", _IDS, (), repeats=True,
        words="ids pass as they are")

    fsnotify: Fsnotify = _fsnotify("host changes reach inotify and fanotify in the guest beside its own (merged), or do "
        "not (off)", choice(Fsnotify), Fsnotify.MERGED)
    fsnotify_dialect: FsnotifyDialect = _fsnotify("protocol that the guest's kernel speaks: ours (native), or that of "
        "the kernel series of 2021 (rfc2021), in which all changes are reported by the daemon",
        choice(FsnotifyDialect), FsnotifyDialect.NATIVE)
    fsnotify_max_watches: int = _fsnotify("host watches a guest may cause before it gets ENOSPC, if the host lets it; 0 "
        "is a quarter of what the host allows (fs.fanotify.max_user_marks, in server mode "
        "fs.inotify.max_user_watches)", number(0), 0)
    fsnotify_ring_kib: int = _fsnotify("size in KiB of the ring of events waiting for a guest", _RING, 1024)
    # None is beside `socket_path`, if that is set, and "" is nowhere.
    watch_socket: str | None = _fsnotify(f"socket for '{PROGRAM} watch', which shows what happens in the share; none: no "
        "such socket", _WATCH_SOCKET, None, words="the vhost-user socket's path and .watch; with --fd none")

    sandbox: Sandbox = _security("isolation of the daemon", choice(Sandbox), Sandbox.NAMESPACE, legacy="sandbox")
    # Only for other users than root, as the next.
    uid_map: tuple[NamespaceRange, ...] = _security("user ids of the namespace sandbox of another user than root, "
        "by newuidmap; repeatable", _RANGE, (), repeats=True, words="one's own")
    gid_map: tuple[NamespaceRange, ...] = _security("the same for group ids, by newgidmap", _RANGE, (),
        repeats=True, words="one's own")
    seccomp: Seccomp = _security("what a system call leads to that the daemon never needs", choice(Seccomp), Seccomp.KILL)
    modcaps: tuple[CapabilityChange, ...] = _security("keep or drop further capabilities", _CAPABILITIES, (),
        legacy="modcaps", words="none")
    # None is `limits.files_of_daemon`.
    rlimit_nofile: int | None = _security("descriptor limit to set; 0 leaves it", number(0), None,
        words="1000000 or, if less, fs.nr_open or seven eighths of fs.file-max")

    # The target makes sure that what a handle means is below the share.
    migration_mode: MigrationMode = _migration("what inodes are found by; handles are opened only where asked for",
        choice(MigrationMode), MigrationMode.FIND_PATHS)
    # Each end has its own.
    migration_on_error: MigrationOnError = _migration("one that is lost stops the migration, or fails in the guest",
        choice(MigrationOnError), MigrationOnError.ABORT)
    # Said at either end; takes the same filesystem at both.
    migration_verify_handles: bool = _migration("the target compares file handles of what it finds")
    # In case something else is there by now than what the kernel says.
    migration_confirm_paths: bool = _migration("the source looks up the paths that it sends")

    log_level: LogLevel = _logging("the least severe line to log", choice(LogLevel, aliases={"err": LogLevel.ERROR}),
        LogLevel.INFO, legacy="loglevel")
    syslog: bool = _logging("log to syslog instead of standard error")
# fmt: on
