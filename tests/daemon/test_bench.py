# SPDX-License-Identifier: BSD-3-Clause
"""`virtiofsd-py bench`: it measures our daemon, and no daemon wins by being wrong."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.daemon import running
from tests.daemon.running import Daemon

OURS = f"{running.COMMAND} --fd {{fd}} --shared-dir {{share}} --log-level warn"
QUICKLY = ("--seconds", "0.01", "--repeat", "1", "--quiet")
ROOT = Path(__file__).resolve().parents[2]
# All but those of 100 000 files.
LOADS = {
    "getattr": "GETATTR",
    "lookup": "LOOKUP, hot",
    "lookup-new": "LOOKUP and FORGET",
    "read-4k": "READ 4 KiB random",
    "write-4k": "WRITE 4 KiB random",
    "read-1m": "READ 1 MiB",
    "write-1m": "WRITE 1 MiB",
    "readdirplus-1k": "READDIRPLUS, 1 000 entries",
    "create": "CREATE…UNLINK…FORGET",
}
ALL_LOADS = [word for key in LOADS for word in ("--load", key)]


# What the project makes of it, with the installed package.
COMPARE = (sys.executable, "-B", str(ROOT / "bench/compare"))


def bench(
    *arguments: str, command: Sequence[str] = (running.COMMAND, "bench")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=running.DEADLINE_S,
        stdin=subprocess.DEVNULL,
    )


def figures(output: str, table: str) -> dict[tuple[str, str, str], list[str]]:
    """Return what a table says, by its first three columns."""
    found = {}
    rows = output[output.index(f"| {table}") :].partition("\n\n")[0].splitlines()[2:]
    for row in rows:
        what, depth, front_end, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        found[what.partition(" (")[0], depth, front_end] = cells
    return found


def test_every_load_on_two_of_ours() -> None:
    done = bench(
        *("--start", f"a={OURS}", "--start", f"b={OURS}", "--starts", "1", "--inodes", "1000"),
        *(*QUICKLY, *ALL_LOADS, "--depth", "1,32", "--front-end", "sleeping,awake"),
    )
    assert done.returncode == 0, done.stderr
    expected = set(itertools.product(LOADS.values(), ("1", "32"), ("sleeps", "awake")))
    for table in ("per second", "µs of CPU each", "p50 / p99, µs"):
        found = figures(done.stdout, table)
        assert found.keys() == expected
        for cells in found.values():
            assert not {"-", "failed"} & set(cells), found
    assert "Wrong replies" not in done.stdout


def test_goals_page_and_plot(tmp_path: Path) -> None:
    page, plot = tmp_path / "page.md", tmp_path / "plot.svg"
    page.write_text("before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n")
    done = bench(
        *("--start", f"a={OURS}", "--start", f"b={OURS}", "--starts", "1", "--age", "0"),
        *(*QUICKLY, *ALL_LOADS, "--goals-only"),
        *("--markdown", str(page), "--svg", str(plot)),
        command=COMPARE,
    )
    assert done.returncode in (0, 3), done.stderr  # it may or may not be as fast as the goals say
    measured = {row[0] for row in figures(done.stdout, "per second")}
    assert measured == set(LOADS.values()) - {"LOOKUP and FORGET"}
    assert "| GETATTR, QD 32: rate" in done.stdout
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert done.stdout in written
    assert "old" not in written
    assert ET.parse(plot).getroot().tag.endswith("svg")


def test_a_daemon_that_listens_and_several_queues(tmp_path: Path) -> None:
    with Daemon(tmp_path, "--num-request-queues=2") as daemon:
        done = bench(
            *("--socket", f"it={daemon.socket}", "--share", str(daemon.share)),
            *(*QUICKLY, *ALL_LOADS, "--depth", "4", "--queues", "2"),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert len(figures(done.stdout, "per second")) == len(LOADS)
        assert daemon.wait() == 0
        assert list(daemon.share.iterdir()) == []


@pytest.mark.parametrize(
    ("load", "opcode", "does", "complaint"),
    [
        ("getattr", "GETATTR", "raise OSError(errno.EIO, '')", "Input/output error"),
        ("getattr", "GETATTR", "return b''", "length of the reply"),
        ("getattr", "GETATTR", "os._exit(0)", "no reply: Broken pipe"),
        ("read-4k", "READ", "return b''", "length of the reply"),
        ("read-4k", "READ", "return bytes(4096)", "other data than the file's"),
        ("write-4k", "WRITE", "return bytes(8)", "less written than asked for"),
        ("readdirplus-1k", "READDIRPLUS", "return b''", "not every name, once"),
        ("create", "UNLINK", "raise OSError(errno.EROFS, '')", "Read-only file system"),
    ],
)
def test_who_answers_wrongly_does_not_win(
    tmp_path: Path, load: str, opcode: str, does: str, complaint: str
) -> None:
    script = tmp_path / "wrong.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import errno, os, sys
            from virtiofsd_py import cli
            from virtiofsd_py.fuse import Handlers
            from virtiofsd_py.fuse.wire import Opcode
            handlers = Handlers()
            @handlers.serves(Opcode.{opcode})
            def serve(request):
                {does}
            sys.exit(cli.main(extensions=handlers))
            """
        )
    )
    wrong = OURS.replace(running.COMMAND, f"{sys.executable} -P {script}", 1)
    done = bench("--start", f"wrong={wrong}", *QUICKLY, "--load", load, "--depth", "4")
    assert done.returncode == 1, done.stderr
    ((rate, ratio, _busy),) = figures(done.stdout, "per second").values()
    assert (rate, ratio) == ("failed", "-")
    assert complaint in done.stdout.partition("Wrong replies")[2]


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        ((), 1, "name a daemon by --socket or --start"),
        (("--socket", "/nowhere/sock", "--share", "/tmp"), 1, "No such file or directory"),
        (("--socket", "/nowhere/sock"), 1, "--socket needs --share"),
        (("--load", "nothing"), 2, "there is no 'nothing'"),
        (("--start", "a=false {fd}", "--load", "getattr"), 1, "a: "),
    ],
)
def test_what_cannot_be_measured(arguments: tuple[str, ...], status: int, line: str) -> None:
    done = bench(*arguments)
    assert done.returncode == status
    assert line in done.stderr
    assert "Traceback" not in done.stderr
