# SPDX-License-Identifier: BSD-3-Clause
"""Reads a command line by the table that `Options` is.

Nothing here prints or exits: a wrong command line is a `ConfigError` of one line, and a question
(--help, --version, --print-capabilities) is a `Query` for the caller to answer.
"""

from __future__ import annotations

import argparse
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Final, NoReturn

from virtiofsd_py import idmap
from virtiofsd_py.errors import ConfigError
from virtiofsd_py.option_rows import Option, table_of
from virtiofsd_py.options import PROGRAM, Cache, LogLevel, Options, Sandbox

# What a management tool may rely on; the installed 50-virtiofsd-py.json says the same.
# Spec: QEMU docs/interop/vhost-user.json, "VHostUserBackendCapabilities".
CAPABILITIES: Final[Mapping[str, object]] = {
    "type": "fs",
    "features": ["migrate-precopy", "separate-options"],
}


class Query(enum.Enum):
    """A question that the command answers instead of serving."""

    HELP = enum.auto()
    VERSION = enum.auto()
    CAPABILITIES = enum.auto()


OPTIONS: Final[Mapping[str, tuple[Option, ...]]] = table_of(Options)

# Words after -o that callers of the C daemon pass and that change nothing, as -f does: locks of a
# guest stay its own.
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
        help=f"options in the old manner: {', '.join(_legacy_words())}; no_flock and "
        "no_posix_lock have no effect",
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
