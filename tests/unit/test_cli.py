# SPDX-License-Identifier: BSD-3-Clause
"""The command: what it prints where, its status, and its log."""

from __future__ import annotations

import errno
import json
import logging
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import virtiofsd_py
from virtiofsd_py import cli
from virtiofsd_py.arguments import CAPABILITIES
from virtiofsd_py.errors import EngineError, StartError
from virtiofsd_py.options import LogLevel, Options

REQUIRED = ["--shared-dir", "/share", "--socket-path", "/run/fs.sock"]
ROOT = Path(__file__).resolve().parents[2]

Run = Callable[[Options], int]
SetRun = Callable[[Run], None]


@pytest.fixture(autouse=True)
def log_restored() -> Iterator[None]:
    """Undo what the command does to logging."""
    log = logging.getLogger("virtiofsd_py")
    before = (log.handlers[:], log.propagate, log.level, logging.raiseExceptions)
    yield
    log.handlers[:], log.propagate, level, logging.raiseExceptions = before
    log.setLevel(level)


@pytest.fixture
def daemon_runs(monkeypatch: pytest.MonkeyPatch) -> SetRun:
    """Give the command a daemon that is one function."""

    def set_run(run: Run) -> None:
        module = types.ModuleType("virtiofsd_py.daemon")
        vars(module)["run"] = lambda options, _extensions: run(options)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(virtiofsd_py, "daemon", module, raising=False)

    return set_run


def raising(error: BaseException) -> Run:
    """Return a daemon that ends by `error`."""

    def run(options: Options) -> int:
        raise error

    return run


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([flag]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: virtiofsd-py ")
    assert err == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr() == (f"virtiofsd-py {virtiofsd_py.__version__}\n", "")


def test_version_is_the_package_s() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{virtiofsd_py.__version__}"' in text


def test_capabilities_are_those_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--print-capabilities"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == CAPABILITIES
    installed = json.loads((ROOT / "virtiofsd_py/50-virtiofsd-py.json.in").read_text())
    assert {key: installed[key] for key in ("type", "features")} == CAPABILITIES
    assert installed.keys() == {"description", "type", "binary", "features"}


def test_wrong_option_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--cache", "foo"]) == 2
    assert capsys.readouterr() == (
        "",
        "virtiofsd-py: --cache: 'foo' is not accepted; use auto, always, metadata or never\n",
    )


def test_daemon_gets_the_options_and_gives_the_status(daemon_runs: SetRun) -> None:
    seen: list[Options] = []

    def run(options: Options) -> int:
        seen.append(options)
        return 7

    daemon_runs(run)
    assert cli.main([*REQUIRED, "--readonly"]) == 7
    assert seen == [Options(shared_dir="/share", socket_path="/run/fs.sock", readonly=True)]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StartError("/share: not a directory"), "/share: not a directory"),
        (EngineError(errno.ENOSPC, "fanotify_mark"), "fanotify_mark: No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/share"), "/share: No such file"),
        (OSError("odd"), "odd"),
        (StartError("/a\nb\x1b[2J: gone"), r"/a\nb\x1b[2J: gone"),
        (StartError("/ä\udcff"), r"/ä\udcff"),
    ],
)
def test_failure_is_one_line_and_status_1(
    daemon_runs: SetRun, capsys: pytest.CaptureFixture[str], error: Exception, line: str
) -> None:
    daemon_runs(raising(error))
    assert cli.main(REQUIRED) == 1
    assert capsys.readouterr() == ("", f"virtiofsd-py: {line}\n")


def test_a_bug_is_not_hidden(daemon_runs: SetRun) -> None:
    daemon_runs(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(REQUIRED)


def test_interrupt_is_status_130(daemon_runs: SetRun, capsys: pytest.CaptureFixture[str]) -> None:
    daemon_runs(raising(KeyboardInterrupt()))
    assert cli.main(REQUIRED) == 130
    assert capsys.readouterr() == ("", "")


def speak(options: Options) -> int:
    """Log one line of each level."""
    log = logging.getLogger("virtiofsd_py.engine")
    for level in (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG, cli.TRACE):
        log.log(level, "event=%s name=%s", "spoke", "a\nb")
    return 0


@pytest.mark.parametrize(
    ("wanted", "levels"),
    [
        (LogLevel.OFF, []),
        (LogLevel.ERROR, ["error"]),
        (LogLevel.WARN, ["error", "warn"]),
        (LogLevel.INFO, ["error", "warn", "info"]),
        (LogLevel.DEBUG, ["error", "warn", "info", "debug"]),
        (LogLevel.TRACE, ["error", "warn", "info", "debug", "trace"]),
    ],
)
def test_log_lines(
    daemon_runs: SetRun, capsys: pytest.CaptureFixture[str], wanted: LogLevel, levels: list[str]
) -> None:
    daemon_runs(speak)
    assert cli.main([*REQUIRED, "--log-level", wanted]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    pattern = r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(\w+) module=engine (.*)"
    lines = [re.fullmatch(pattern, line) for line in err.splitlines()]
    assert all(lines)
    assert [line[1] for line in lines if line] == levels
    assert {line[2] for line in lines if line} <= {r"event=spoke name=a\nb"}


def test_syslog_takes_the_log_off_standard_error(
    daemon_runs: SetRun, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import syslog

    written: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "openlog", lambda *_: None)
    monkeypatch.setattr(syslog, "syslog", lambda priority, line: written.append((priority, line)))
    daemon_runs(speak)
    assert cli.main([*REQUIRED, "--syslog", "--log-level=trace"]) == 0
    assert capsys.readouterr() == ("", "")
    assert [priority for priority, _ in written] == [
        syslog.LOG_ERR,
        syslog.LOG_WARNING,
        syslog.LOG_INFO,
        syslog.LOG_DEBUG,
        syslog.LOG_DEBUG,
    ]
    assert written[0][1] == r"level=error module=engine event=spoke name=a\nb"


def test_questions_and_mistakes_need_neither_daemon_nor_extension() -> None:
    script = (
        "import sys; from virtiofsd_py import cli; "
        "status = [cli.main(['--help']), cli.main(['--nonsense'])]; "
        "late = {'virtiofsd_py.daemon', 'virtiofsd_py._native', 'cffi', '_cffi_backend'}; "
        "sys.exit(repr((status, late & sys.modules.keys())))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "([0, 2], set())"


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "virtiofsd_py", "-V"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"virtiofsd-py {virtiofsd_py.__version__}\n",
        "",
    )
