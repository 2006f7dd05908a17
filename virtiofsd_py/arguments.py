# SPDX-License-Identifier: BSD-3-Clause
"""The command line, by one declarative table.

A new option is a field of `Options` (its type and default) and a row of `OPTIONS` (its name, what
it accepts, its help). Names and meanings are those of the Rust virtiofsd, so that whatever starts
that daemon can start this one; ours are in the groups "Queues" and "Remote fsnotify".

Nothing here prints or exits: a wrong command line is a `ConfigError` of one line, and a question
(--help, --version, --print-capabilities) is a `Query` for the caller to answer.
"""

from __future__ import annotations

import argparse
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, NoReturn, TypeVar

from virtiofsd_py import idmap, xattrmap
from virtiofsd_py.errors import ConfigError
from virtiofsd_py.options import (
    CAPABILITY_NAMES,
    Cache,
    CapabilityChange,
    FileHandles,
    Fsnotify,
    FsnotifyDialect,
    GuestAgent,
    LogLevel,
    MigrationMode,
    MigrationOnError,
    Options,
    Sandbox,
    Seccomp,
)

PROGRAM: Final = "virtiofsd-py"

# What a management tool may rely on; the installed 50-virtiofsd-py.json says the same.
# Spec: QEMU docs/interop/vhost-user.json, "VHostUserBackendCapabilities".
CAPABILITIES: Final[Mapping[str, object]] = {
    "type": "fs",
    "features": ["migrate-precopy", "separate-options"],
}

TAG_MAX_BYTES: Final = 36
QUEUES_MAX: Final = 64
POOL_MAX: Final = 1024
POLL_US_MAX: Final = 1000
RING_KIB_MIN: Final = 64
RING_KIB_MAX: Final = 65536


class Query(enum.Enum):
    """A question that the command answers instead of serving."""

    HELP = enum.auto()
    VERSION = enum.auto()
    CAPABILITIES = enum.auto()


# -- what an option accepts ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Value:
    """A kind of option value.

    Attributes:
        parse: turns the text into the field's value; a ValueError means "not accepted", a
            ConfigError says why.
        accepts: what an error message offers instead.
        metavar: what stands for the value in the help.
    """

    parse: Callable[[str], object]
    accepts: str
    metavar: str


def _alternatives(words: Sequence[str]) -> str:
    """Join `words` as "a, b or c"."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


_Choice = TypeVar("_Choice", bound=enum.StrEnum)


def choice(
    kind: type[_Choice],
    *,
    later: Sequence[_Choice] = (),
    aliases: Mapping[str, _Choice] | None = None,
) -> Value:
    """Accept one member of an enumeration, in any case of letters.

    Args:
        kind: the enumeration.
        later: members that are refused as not available yet.
        aliases: further spellings, not offered in messages.
    """
    served = [member.value for member in kind if member not in later]

    def parse(text: str) -> _Choice:
        word = text.lower()
        member = (aliases or {}).get(word) or kind(word)
        if member in later:
            raise ConfigError("is not available yet")
        return member

    return Value(parse, _alternatives(served), "|".join(served))


def number(
    low: int, high: int | None = None, *, power_of_two: bool = False, metavar: str = "N"
) -> Value:
    """Accept a decimal number from `low` to `high`, both included."""
    if low == high:
        accepts = f"{low} for now"
    elif high is None:
        accepts = f"a number, {low} or more"
    else:
        kind = "a power of two" if power_of_two else "a number"
        accepts = f"{kind} from {low} to {high}"

    def parse(text: str) -> int:
        # int() would take "1_0", " 1" and other scripts' digits.
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise ValueError
        value = int(text)
        if value < low or (high is not None and value > high):
            raise ValueError
        if power_of_two and value & (value - 1):
            raise ValueError
        return value

    return Value(parse, accepts, metavar)


def text(accepts: str, metavar: str, max_bytes: int | None = None) -> Value:
    """Accept any text but the empty one, and no more than `max_bytes` of it as UTF-8."""

    def parse(given: str) -> str:
        size_bytes = len(given.encode(errors="surrogateescape"))
        if not given or (max_bytes is not None and size_bytes > max_bytes):
            raise ValueError
        return given

    return Value(parse, accepts, metavar)


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


# -- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row: a long option, and how the old ``-o`` spells it.

    Attributes:
        name: long name, without dashes.
        field: field of `Options` that it sets.
        help: what it does, without the default.
        value: what it accepts; None for a switch.
        sets: what a switch sets.
        legacy: word after ``-o``, with the value if it takes one; "" if there is none.
        legacy_no: the word after ``-o`` that sets the opposite of a switch.
        repeats: whether uses add up; else a later one overrides.
        default: the default in words, where the field's own does not say it.
    """

    name: str
    field: str
    help: str = ""
    value: Value | None = None
    sets: bool = True
    legacy: str = ""
    legacy_no: str = ""
    repeats: bool = False
    default: str = ""


_TRANSLATION = Value(
    idmap.parse_translation, "a translation such as map:0:100000:65536", "KIND:FROM:TO:COUNT"
)
_NAMESPACE_RANGE = Value(
    idmap.parse_namespace_range, "a range such as :0:100000:65536:", ":INSIDE:OUTSIDE:COUNT:"
)

# The last byte of sockaddr_un's path is its NUL: unix(7).
SOCKET = text("a path of 1 to 107 bytes", "PATH", max_bytes=107)


def _watch_socket(given: str) -> object:
    return "" if given == "none" else SOCKET.parse(given)


OPTIONS: Final[Mapping[str, tuple[Option, ...]]] = {
    "Share and connection": (
        Option(
            name="shared-dir",
            field="shared_dir",
            value=text("the path of a directory or plain file", "PATH"),
            help="directory, or plain file, to share; required",
            legacy="source",
        ),
        Option(
            name="socket-path",
            field="socket_path",
            value=SOCKET,
            help="vhost-user socket to create; this or --fd is required",
        ),
        Option(name="socket", field="socket_path", value=SOCKET, help="the same [deprecated]"),
        Option(
            name="fd",
            field="fd",
            value=number(0, 2**31 - 1),
            help="serve on this inherited, listening descriptor",
        ),
        Option(
            name="socket-group",
            field="socket_group",
            value=text("the name of a group", "GROUP"),
            help="group that may connect to the socket",
            default="its owner only",
        ),
        Option(
            name="tag",
            field="tag",
            value=text(f"1 to {TAG_MAX_BYTES} bytes", "TAG", max_bytes=TAG_MAX_BYTES),
            help="mount tag to offer to front-ends that leave it to the daemon",
            default="the front-end's",
        ),
    ),
    "Queues": (
        Option(
            name="num-request-queues",
            field="num_request_queues",
            value=number(1, QUEUES_MAX),
            help="request queues to offer, each with a thread of its own",
        ),
        Option(
            name="thread-pool-size",
            field="thread_pool_size",
            value=number(0, POOL_MAX),
            help="threads for each request queue, so that a slow request holds up no other; 0 is "
            "one thread, the fastest where nothing is slow",
        ),
        Option(
            name="poll-us",
            field="poll_us",
            value=number(0, POLL_US_MAX),
            help="look for the next request for up to this many microseconds before sleeping, as "
            "long as that pays; 0 sleeps at once, more than 20 answers sooner for more processor "
            "time; not with a pool",
        ),
    ),
    "Filesystem": (
        Option(
            name="cache",
            field="cache",
            value=choice(Cache, aliases={"none": Cache.NEVER}),
            help="what the guest may cache: attributes and names for 1 s (auto), everything for a "
            "day (always), all but data for a day (metadata), nothing (never)",
            legacy="cache",
        ),
        Option(
            name="no-readdirplus",
            field="readdirplus",
            sets=False,
            help="list directories without the attributes of their entries",
            legacy="no_readdirplus",
            legacy_no="readdirplus",
        ),
        Option(
            name="writeback",
            field="writeback",
            help="let the guest hold writes back in its cache; a stock kernel then misses what the "
            "host does to files it knows (docs/limits.md)",
            legacy="writeback",
            legacy_no="no_writeback",
        ),
        Option(
            name="allow-mmap",
            field="allow_mmap",
            help="let the guest map files shared that it does not cache",
        ),
        Option(
            name="allow-direct-io",
            field="allow_direct_io",
            help="let the guest's O_DIRECT reach the host",
            legacy="allow_direct_io",
            legacy_no="no_allow_direct_io",
        ),
        Option(
            name="preserve-noatime",
            field="preserve_noatime",
            help="let the guest's O_NOATIME reach the host; without it that does nothing",
        ),
        Option(
            name="allow-project-ids",
            field="allow_project_ids",
            help="let the guest change project ids, and with them the host's limits on space",
        ),
        Option(
            name="readonly",
            field="readonly",
            help="keep the guest from changing anything",
        ),
        Option(
            name="killpriv-v2",
            field="killpriv_v2",
            help="clear set-user-id and set-group-id bits for the guest",
            legacy="killpriv_v2",
            legacy_no="no_killpriv_v2",
        ),
        Option(
            name="no-killpriv-v2",
            field="killpriv_v2",
            sets=False,
            help="leave them to the guest (default)",
        ),
        Option(
            name="announce-submounts",
            field="announce_submounts",
            help="show mounts below the share as mounts in the guest (default)",
            legacy="announce_submounts",
        ),
        Option(
            name="no-announce-submounts",
            field="announce_submounts",
            sets=False,
            help="show them as plain directories, for overlays with a mount in a lower layer, say; "
            "inode numbers of other filesystems than the share's are made to differ then",
        ),
        Option(
            name="inode-file-handles",
            field="inode_file_handles",
            value=choice(FileHandles, aliases={"fallback": FileHandles.PREFER}),
            help="hold inodes by file handle, which takes no descriptor and finds again what the "
            "guest has forgotten when it opens a handle of its own",
        ),
    ),
    "Extended attributes and ids": (
        Option(
            name="xattr",
            field="xattr",
            help="let the guest have extended attributes",
            legacy="xattr",
            legacy_no="no_xattr",
        ),
        Option(
            name="xattrmap",
            field="xattrmap",
            value=Value(xattrmap.parse, "rules such as :map::user.virtiofs.:", "RULES"),
            help="translate names of extended attributes by these rules; implies --xattr",
            legacy="xattrmap",
            default="names pass as they are, but trusted.*",
        ),
        Option(
            name="posix-acl",
            field="posix_acl",
            help="let the guest have POSIX access control lists; implies --xattr",
            legacy="posix_acl",
            legacy_no="no_posix_acl",
        ),
        Option(
            name="security-label",
            field="security_label",
            help="give new files the label that the guest wants; implies --xattr",
            legacy="security_label",
            legacy_no="no_security_label",
        ),
        Option(
            name="translate-uid",
            field="translate_uid",
            value=_TRANSLATION,
            repeats=True,
            help="translate user ids between guest and host; KIND is "
            f"{_alternatives([*idmap.Kind])}, the last without TO; repeatable",
            default="ids pass as they are",
        ),
        Option(
            name="translate-gid",
            field="translate_gid",
            value=_TRANSLATION,
            repeats=True,
            help="the same for group ids",
            default="ids pass as they are",
        ),
    ),
    "Remote fsnotify": (
        Option(
            name="fsnotify",
            field="fsnotify",
            value=choice(Fsnotify),
            help="host changes reach inotify and fanotify in the guest beside its own (merged), "
            "or do not (off)",
        ),
        Option(
            name="fsnotify-dialect",
            field="fsnotify_dialect",
            value=choice(FsnotifyDialect),
            help="protocol that the guest's kernel speaks: ours (native), or that of the kernel "
            "series of 2021 (rfc2021), in which all changes are reported by the daemon",
        ),
        Option(
            name="fsnotify-max-watches",
            field="fsnotify_max_watches",
            value=number(0),
            help="host watches a guest may cause before it gets ENOSPC, if the host lets it; "
            "0 is a quarter of what the host allows (fs.fanotify.max_user_marks, in server mode "
            "fs.inotify.max_user_watches)",
        ),
        Option(
            name="fsnotify-ring-kib",
            field="fsnotify_ring_kib",
            value=number(RING_KIB_MIN, RING_KIB_MAX, power_of_two=True),
            help="size in KiB of the ring of events waiting for a guest",
        ),
        Option(
            name="guest-agent",
            field="guest_agent",
            value=choice(GuestAgent),
            help="offer host changes to virtiofsd-agent in guests with a stock kernel",
        ),
        Option(
            name="watch-socket",
            field="watch_socket",
            value=Value(_watch_socket, "a path of 1 to 107 bytes, or none", "PATH"),
            help=f"socket for '{PROGRAM} watch', which shows what happens in the share; none: no "
            "such socket",
            default="the vhost-user socket's path and .watch; with --fd none",
        ),
    ),
    "Security and limits": (
        Option(
            name="sandbox",
            field="sandbox",
            value=choice(Sandbox),
            help="isolation of the daemon",
            legacy="sandbox",
        ),
        Option(
            name="uid-map",
            field="uid_map",
            value=_NAMESPACE_RANGE,
            repeats=True,
            help="user ids of the namespace sandbox of another user than root, by newuidmap; "
            "repeatable",
            default="one's own",
        ),
        Option(
            name="gid-map",
            field="gid_map",
            value=_NAMESPACE_RANGE,
            repeats=True,
            help="the same for group ids, by newgidmap",
            default="one's own",
        ),
        Option(
            name="seccomp",
            field="seccomp",
            value=choice(Seccomp),
            help="what a system call leads to that the daemon never needs",
        ),
        Option(
            name="modcaps",
            field="modcaps",
            value=Value(_capability_changes, "changes such as +sys_admin:-mknod", "+NAME:-NAME"),
            help="keep or drop further capabilities",
            legacy="modcaps",
            default="none",
        ),
        Option(
            name="rlimit-nofile",
            field="rlimit_nofile",
            value=number(0),
            help="descriptor limit to set; 0 leaves it",
            default="1000000 or, if less, fs.nr_open or seven eighths of fs.file-max",
        ),
    ),
    "Migration": (
        Option(
            name="migration-mode",
            field="migration_mode",
            value=choice(MigrationMode),
            help="what inodes are found by; handles are opened only where asked for",
        ),
        Option(
            name="migration-on-error",
            field="migration_on_error",
            value=choice(MigrationOnError),
            help="one that is lost stops the migration, or fails in the guest",
        ),
        Option(
            name="migration-verify-handles",
            field="migration_verify_handles",
            help="the target compares file handles of what it finds",
        ),
        Option(
            name="migration-confirm-paths",
            field="migration_confirm_paths",
            help="the source looks up the paths that it tells",
        ),
    ),
    "Log": (
        Option(
            name="log-level",
            field="log_level",
            value=choice(LogLevel, aliases={"err": LogLevel.ERROR}),
            help="the least severe line to log",
            legacy="loglevel",
        ),
        Option(
            name="syslog",
            field="syslog",
            help="log to syslog instead of standard error",
        ),
    ),
}

# Words after -o that older callers pass and that change nothing.
_LEGACY_IGNORED: Final = frozenset({"no_posix_lock", "no_flock"})


# -- reading the command line --------------------------------------------------------------------


def _see(candidates: Sequence[str], unknown: str) -> str:
    """Point to the likeliest of `candidates`, or to the help."""
    import difflib

    near = difflib.get_close_matches(unknown, candidates, n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else f"see {PROGRAM} --help"


def _parse_value(option: Option, given: str, spelling: str) -> object:
    """Return what `given` means for `option`, or raise a ConfigError that names `spelling`."""
    assert option.value is not None
    try:
        return option.value.parse(given)
    except ConfigError as error:
        reason = str(error)
    except ValueError:
        reason = "is not accepted"
    raise ConfigError(f"{spelling}: {given!r} {reason}; use {option.value.accepts}")


def _keep(namespace: argparse.Namespace, option: Option, value: object) -> None:
    """Note a parsed value: as the only one, or behind those before it."""
    if option.repeats:
        value = (*getattr(namespace, option.field, ()), value)
    setattr(namespace, option.field, value)


class _Set(argparse.Action):
    """Keep one option's value; a later one overrides."""

    def __init__(self, option_strings: Sequence[str], dest: str, option: Option) -> None:
        value = option.value
        help_text = option.help + _default_text(option)
        super().__init__(
            option_strings,
            dest,
            nargs=None if value else 0,
            default=argparse.SUPPRESS,
            metavar=value.metavar if value else None,
            help=help_text.replace("%", "%%"),
        )
        self.option = option

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if self.option.value is None:
            setattr(namespace, self.dest, self.option.sets)
        else:
            spelling = option_string or f"--{self.option.name}"
            _keep(namespace, self.option, _parse_value(self.option, str(values), spelling))


class _SetLegacy(argparse.Action):
    """Take ``-o word,key=value``, the manner of the C daemon."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        for item in str(values).split(","):
            word, equals, given = item.partition("=")
            if item in _LEGACY_IGNORED:
                continue
            option, sets = _LEGACY.get(word, (None, False))
            if option is None:
                raise ConfigError(f"-o {word}: unknown option; {_see([*_LEGACY], word)}")
            if option.value is not None:
                if not equals:
                    raise ConfigError(f"-o {word}: needs a value; use {option.value.accepts}")
                _keep(namespace, option, _parse_value(option, given, f"-o {word}"))
            elif equals:
                raise ConfigError(f"-o {word}: takes no value")
            else:
                setattr(namespace, option.field, sets)


class _Ask(argparse.Action):
    """Leave the command line at a question: what comes after it does not matter."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        raise _AskedError(self.const)


class _AskedError(Exception):
    """Carries a `Query` out of argparse."""

    def __init__(self, query: Query) -> None:
        super().__init__(query)
        self.query = query


class _Parser(argparse.ArgumentParser):
    """argparse without its printing and exiting."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _default_text(option: Option) -> str:
    """Return " (default: …)" for the help, or nothing for switches and required options."""
    if option.value is None or option.name == "socket":
        return ""
    default = option.default or _DEFAULTS[option.field]
    return "" if default in (None, MISSING) else f" (default: {default})"


def _build_parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} --shared-dir PATH --socket-path PATH [OPTION ...]",
        description="Share a host directory with a guest by virtio-fs; host changes reach inotify "
        f"in the guest. To see what happens in a share: {PROGRAM} watch --help.",
        epilog="An option given twice counts as given last. Exit status: 0 when the front-end has "
        "gone, 1 when serving failed, 2 for a wrong command line.",
        # The page does not depend on the terminal it is read in.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28, width=96),
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for option in options:
            group.add_argument(f"--{option.name}", action=_Set, dest=option.field, option=option)
    questions = parser.add_argument_group("Questions")
    for names, query, answer in (
        (("-h", "--help"), Query.HELP, "this page"),
        (("-V", "--version"), Query.VERSION, "the version"),
        (("--print-capabilities",), Query.CAPABILITIES, "what management tools ask, as JSON"),
    ):
        questions.add_argument(*names, action=_Ask, nargs=0, const=query, dest="ask", help=answer)
    old = parser.add_argument_group("For callers of older daemons [deprecated]")
    old.add_argument(
        "-o",
        action=_SetLegacy,
        dest="legacy",
        metavar="NAME[=VALUE],...",
        help=f"options in the old manner: {', '.join(_legacy_words())}",
    )
    old.add_argument(
        "-d",
        action="store_const",
        dest="log_level",
        const=LogLevel.DEBUG,
        default=argparse.SUPPRESS,
        help="the same as --log-level debug",
    )
    old.add_argument("-f", action="store_true", dest="foreground", help="no effect")
    return parser


def _legacy_words() -> list[str]:
    """Return what ``-o`` takes, as the help shows it."""
    words = [word + ("=" if option.value else "") for word, (option, _) in _LEGACY.items()]
    return [*words, *sorted(_LEGACY_IGNORED)]


def help_text() -> str:
    """Return the help page, ending in a newline."""
    return _build_parser().format_help()


def parse(argv: Sequence[str]) -> Options | Query:
    """Read a command line.

    Args:
        argv: arguments without the program's name.

    Returns:
        The options to serve with, or the question to answer instead.

    Raises:
        ConfigError: an option is unknown, incomplete, refused, or in conflict with another one.
    """
    parser = _build_parser()
    try:
        found, unknown = parser.parse_known_args(argv)
    except _AskedError as asked:
        return asked.query
    except argparse.ArgumentError as error:
        raise ConfigError(_arity_message(str(error.argument_name))) from None
    if unknown:
        raise ConfigError(_unknown_message(unknown[0]))
    given: dict[str, Any] = {
        name: value for name, value in vars(found).items() if name in _DEFAULTS
    }
    _check_together(given)
    if given.get("cache") is Cache.NEVER:
        given["readdirplus"] = False
    if any(given.get(name) for name in ("xattrmap", "posix_acl", "security_label")):
        given["xattr"] = True
    return Options(**given)


def _check_together(given: Mapping[str, object]) -> None:
    """Refuse what is missing or in conflict; raises ConfigError."""
    if "shared_dir" not in given:
        raise ConfigError("--shared-dir: missing; name the directory to share")
    if "socket_path" not in given and "fd" not in given:
        raise ConfigError("--socket-path: missing; name the socket to create, or use --fd")
    for other in ("socket_path", "socket_group"):
        if "fd" in given and other in given:
            raise ConfigError(f"--fd: cannot be used with --{other.replace('_', '-')}")
    for name in ("uid_map", "gid_map"):
        if name in given and given.get("sandbox", Sandbox.NAMESPACE) is not Sandbox.NAMESPACE:
            raise ConfigError(f"--{name.replace('_', '-')}: only with --sandbox=namespace")
    for name in ("translate_uid", "translate_gid"):
        if given.get("posix_acl") and name in given:
            raise ConfigError(f"--posix-acl: cannot be used with --{name.replace('_', '-')}")
    if given.get("guest_agent") is GuestAgent.ON:
        if given.get("fsnotify", Fsnotify.MERGED) is not Fsnotify.MERGED:
            raise ConfigError("--guest-agent: only with --fsnotify=merged")
        if given.get("fsnotify_dialect") is FsnotifyDialect.RFC2021:
            raise ConfigError("--guest-agent: only with --fsnotify-dialect=native")
    for name, check in _WHOLE_CHECKS.items():
        try:
            check(given.get(name, ()))
        except ConfigError as error:
            raise ConfigError(f"--{name.replace('_', '-')}: {error}") from None


def _arity_message(spellings: str) -> str:
    """Say what argparse found wrong with an option given without, or with, a value."""
    name = spellings.rpartition("/")[2]
    value = next((o.value for o in _ALL if f"--{o.name}" == name), None)
    if name == "-o":
        return f"-o: needs a value; see {PROGRAM} --help"
    return f"{name}: needs a value; use {value.accepts}" if value else f"{name}: takes no value"


def _unknown_message(argument: str) -> str:
    name = argument.partition("=")[0]
    if not name.startswith("-") or name == "--":
        return f"{argument!r}: unexpected argument; see {PROGRAM} --help"
    return f"{name}: unknown option; {_see([f'--{option.name}' for option in _ALL], name)}"


# What only shows when all uses of a repeatable option are known.
_WHOLE_CHECKS: Final[Mapping[str, Callable[[Any], object]]] = {
    "translate_uid": idmap.compile_table,
    "translate_gid": idmap.compile_table,
    "uid_map": idmap.check_namespace,
    "gid_map": idmap.check_namespace,
}
_ALL: Final = tuple(option for options in OPTIONS.values() for option in options)
_DEFAULTS: Final = {field.name: field.default for field in fields(Options)}
_LEGACY: Final = {
    word: (option, sets)
    for option in _ALL
    for word, sets in ((option.legacy, option.sets), (option.legacy_no, not option.sets))
    if word
}
