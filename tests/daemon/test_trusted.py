# SPDX-License-Identifier: BSD-3-Clause
"""``trusted.*`` attributes of the host are for guests only if a map says so, whatever we may."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, Session

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="trusted attributes")

NAME = "trusted.overlay.opaque"
MINE = "trusted.mine"


@pytest.mark.parametrize("sandbox", ["none", "namespace"])
def test_trusted_attributes_are_the_hosts(start: Callable[..., Daemon], sandbox: str) -> None:
    daemon = start("--xattr", "--modcaps=+sys_admin", f"--sandbox={sandbox}")
    file = daemon.share / "f"
    file.touch()
    os.setxattr(file, NAME, b"host")
    os.setxattr(file, "user.a", b"a")
    with Session.connect(daemon.socket) as guest:
        fuse = guest.fuse
        fuse.init()
        node = fuse.lookup(ROOT_ID, "f").nodeid
        with pytest.raises(FuseError, match="Operation not permitted"):
            fuse.setxattr(node, MINE, b"guest")
        with pytest.raises(FuseError, match="Operation not permitted"):
            fuse.removexattr(node, NAME)
        with pytest.raises(FuseError, match="No data available"):
            fuse.getxattr(node, NAME)
        assert fuse.listxattr(node) == [b"user.a"]
        fuse.setxattr(node, "user.b", b"b")
        assert fuse.getxattr(node, "user.a") == b"a"
    assert os.getxattr(file, NAME) == b"host"
    assert MINE not in os.listxattr(file)


@pytest.mark.parametrize("rules", [":ok:all:trusted.:trusted.: :bad:all:::", ":ok:all:::"])
def test_a_map_can_let_them_through(start: Callable[..., Daemon], rules: str) -> None:
    daemon = start("--xattr", "--modcaps=+sys_admin", f"--xattrmap={rules}")
    file = daemon.share / "f"
    file.touch()
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        node = guest.fuse.lookup(ROOT_ID, "f").nodeid
        guest.fuse.setxattr(node, NAME, b"y")
        assert guest.fuse.listxattr(node) == [NAME.encode()]
    assert os.getxattr(file, NAME) == b"y"
