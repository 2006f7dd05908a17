# SPDX-License-Identifier: BSD-3-Clause
"""What `make install` leaves behind, as libvirt and a shell find it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.daemon import running
from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, Session

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install, and return where to."""
    path = tmp_path_factory.mktemp("prefix")
    if not (ROOT / "Makefile").exists():
        pytest.skip("there is no Makefile beside these tests")
    subprocess.run(
        ["make", "install", f"PREFIX={path}", f"DESCRIPTIONS={path}/etc/qemu/vhost-user"],
        cwd=ROOT,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


def test_the_description_tells_of_a_binary_that_serves(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (prefix / "etc/qemu/vhost-user").iterdir()
    description = json.loads(path.read_text())
    asked = subprocess.run(
        [description["binary"], "--print-capabilities"], capture_output=True, check=True
    )
    assert json.loads(asked.stdout).items() <= description.items()
    monkeypatch.setattr(running, "COMMAND", description["binary"])
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / "f").write_bytes(b"12345")
    with Daemon(tmp_path) as daemon, Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        assert guest.fuse.lookup(ROOT_ID, "f").attr.size == 5


def test_nothing_else_is_installed(prefix: Path) -> None:
    assert sorted(p.name for p in prefix.iterdir()) == ["bin", "etc", "lib", "share"]
    pages = [p for p in (prefix / "share").rglob("*") if p.is_file()]
    assert pages == [prefix / "share/man/man1/virtiofsd-py.1"]
    assert [p.name for p in (prefix / "bin").iterdir()] == ["virtiofsd-py"]
    assert [p.name for p in (prefix / "lib").iterdir()] == ["virtiofsd-py"]
