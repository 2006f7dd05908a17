# SPDX-License-Identifier: BSD-3-Clause
"""Opcodes served by Python functions, over real rings: the engine in this process, in a thread."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.daemon.running import Daemon
from tests.frontend import ROOT_ID, FuseError, Opcode, Session
from tests.frontend.vhost import P_DEVICE_STATE
from tests.frontend.vring import DEADLINE_S
from virtiofsd_py import engine as core
from virtiofsd_py.device import VirtioFsDevice
from virtiofsd_py.engine_config import EngineConfig
from virtiofsd_py.fuse import Handlers, Request, example
from virtiofsd_py.options import Fsnotify, Options
from virtiofsd_py.vhost_user import Listener, Server, serve

Run = Callable[[Handlers], AbstractContextManager[Session]]


def serve_one(listener: Listener, share: Path, handlers: Handlers) -> None:
    """What the daemon does, without its options."""
    config = EngineConfig(
        options=Options(shared_dir=os.fspath(share), fsnotify=Fsnotify.OFF),
        root_fd=os.open(share, os.O_PATH | os.O_DIRECTORY),
        proc_self_fd=os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY),
        num_rings=8,
        log_level=-1,
        upcalls=handlers.opcodes,
    )
    with core.Engine(config) as engine:

        def served() -> bool:
            engine.serve_upcalls(lambda upcall: handlers.serve(upcall, engine))
            return True

        device = VirtioFsDevice(
            engine, num_rings=8, num_request_queues=2, tag="test", fsnotify=False
        )
        connection = listener.accept()
        assert connection is not None
        try:
            with connection, Server(device) as server:
                serve(connection, server, {engine.upcall_fd: served})
        finally:
            device.close()


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    return tmp_path / "share"


@pytest.fixture
def run(tmp_path: Path, share: Path) -> Run:
    @contextmanager
    def run(handlers: Handlers) -> Iterator[Session]:
        with Listener.bind(tmp_path / "socket", 0o600) as listener:
            thread = threading.Thread(target=serve_one, args=(listener, share, handlers))
            thread.start()
            try:
                with Session.connect(tmp_path / "socket") as session:
                    session.fuse.init()
                    yield session
            finally:
                thread.join()

    return run


def test_example(run: Run, share: Path) -> None:
    (share / "f").write_bytes(b"0123456789" * 100_000)
    with run(example.handlers) as guest:
        fuse = guest.fuse
        node = fuse.lookup(ROOT_ID, "f").nodeid

        def checksum(nodeid: int, body: bytes) -> tuple[int, bytes]:
            length, digest = struct.unpack("=Q32s", fuse.request(example.CHECKSUM, nodeid, body))
            return int(length), bytes(digest)

        for offset, length in ((0, 0), (5, 100), (999_999, 10), (1 << 40, 0)):
            data = (share / "f").read_bytes()[offset : offset + length if length else None]
            wanted = (len(data), hashlib.sha256(data).digest())
            assert checksum(node, struct.pack("=QQ", offset, length)) == wanted
        for nodeid, body, number in (
            (node, bytes(15), errno.EINVAL),
            (node, bytes(17), errno.EINVAL),
            (node, b"", errno.EINVAL),
            (node + (1 << 32), bytes(16), errno.ESTALE),
            (ROOT_ID, bytes(16), errno.EISDIR),
        ):
            with pytest.raises(FuseError) as refused:
                checksum(nodeid, body)
            assert refused.value.errno == number
        # What C serves is served by C.
        assert fuse.getattr(node).attr.size == 1_000_000
        with pytest.raises(FuseError) as refused:
            fuse.request(example.CHECKSUM + 1, node)
        assert refused.value.errno == errno.ENOSYS


# The command of somebody who has an extension; what would be the command's name goes unused.
OWN_COMMAND = """
import sys
from virtiofsd_py import cli
from virtiofsd_py.fuse import example
sys.exit(cli.main(sys.argv[2:], extensions=example.handlers))
"""


def test_command_of_ones_own_serves_it_inside_the_sandbox(tmp_path: Path) -> None:
    with Daemon(tmp_path, launcher=[sys.executable, "-P", "-c", OWN_COMMAND]) as daemon:
        (daemon.share / "f").write_bytes(b"content")
        with Session.connect(daemon.socket) as session:
            # What the handlers remember could not be migrated.
            assert not session.front_end.protocol_features & P_DEVICE_STATE
            session.fuse.init()
            node = session.fuse.lookup(ROOT_ID, "f").nodeid
            reply = session.fuse.request(example.CHECKSUM, node, struct.pack("=QQ", 0, 0))
            assert reply == struct.pack("=Q32s", 7, hashlib.sha256(b"content").digest())
        assert daemon.wait() == 0


def test_what_a_handler_may_do(run: Run) -> None:
    handlers = Handlers()
    seen: list[Request] = []

    @handlers.serves(4001)
    def echo(request: Request) -> bytes:
        seen.append(request)
        return request.raw.body

    @handlers.serves(4002)
    def fail(request: Request) -> bytes:
        raise OSError(int.from_bytes(request.raw.body, "little"), "")

    @handlers.serves(4003)
    def bug(request: Request) -> bytes:
        raise ValueError("on purpose")

    @handlers.serves(4004)
    def fill(request: Request) -> bytes:
        return bytes(request.raw.room_bytes + request.raw.body[0])

    @handlers.serves(Opcode.STATFS)
    def statfs(request: Request) -> bytes:
        return b"instead of C"

    with run(handlers) as guest:
        fuse = guest.fuse
        fuse.uid, fuse.gid = 11, 22
        assert fuse.request(4001, 77, b"some bytes") == b"some bytes"
        raw = seen[0].raw
        assert (raw.opcode, raw.nodeid, raw.uid, raw.gid) == (4001, 77, 11, 22)
        assert raw.room_bytes == 4096
        big = os.urandom(70_000)
        assert fuse.request(4001, 77, big, reply_bytes=70_000) == big
        assert fuse.request(4004, 1, b"\0", reply_bytes=100) == bytes(100)
        assert fuse.request(Opcode.STATFS, ROOT_ID) == b"instead of C"
        for opcode, body, number in (
            (4002, b"\x05", errno.EIO),
            (4002, b"\x5f", errno.EOPNOTSUPP),
            (4002, b"\xff\xff", errno.EIO),
            (4002, b"", errno.EIO),
            (4003, b"", errno.EIO),
            (4004, b"\1", errno.EIO),
            (4001, bytes(81 << 10), errno.EINVAL),
        ):
            with pytest.raises(FuseError) as refused:
                fuse.request(opcode, ROOT_ID, body)
            assert refused.value.errno == number
        # Both queues at once, several in flight on each.
        pending = [
            (client, client.submit(4001, i, str(i).encode()), str(i).encode())
            for i in range(20)
            for client in guest.clients
        ]
        for client, request, wanted in pending:
            assert client.wait(request).check() == wanted


def test_a_ring_stops_while_its_request_waits(run: Run) -> None:
    """The thread that stops rings is the one that would have answered: no wait for itself."""
    handlers = Handlers()
    served: list[int] = []

    @handlers.serves(4001)
    def note(request: Request) -> bytes:
        served.append(request.raw.nodeid)
        return b""

    with run(handlers) as guest:
        for i in range(30):
            client = guest.clients[i % 2]
            index = guest.rings.index(client.ring)
            pending = [client.submit(4001, 3 * i + j) for j in range(3)]
            # Each may be waiting, answered, taken ahead or not even taken by now.
            guest.front_end.set_vring_enable(index, False)
            guest.front_end.set_vring_enable(index, True)
            for request in pending:
                assert client.wait(request).check() == b""
        assert served == list(range(90))  # each once


def test_who_sleeps_is_told_of_the_first_reply_while_the_next_is_still_made(run: Run) -> None:
    handlers = Handlers()
    told = threading.Event()

    @handlers.serves(4001)
    def wait(request: Request) -> bytes:
        assert told.wait(DEADLINE_S)
        return b""

    with run(handlers) as guest:
        client, ring = guest.fuse, guest.fuse.ring
        ring.wait_call(0)  # one that was not slept for
        ring.arm_call()
        first = client.submit(Opcode.GETATTR, ROOT_ID, bytes(16), kick=False)
        second = client.submit(4001, ROOT_ID, kick=False)
        ring.publish()
        ring.kick_if_needed()
        try:
            assert ring.wait_call()
            assert not told.is_set()
        finally:
            told.set()
        assert client.wait(first).error == 0
        assert client.wait(second).error == 0


def test_registration() -> None:
    handlers = Handlers()
    handlers.serves(4001)(lambda _: b"")
    for opcode in (4001, Opcode.INIT, Opcode.FORGET, -1, 1 << 32, 3072):
        with pytest.raises(ValueError, match=r"opcode|core's own"):
            handlers.serves(opcode)
    assert handlers.opcodes == (4001,)
