# SPDX-License-Identifier: BSD-3-Clause
"""The socket's side: pieces, descriptors, ends, and who listens where."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.frontend import vhost
from tests.frontend.memory import GuestMemory
from tests.frontend.vhost import FrontEnd, RefusedByBackend, Req
from tests.vhost_user.recording import RecordingBackend, count_fds
from virtiofsd_py.vhost_user import (
    BadMessage,
    Connection,
    Disconnected,
    Listener,
    Message,
    ProtocolError,
    ProtocolViolation,
    Request,
    Server,
    TransportError,
    serve,
)


@contextmanager
def connected() -> Iterator[tuple[socket.socket, Connection]]:
    theirs, ours = socket.socketpair()
    with theirs, Connection(ours) as connection:
        yield theirs, connection


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Connection]]:
    with connected() as both:
        yield both


def message(request: int, payload: bytes = b"", flags: int = 1) -> bytes:
    return struct.pack("=III", request, flags, len(payload)) + payload


def close_all(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


MESSAGES = message(1) + message(2, bytes(range(8))) + message(3) + message(5, bytes(40))


@given(cuts=st.lists(st.integers(0, len(MESSAGES)), max_size=12).map(sorted))
def test_messages_arrive_however_they_are_cut(cuts: list[int]) -> None:
    got: list[Message] = []
    with connected() as (theirs, connection):
        for start, end in zip([0, *cuts], [*cuts, len(MESSAGES)], strict=True):
            theirs.sendall(MESSAGES[start:end])
            while (one := connection.receive()) is not None:
                got.append(one)
    assert [one.header.request for one in got] == [1, 2, 3, 5]
    assert [len(one.payload) for one in got] == [0, 8, 0, 40]
    assert got[1].payload == bytes(range(8))


@pytest.mark.parametrize("at", [0, 5, 12, 15])
def test_descriptors_belong_to_the_message_they_came_with(
    pair: tuple[socket.socket, Connection], at: int
) -> None:
    theirs, connection = pair
    raw = message(5, bytes(8))
    theirs.sendall(message(1) + raw[:at])
    socket.send_fds(theirs, [raw[at:]], [0, 0])
    theirs.sendall(message(3))
    got = [connection.receive() for _ in range(4)]
    assert got.pop() is None
    assert [len(one.fds) for one in got if one] == [0, 2, 0]
    assert got[1] is not None
    assert not any(map(os.get_inheritable, got[1].fds))
    close_all(got[1].fds)


def test_as_many_descriptors_as_the_kernel_lets_through(
    pair: tuple[socket.socket, Connection],
) -> None:
    theirs, connection = pair
    socket.send_fds(theirs, [message(1)], [0] * 253)
    got = connection.receive()
    assert got is not None
    assert len(got.fds) == 253
    close_all(got.fds)


def test_descriptors_do_not_pile_up(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    before = count_fds()
    for byte in message(1):
        socket.send_fds(theirs, [bytes([byte])], [0] * 50)
    with pytest.raises(TransportError, match="more than 253"):
        connection.receive()
    assert count_fds() == before


def test_lost_descriptors_are_noticed(
    pair: tuple[socket.socket, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, connection = pair
    before = count_fds()
    room = socket.CMSG_SPACE(4)
    monkeypatch.setattr(socket, "CMSG_SPACE", lambda _size: room)
    socket.send_fds(theirs, [message(1)], [0] * 20)
    with pytest.raises(TransportError, match="descriptors were lost"):
        connection.receive()
    assert count_fds() == before


@pytest.mark.parametrize(
    "raw",
    [
        message(1, flags=0),
        message(1, flags=2),
        message(1, flags=0x11),
        message(99),
        struct.pack("=III", 5, 1, 1 << 20),
    ],
)
def test_bad_header(pair: tuple[socket.socket, Connection], raw: bytes) -> None:
    theirs, connection = pair
    before = count_fds()
    socket.send_fds(theirs, [raw], [0])
    with pytest.raises(BadMessage):
        connection.receive()
    assert count_fds() == before


@pytest.mark.parametrize(
    ("sent", "clean"),
    [(b"", True), (message(1), True), (bytes(5), False), (message(5)[:11], False)],
)
def test_end_of_file(pair: tuple[socket.socket, Connection], sent: bytes, clean: bool) -> None:
    theirs, connection = pair
    theirs.sendall(sent)
    theirs.close()
    if sent == message(1):
        assert connection.receive() is not None
    with pytest.raises(Disconnected) as caught:
        connection.receive()
    assert caught.value.clean is clean


def test_end_of_file_in_a_payload_closes_descriptors(
    pair: tuple[socket.socket, Connection],
) -> None:
    theirs, connection = pair
    before = count_fds()
    socket.send_fds(theirs, [message(5, bytes(40))[:20]], [0])
    assert connection.receive() is None
    assert count_fds() == before + 1
    theirs.close()
    with pytest.raises(Disconnected):
        connection.receive()
    assert count_fds() == before - 1


def test_reset_is_a_disconnect(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    connection.send(b"unread")
    theirs.close()  # With unread bytes, the kernel makes this a reset.
    with pytest.raises(Disconnected):
        connection.receive()
    with pytest.raises(Disconnected):
        connection.send(b"more")


def test_reply_waits_for_room(pair: tuple[socket.socket, Connection]) -> None:
    theirs, connection = pair
    reply = bytes(range(256)) * 4096
    connection.send(reply)
    assert connection.has_unsent
    got = b""
    while len(got) < len(reply):
        got += theirs.recv(1 << 16)
        connection.flush()
    assert got == reply
    assert not connection.has_unsent


class Served:
    """A recording backend served on a thread.

    Attributes:
        result: what `serve` returned, or the error that it raised.
    """

    def __init__(self) -> None:
        theirs, ours = socket.socketpair()
        self.front_end = FrontEnd(theirs)
        self.backend = RecordingBackend()
        self.result: bool | Exception | None = None
        self.stop_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._ours = ours
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> bool | Exception | None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.result

    def close(self) -> None:
        self.front_end.close()
        self.join()
        os.close(self.stop_fd)

    def _run(self) -> None:
        with Connection(self._ours) as connection, Server(self.backend) as server:
            try:
                self.result = serve(connection, server, {self.stop_fd: lambda: False})
            except (ProtocolError, TransportError) as error:
                self.result = error


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.close()


def test_serve_ends_with_the_front_end(served: Served) -> None:
    served.front_end.negotiate()
    with GuestMemory() as memory:
        served.front_end.set_mem_table(memory)
        assert len(served.backend.memory) == 1
    served.front_end.close()
    assert served.join() is True
    assert not served.backend.memory


def test_serve_ends_with_a_front_end_killed_mid_message(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.front_end.send_raw(message(5, bytes(40))[:30], [0])
    served.front_end.close()
    assert served.join() is True
    assert "mid-message" in caplog.text


def test_serve_ends_when_asked(served: Served) -> None:
    served.front_end.negotiate()
    os.eventfd_write(served.stop_fd, 1)
    assert served.join() is False


def test_serve_sends_what_found_no_room() -> None:
    reply = bytes(1 << 20)
    with connected() as (theirs, connection), Server(RecordingBackend()) as server:
        connection.send(reply)
        thread = threading.Thread(target=serve, args=(connection, server))
        thread.start()
        theirs.settimeout(30)
        left = len(reply)
        while left:
            left -= len(theirs.recv(left))
        theirs.close()
        thread.join(30)
        assert not thread.is_alive()


def test_serve_survives_refusals(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    front_end = served.front_end
    front_end.negotiate()
    for _ in range(100):
        with pytest.raises(RefusedByBackend):
            front_end.set_vring_num(0, 3)
    front_end.send(Req.SET_VRING_KICK, bytes(8), [0, 0, 0])  # no acknowledgement wanted
    assert front_end.get_config(40, 5) is None
    assert front_end.get_config(40, 4) == bytes(4)
    front_end.set_vring_num(0, 64)
    refusals = [record for record in caplog.records if "refused" in record.getMessage()]
    assert len(refusals) == 16 + len([32, 64])


def test_serve_cuts_off_violators(served: Served) -> None:
    served.front_end.send(Request.GET_VRING_BASE, struct.pack("=II", 200, 0))
    served.front_end.wait_closed()
    assert isinstance(served.join(), ProtocolViolation)


def test_serve_cuts_off_garbage(served: Served) -> None:
    served.front_end.send_raw(b"GET / HTTP/1.1\r\n\r\n")
    served.front_end.wait_closed()
    assert isinstance(served.join(), BadMessage)


def test_front_end_without_protocol_features(served: Served) -> None:
    served.front_end.negotiate(protocol_features=0)
    assert served.front_end.features == vhost.F_VERSION_1 | vhost.F_FS_NOTIFICATION
    assert served.front_end.protocol_features == 0


def test_listener_makes_and_removes_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Listener.bind(path, 0o640) as listener, socket.socket(socket.AF_UNIX) as client:
        status = path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert status.st_mode & 0o777 == 0o640
        client.connect(str(path))
        connection = listener.accept()
        assert connection is not None
        connection.close()
    assert not path.exists()


def test_listener_replaces_a_stale_socket(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Listener.bind(path):
        pass
    assert not path.exists()


def test_listener_leaves_a_living_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Listener.bind(path) as listener:
        with pytest.raises(TransportError, match="in use"):
            Listener.bind(path)
        # Nor was the living one disturbed: it sees no connection.
        stop = os.eventfd(1, os.EFD_CLOEXEC)
        assert listener.accept({stop: lambda: False}) is None
        os.close(stop)
        assert path.exists()


def test_listener_does_not_replace_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(TransportError, match="in use"):
        Listener.bind(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["no/such/directory", "x" * 200])
def test_listener_says_what_is_wrong(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransportError, match=r"No such file|too long"):
        Listener.bind(tmp_path / name)


def test_listener_leaves_another_ones_socket(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Listener.bind(path):
        path.unlink()
        path.write_text("another")
    assert path.read_text() == "another"


def test_listener_from_fd(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    with Listener.from_fd(sock.detach()) as listener, FrontEnd.connect(path):
        connection = listener.accept()
        assert connection is not None
        connection.close()
    assert path.exists(), "it is not ours to remove"


def test_listener_from_another_kind_of_fd() -> None:
    before = count_fds()
    with pytest.raises(TransportError, match="no socket"):
        Listener.from_fd(os.open("/dev/null", os.O_RDONLY))
    with pytest.raises(TransportError, match="no listening"):
        Listener.from_fd(socket.socket(socket.AF_UNIX).detach())
    with pytest.raises(TransportError, match="no socket"):
        Listener.from_fd(9999)
    assert count_fds() == before
