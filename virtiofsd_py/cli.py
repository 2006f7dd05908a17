# SPDX-License-Identifier: BSD-3-Clause
"""The command ``virtiofsd-py``: the only place that prints, configures logging, or sets a status.

The daemon is imported after the command line is read, so that questions and mistakes are answered
at once, and without the extension.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from virtiofsd_py import __version__, arguments, systemlog, watch
from virtiofsd_py.arguments import Query
from virtiofsd_py.errors import ConfigError, VirtiofsdError
from virtiofsd_py.options import PROGRAM, LogLevel, Options

if TYPE_CHECKING:
    from virtiofsd_py.fuse import Handlers

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

# One below DEBUG: `logging` has no name for it.
TRACE = 5
_LEVELS = {
    LogLevel.ERROR: logging.ERROR,
    LogLevel.WARN: logging.WARNING,
    LogLevel.INFO: logging.INFO,
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.TRACE: TRACE,
    LogLevel.OFF: logging.CRITICAL + 1,
}
_LEVEL_NAMES = {level: str(name) for name, level in _LEVELS.items()} | {logging.CRITICAL: "error"}


def main(argv: Sequence[str] | None = None, extensions: Handlers | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes the process's own.
        extensions: opcodes that Python serves, for a command of one's own: see
            `virtiofsd_py.fuse`.

    Returns:
        The exit status: 0, 1 if serving failed, 2 if the command line is wrong, 130 if interrupted.
    """
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == [watch.COMMAND]:
        return _watch(given[1:])
    if given[:1] == ["bench"]:
        from virtiofsd_py.bench import command

        return command.main(given[1:])
    try:
        parsed = arguments.parse(given)
    except ConfigError as error:
        _complain(str(error))
        return EXIT_USAGE
    if isinstance(parsed, Query):
        _answer(parsed)
        return EXIT_OK
    _configure_logging(parsed)
    return _serve(parsed, extensions)


def _serve(parsed: Options, extensions: Handlers | None) -> int:
    """Run the daemon; a failure it foresees becomes one line and a status."""
    try:
        from virtiofsd_py import daemon

        return daemon.run(parsed, extensions)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except ConfigError as error:
        _complain(str(error))
        return EXIT_USAGE
    except VirtiofsdError as error:
        return _fail(error, str(error))
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return _fail(error, named)


def _watch(given: Sequence[str]) -> int:
    """Run ``virtiofsd-py watch``."""
    try:
        parsed = watch.parse(given)
        if parsed is None:
            sys.stdout.write(watch.help_text())
            return EXIT_OK
        for line in watch.run(parsed):
            sys.stdout.write(_one_line(line) + "\n")
            sys.stdout.flush()
    except ConfigError as error:
        _complain(str(error))
        return EXIT_USAGE
    except BrokenPipeError:
        # Whoever read it has seen enough; nor can the interpreter write what it still holds.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except VirtiofsdError as error:
        return _fail(error, str(error))
    return EXIT_OK


def _fail(error: Exception, cause: str) -> int:
    logging.getLogger(__name__).debug("event=failed", exc_info=error)
    _complain(cause)
    return EXIT_FAILED


def _answer(question: Query) -> None:
    if question is Query.HELP:
        text = arguments.help_text()
    elif question is Query.VERSION:
        text = f"{PROGRAM} {__version__}\n"
    else:
        import json

        text = json.dumps(arguments.CAPABILITIES, indent=2) + "\n"
    sys.stdout.write(text)


def _complain(cause: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {_one_line(cause)}\n")


def _one_line(message: str) -> str:
    """Escape what would let a name with odd characters forge a line or drive a terminal."""
    if message.isprintable():
        return message
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)


class _KeyValueFormatter(logging.Formatter):
    """``time=… level=… module=…`` and the record's own pairs, on one line; tracebacks follow it."""

    def __init__(self, *, timed: bool) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        level = _LEVEL_NAMES.get(record.levelno, record.levelname.lower())
        module = record.name.removeprefix("virtiofsd_py.")
        line = f"level={level} module={module} {_one_line(record.getMessage())}"
        if self._timed:
            seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            line = f"time={seconds}.{int(record.msecs):03d}Z {line}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _SyslogHandler(logging.Handler):
    """Writes to the system log through the C library, connected before we are locked in."""

    def __init__(self) -> None:
        import syslog

        super().__init__()
        self._write = syslog.syslog
        self._priorities = (
            (logging.ERROR, syslog.LOG_ERR),
            (logging.WARNING, syslog.LOG_WARNING),
            (logging.INFO, syslog.LOG_INFO),
        )
        self._lowest = syslog.LOG_DEBUG
        systemlog.connect()

    def emit(self, record: logging.LogRecord) -> None:
        priority = next(
            (p for level, p in self._priorities if record.levelno >= level), self._lowest
        )
        try:
            for line in self.format(record).splitlines():
                self._write(priority, line)
        except Exception:
            self.handleError(record)


def _configure_logging(parsed: Options) -> None:
    """Send this package's log to standard error or syslog, from the level asked for."""
    handler: logging.Handler = _SyslogHandler() if parsed.syslog else logging.StreamHandler()
    handler.setFormatter(_KeyValueFormatter(timed=not parsed.syslog))
    logging.addLevelName(TRACE, "TRACE")
    logging.raiseExceptions = False  # a closed standard error must not end in tracebacks
    log = logging.getLogger("virtiofsd_py")
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(_LEVELS[parsed.log_level])
