# SPDX-License-Identifier: BSD-3-Clause
"""The command line becomes one `Options`, or one line that names what is wrong."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtiofsd_py.arguments import OPTIONS, Query, help_text, parse
from virtiofsd_py.errors import ConfigError
from virtiofsd_py.idmap import Kind, NamespaceRange, Translation
from virtiofsd_py.option_rows import Option
from virtiofsd_py.options import (
    CAPABILITY_NAMES,
    POLL_US_MAX,
    POOL_MAX,
    QUEUES_MAX,
    RING_KIB_MAX,
    RING_KIB_MIN,
    TAG_MAX_BYTES,
    Cache,
    CapabilityChange,
    FileHandles,
    Fsnotify,
    FsnotifyDialect,
    LogLevel,
    MigrationMode,
    MigrationOnError,
    Options,
    Sandbox,
    Seccomp,
)
from virtiofsd_py.xattrmap import Rule, Scope, Type

ALL = [option for options in OPTIONS.values() for option in options]
REQUIRED = ["--shared-dir", "/share", "--socket-path", "/run/fs.sock"]
WORDS = st.text(string.ascii_letters + string.digits + "-_.:/", min_size=1, max_size=30)


def options(*argv: str) -> Options:
    """Return what REQUIRED and `argv` mean."""
    parsed = parse([*REQUIRED, *argv])
    assert isinstance(parsed, Options)
    return parsed


def refusal(*argv: str) -> str:
    """Return what the ConfigError for REQUIRED and `argv` says."""
    with pytest.raises(ConfigError) as caught:
        parse([*REQUIRED, *argv])
    return str(caught.value)


def test_defaults() -> None:
    assert options() == Options(shared_dir="/share", socket_path="/run/fs.sock")
    assert options().sandbox is Sandbox.NAMESPACE
    assert options().fsnotify is Fsnotify.MERGED


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        options().readonly = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--socket", "/old"], "socket_path", "/old"),
        (["--socket-group", "kvm"], "socket_group", "kvm"),
        (["--tag", "myfs"], "tag", "myfs"),
        (["--tag=-dash"], "tag", "-dash"),
        (["--thread-pool-size", "0"], "thread_pool_size", 0),
        (["--thread-pool-size", "64"], "thread_pool_size", 64),
        (["--num-request-queues", "4"], "num_request_queues", 4),
        (["--cache", "always"], "cache", Cache.ALWAYS),
        (["--cache=NEVER"], "cache", Cache.NEVER),
        (["--cache", "none"], "cache", Cache.NEVER),
        (["--cache=never"], "readdirplus", False),
        (["--no-readdirplus"], "readdirplus", False),
        (["--writeback"], "writeback", True),
        (["-o", "writeback"], "writeback", True),
        (["--writeback", "-o", "no_writeback"], "writeback", False),
        (["--allow-mmap"], "allow_mmap", True),
        (["--killpriv-v2"], "killpriv_v2", True),
        (["--killpriv-v2", "--no-killpriv-v2"], "killpriv_v2", False),
        (["-o", "no_killpriv_v2,killpriv_v2"], "killpriv_v2", True),
        (["--xattr"], "xattr", True),
        (["--xattr", "-ono_xattr"], "xattr", False),
        (["--posix-acl"], "posix_acl", True),
        (["--posix-acl", "-ono_xattr"], "xattr", True),
        (["-oposix_acl,no_posix_acl"], "xattr", False),
        (["--security-label"], "security_label", True),
        (["-osecurity_label"], "xattr", True),
        (["--xattrmap=:ok:all:::"], "xattrmap", (Rule(Type.OK, Scope.ALL, b"", b""),)),
        (["-oxattrmap=:ok:all:::"], "xattr", True),
        (
            ["--translate-uid=map:0:7:1", "--translate-uid", "forbid-guest:5:2"],
            "translate_uid",
            (Translation(Kind.MAP, 0, 7, 1), Translation(Kind.FORBID_GUEST, 5, 0, 2)),
        ),
        (["--translate-gid=host:1:2:3"], "translate_gid", (Translation(Kind.HOST, 1, 2, 3),)),
        (
            ["--uid-map=:0:1000:1:", "--uid-map=/1/100000/65535/"],
            "uid_map",
            (NamespaceRange(0, 1000, 1), NamespaceRange(1, 100000, 65535)),
        ),
        (["--gid-map=:0:1000:1:"], "gid_map", (NamespaceRange(0, 1000, 1),)),
        (["--seccomp=trap"], "seccomp", Seccomp.TRAP),
        (["--seccomp=none", "--seccomp=log"], "seccomp", Seccomp.LOG),
        (
            ["--modcaps=+sys_admin:-CAP_MKNOD"],
            "modcaps",
            (CapabilityChange("sys_admin", True), CapabilityChange("mknod", False)),
        ),
        (["--modcaps=+kill", "-omodcaps=-chown"], "modcaps", (CapabilityChange("chown", False),)),
        (["--migration-mode=file-handles"], "migration_mode", MigrationMode.FILE_HANDLES),
        (["--migration-on-error=guest-error"], "migration_on_error", MigrationOnError.GUEST_ERROR),
        (["--migration-verify-handles"], "migration_verify_handles", True),
        (["--migration-confirm-paths"], "migration_confirm_paths", True),
        (["-osandbox=chroot"], "sandbox", Sandbox.CHROOT),
        (["--allow-direct-io"], "allow_direct_io", True),
        (["--preserve-noatime"], "preserve_noatime", True),
        (["--allow-project-ids"], "allow_project_ids", True),
        (["--readonly"], "readonly", True),
        (["--announce-submounts"], "announce_submounts", True),
        (["--no-announce-submounts"], "announce_submounts", False),
        (["--inode-file-handles=mandatory"], "inode_file_handles", FileHandles.MANDATORY),
        (["--inode-file-handles=fallback"], "inode_file_handles", FileHandles.PREFER),
        (["--sandbox", "none"], "sandbox", Sandbox.NONE),
        (["--rlimit-nofile", "0"], "rlimit_nofile", 0),
        (["--fsnotify=off"], "fsnotify", Fsnotify.OFF),
        (["--fsnotify-dialect=rfc2021"], "fsnotify_dialect", FsnotifyDialect.RFC2021),
        (["--fsnotify-dialect", "native"], "fsnotify_dialect", FsnotifyDialect.NATIVE),
        (["--fsnotify-max-watches", "5"], "fsnotify_max_watches", 5),
        (["--fsnotify-ring-kib", "64"], "fsnotify_ring_kib", 64),
        (["--log-level", "trace"], "log_level", LogLevel.TRACE),
        (["--syslog"], "syslog", True),
        (["-d"], "log_level", LogLevel.DEBUG),
        (["-o", "source=/other"], "shared_dir", "/other"),
        (["-o", "cache=none"], "cache", Cache.NEVER),
        (["-ocache=auto,no_readdirplus"], "readdirplus", False),
        (["-o", "no_readdirplus,readdirplus"], "readdirplus", True),
        (["-o", "allow_direct_io"], "allow_direct_io", True),
        (["-o", "loglevel=err"], "log_level", LogLevel.ERROR),
        (["--no-announce-submounts", "-o", "announce_submounts"], "announce_submounts", True),
    ],
)
def test_one_option(argv: Sequence[str], field: str, value: object) -> None:
    assert getattr(options(*argv), field) == value


def test_old_words_without_effect() -> None:
    assert options("-f", "-o", "no_posix_lock,no_flock") == options()


def test_legacy_source_is_enough() -> None:
    assert parse(["-o", "source=/s", "--fd=3"]) == Options(shared_dir="/s", fd=3)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--cache", "foo"], "--cache: 'foo' is not accepted; use auto, always, metadata or never"),
        (["--cache"], "--cache: needs a value; use auto, always, metadata or never"),
        (["-o", "cache=foo"], "-o cache: 'foo' is not accepted; use auto, always, metadata or"),
        (["-o", "cache"], "-o cache: needs a value"),
        (["-o", "readdirplus=1"], "-o readdirplus: takes no value"),
        (["-o", "xyz"], "-o xyz: unknown option"),
        (["-o"], "-o: needs a value"),
        (["--readonly=yes"], "--readonly: takes no value"),
        (["--cach", "auto"], "--cach: unknown option; did you mean --cache?"),
        (["--nonsense"], "--nonsense: unknown option; see virtiofsd-py --help"),
        (["-x"], "-x: unknown option"),
        (["stray"], "'stray': unexpected argument"),
        (["--sandbox", "jail"], "--sandbox: 'jail' is not accepted; use namespace, chroot or none"),
        (["--modcaps=chown"], "--modcaps: 'chown' has 'chown' without + or - in front (character"),
        (["--modcaps=+chown:-no"], "names no capability: 'no' (character 9); use changes such as"),
        (["--uid-map=:0:1:"], "--uid-map: ':0:1:' has 2 numbers instead of 3; use a range such as"),
        (["--xattrmap=:ok:all::"], "--xattrmap: ':ok:all::' ends within a rule: ':' is missing"),
        (["-oxattrmap=x"], "-o xattrmap: 'x' ends within a rule"),
        (
            ["--uid-map=:0:1:2:", "--uid-map=:1:9:1:"],
            "--uid-map: :0:1:2: and :1:9:1: overlap at id 1",
        ),
        (
            ["--translate-gid=map:0:1:2", "--translate-gid=squash-guest:1:5:9"],
            "--translate-gid: map:0:1:2 and squash-guest:1:5:9 overlap at id 1",
        ),
        (["--uid-map=:0:1:2:", "-osandbox=none"], "--uid-map: only with --sandbox=namespace"),
        (
            ["--posix-acl", "--translate-uid=map:0:1:2"],
            "--posix-acl: cannot be used with --translate-uid",
        ),
        (
            ["--thread-pool-size", "-1"],
            "--thread-pool-size: '-1' is not accepted; use a number from 0 to 1024",
        ),
        (["--fd", "3"], "--fd: cannot be used with --socket-path"),
        (["--socket", ""], "--socket: '' is not accepted; use a path of 1 to 107 bytes"),
        (["--socket-path", "/" + "x" * 107], "use a path of 1 to 107 bytes"),
    ],
)
def test_refusals(argv: Sequence[str], words: str) -> None:
    message = refusal(*argv)
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "--shared-dir: missing"),
        (["--shared-dir", "/s"], "--socket-path: missing; name the socket to create, or use --fd"),
        (
            ["--shared-dir", "/s", "--fd=3", "--socket-group=g"],
            "--fd: cannot be used with --socket-g",
        ),
    ],
)
def test_what_belongs_together(argv: Sequence[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(argv)


@pytest.mark.parametrize("option", ALL, ids=lambda option: option.name)
def test_no_abbreviation(option: Option) -> None:
    short = f"--{option.name[:-1]}"
    if short in {f"--{other.name}" for other in ALL}:
        pytest.skip("is an option itself")
    assert short in refusal(short, "x")


@pytest.mark.parametrize("option", ALL, ids=lambda option: option.name)
def test_help_names_every_option_and_its_default(option: Option) -> None:
    page = help_text()
    assert f"--{option.name}" in page
    assert option.help, "every row explains itself"
    field = next(f for f in dataclasses.fields(Options) if f.name == option.field)
    if option.value is not None and field.default not in (None, dataclasses.MISSING, ()):
        assert f"(default: {field.default})" in " ".join(page.split())


def test_every_field_has_an_option() -> None:
    assert {option.field for option in ALL} == {f.name for f in dataclasses.fields(Options)}


@pytest.mark.parametrize(
    ("argv", "query"),
    [
        (["-h"], Query.HELP),
        (["--help", "--nonsense"], Query.HELP),
        (["--readonly", "-V"], Query.VERSION),
        (["--print-capabilities"], Query.CAPABILITIES),
    ],
)
def test_questions_need_nothing_else(argv: Sequence[str], query: Query) -> None:
    assert parse(argv) is query


BOUNDED = [
    ("--num-request-queues", "num_request_queues", 1, QUEUES_MAX),
    ("--thread-pool-size", "thread_pool_size", 0, POOL_MAX),
    ("--poll-us", "poll_us", 0, POLL_US_MAX),
    ("--fsnotify-max-watches", "fsnotify_max_watches", 0, None),
    ("--rlimit-nofile", "rlimit_nofile", 0, None),
]


@pytest.mark.parametrize(("name", "field", "low", "high"), BOUNDED)
@given(value=st.integers(min_value=-(10**6), max_value=10**17))
def test_numbers_within_bounds(
    name: str, field: str, low: int, high: int | None, value: int
) -> None:
    if value >= low and (high is None or value <= high):
        assert getattr(options(f"{name}={value}"), field) == value
    else:
        assert refusal(f"{name}={value}").startswith(f"{name}: '{value}' is not accepted; use a ")


@given(
    value=st.one_of(st.integers(0, 2 * RING_KIB_MAX), st.sampled_from([2**n for n in range(20)]))
)
def test_ring_is_a_power_of_two(value: int) -> None:
    if RING_KIB_MIN <= value <= RING_KIB_MAX and value.bit_count() == 1:
        assert options(f"--fsnotify-ring-kib={value}").fsnotify_ring_kib == value
    else:
        assert "use a power of two from 64 to 65536" in refusal(f"--fsnotify-ring-kib={value}")


@pytest.mark.parametrize("given_text", ["1_0", " 1", "+1", "0x10", "\u0661", "1" * 19, "", "1.0"])
def test_only_plain_decimal(given_text: str) -> None:
    assert "is not accepted" in refusal(f"--fsnotify-max-watches={given_text}")


@given(tag=st.text(max_size=40))
def test_tag_is_measured_in_bytes(tag: str) -> None:
    if 1 <= len(tag.encode()) <= TAG_MAX_BYTES:
        assert options(f"--tag={tag}").tag == tag
    else:
        assert "use 1 to 36 bytes" in refusal(f"--tag={tag}")


@given(chosen=st.lists(st.sampled_from([c.value for c in Cache]), min_size=1), joined=st.booleans())
def test_the_last_one_counts(chosen: list[str], joined: bool) -> None:
    argv = [f"--cache={word}" for word in chosen]
    if not joined:
        argv = [part for word in argv for part in word.split("=")]
    assert options(*argv).cache == chosen[-1]


@given(argv=st.lists(st.one_of(WORDS, WORDS.map("--".__add__), st.text(max_size=8)), max_size=6))
def test_any_command_line_is_answered(argv: list[str]) -> None:
    """Nothing but ConfigError, of one line, ever comes out."""
    try:
        parse([*REQUIRED, *argv])
    except ConfigError as error:
        message = str(error)
    else:
        return
    assert message
    assert "\n" not in message or any("\n" in word for word in argv)


def _samples(option: Option) -> st.SearchStrategy[tuple[list[str], dict[str, Any]]]:
    """Return valid uses of `option` and what each sets."""
    if option.value is None:
        return st.just(([f"--{option.name}"], {option.field: option.sets}))
    if option.value.metavar.islower():
        words: st.SearchStrategy[str] = st.sampled_from(option.value.metavar.split("|"))
    else:
        words = SAMPLES.get(option.value.metavar, WORDS)
    parse_value = option.value.parse
    return words.map(lambda w: ([f"--{option.name}={w}"], {option.field: parse_value(w)}))


# By metavar.
SAMPLES = {
    "N": st.just("64"),
    "RULES": st.sampled_from([":map::user.x.:", ":bad:all:::"]),
    "+NAME:-NAME": st.sampled_from(CAPABILITY_NAMES).map("+{}:-kill".format),
}
USABLE = [
    option
    for option in ALL
    if option.field not in ("fd", "socket_path", "shared_dir") and not option.repeats
]


@given(uses=st.lists(st.sampled_from(USABLE).flatmap(_samples), max_size=12))
def test_any_mixture_equals_a_fold(uses: list[tuple[list[str], dict[str, Any]]]) -> None:
    expected: dict[str, Any] = {}
    for _, sets in uses:
        expected |= sets
    if expected.get("cache") is Cache.NEVER:
        expected["readdirplus"] = False
    if any(expected.get(name) for name in ("xattrmap", "posix_acl", "security_label")):
        expected["xattr"] = True
    argv = [word for words, _ in uses for word in words]
    assert options(*argv) == Options(
        **{"shared_dir": "/share", "socket_path": "/run/fs.sock", **expected}
    )
