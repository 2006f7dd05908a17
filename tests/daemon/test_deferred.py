# SPDX-License-Identifier: BSD-3-Clause
"""Requests that Python functions answer later: in any order, interrupted, stopped, moved."""

from __future__ import annotations

import errno
import queue
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.daemon.extending import extended
from tests.daemon.running import Daemon, wait_until
from tests.frontend import ROOT_ID, FuseError, Opcode, Session
from tests.frontend import fuse_wire as wire
from tests.frontend.fuse import FuseClient, Pending
from tests.frontend.vring import DEADLINE_S
from virtiofsd_py.fuse import Handlers, Request

WAIT = 4001
GETATTR = wire.GETATTR_IN.pack(0, 0, 0)

POOLS = pytest.mark.parametrize("pool", [1, 3])
AMOUNTS = pytest.mark.parametrize("amount", [1, 200])


class Waiting:
    """An extension that answers only when it is told to."""

    def __init__(self) -> None:
        """Have one opcode."""
        self.handlers = Handlers()
        self.handlers.serves(WAIT)(self._wait)
        self._arrived: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def _wait(self, request: Request) -> None:
        self._arrived.put(request)

    def take(self) -> Request:
        """Wait for the next request."""
        return self._arrived.get(timeout=DEADLINE_S)

    def take_all(self, amount: int) -> dict[int, Request]:
        """Wait for that many; by their node id."""
        requests = [self.take() for _ in range(amount)]
        return {request.raw.nodeid: request for request in requests}

    def is_idle(self) -> bool:
        """Whether nothing has come that was not taken."""
        return self._arrived.empty()


Run = Callable[..., AbstractContextManager[Session]]


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
def run(tmp_path: Path, waiting: Waiting) -> Run:
    (tmp_path / "share").mkdir()

    def run(
        pool: int = 1, state: bytes | None = None, name: str = "socket"
    ) -> AbstractContextManager[Session]:
        return extended(waiting.handlers, tmp_path / "share", tmp_path / name, pool, state)

    return run


def ask(client: FuseClient, node: int) -> Pending:
    return client.submit(WAIT, node, b"", reply_bytes=16)


def index_of(guest: Session, client: FuseClient) -> int:
    return guest.rings.index(client.ring)


@POOLS
def test_no_request_behind_one_that_waits_waits(run: Run, waiting: Waiting, pool: int) -> None:
    with run(pool) as guest:
        slow = ask(guest.fuse, 1)
        request = waiting.take()
        for _ in range(3):
            guest.fuse.getattr(ROOT_ID)
        assert guest.fuse.ring.in_flight == 1
        assert request.answer(b"at last")
        assert guest.fuse.wait(slow).check() == b"at last"
        # Once.
        assert not request.answer(b"again")
        assert not request.gone


def test_not_even_while_python_is_busy(run: Run, waiting: Waiting) -> None:
    """The control thread itself waits, in a function that answers at once."""
    answered = threading.Event()

    @waiting.handlers.serves(4002)
    def wait(request: Request) -> bytes:
        assert answered.wait(DEADLINE_S)
        return b"done"

    with run() as guest:
        slow = guest.fuse.submit(4002, ROOT_ID)
        queued = ask(guest.fuse, 1)
        try:
            guest.fuse.getattr(ROOT_ID)
        finally:
            answered.set()
        assert guest.fuse.wait(slow).check() == b"done"
        waiting.take().answer(b"")
        guest.fuse.wait(queued).check()


@POOLS
def test_answers_in_any_order_by_any_thread(run: Run, waiting: Waiting, pool: int) -> None:
    with run(pool) as guest:
        asked = [(client, ask(client, n)) for n in range(1, 61) for client in guest.clients]
        requests = [waiting.take() for _ in asked]
        half = len(requests) // 2
        others = [
            threading.Thread(
                target=lambda part=part: [r.answer(b"%d" % r.raw.nodeid) for r in part]
            )
            for part in (requests[half:][::-1], requests[:half][::2])
        ]
        for thread in others:
            thread.start()
        for request in requests[:half][1::2]:
            request.fail(errno.EBUSY)
        for thread in others:
            thread.join()
        refused = 0
        for i, (client, pending) in enumerate(asked):
            reply = client.wait(pending)
            refused += reply.error == -errno.EBUSY
            assert reply.error or reply.payload == b"%d" % (i // len(guest.clients) + 1)
        assert refused == half // 2


def test_interrupt(run: Run, waiting: Waiting) -> None:
    with run() as guest:
        fuse = guest.fuse

        def interrupt(unique: int) -> bytes:
            body = wire.INTERRUPT_IN.pack(unique)
            return fuse.wait_raw(fuse.submit(Opcode.INTERRUPT, 0, body, ring=fuse.hiprio))

        first, second = ask(fuse, 1), ask(fuse, 2)
        requests = waiting.take_all(2)
        assert interrupt(second.unique) == b""
        assert fuse.wait(second).error == -errno.EINTR
        assert not requests[2].answer(b"")
        # What is not known, yet or any more, is to be asked again, if it still matters.
        for unique in (second.unique + 1000, 0):
            size, error, _ = wire.OUT_HEADER.unpack(interrupt(unique))
            assert (size, error) == (wire.OUT_HEADER.size, -errno.EAGAIN)
        assert fuse.ring.in_flight == 1
        assert interrupt(first.unique) == b""
        assert fuse.wait(first).error == -errno.EINTR
        third = ask(fuse, 3)
        assert waiting.take().answer(b"")
        fuse.wait(third).check()
        # By then it has heard of it.
        assert requests[1].gone


@POOLS
@AMOUNTS
def test_a_ring_that_stops_gives_them_back(
    run: Run, waiting: Waiting, pool: int, amount: int
) -> None:
    """With requests that were answered between them."""
    with run(pool) as guest:
        client = guest.fuse
        index = index_of(guest, client)
        base = 1  # INIT
        for _ in range(3):
            asked = {}
            for node in range(1, amount + 1):
                asked[node] = ask(client, node)
                if node % 10 == 1:
                    client.getattr(ROOT_ID)
                    base += 1
            before = waiting.take_all(amount)
            used = client.ring.device_used_idx()
            assert guest.front_end.stop_ring(index) == base
            assert not any(request.answer(b"") for request in list(before.values())[::2])
            assert client.ring.device_used_idx() == used == base
            guest.front_end.start_ring(index, client.ring, base)
            again = waiting.take_all(amount)
            assert sorted(again) == sorted(before)
            assert not any(request.answer(b"") for request in list(before.values())[1::2])
            for node, request in again.items():
                assert request.raw.unique == before[node].raw.unique
                assert request.answer(b"%d" % node)
            for node, pending in asked.items():
                assert client.wait(pending).check() == b"%d" % node
            base += amount
        assert waiting.is_idle()


@POOLS
@AMOUNTS
def test_a_new_memory_table(run: Run, waiting: Waiting, pool: int, amount: int) -> None:
    with run(pool) as guest:
        asked = {node: ask(guest.fuse, node) for node in range(1, amount + 1)}
        before = waiting.take_all(amount)
        guest.front_end.set_mem_table(guest.memory)
        again = waiting.take_all(amount)
        assert not any(request.answer(b"old") for request in before.values())
        for node, request in again.items():
            assert request.answer(b"%d" % node)
        for node, pending in asked.items():
            assert guest.fuse.wait(pending).check() == b"%d" % node


@POOLS
@AMOUNTS
@pytest.mark.parametrize("how", ["reset", "destroy", "init"])
def test_the_end_of_a_session(run: Run, waiting: Waiting, pool: int, amount: int, how: str) -> None:
    with run(pool) as guest:
        fuse = guest.fuse
        asked = [ask(fuse, node) for node in range(1, amount + 1)]
        before = waiting.take_all(amount)
        if how == "reset":
            guest.reset()
        else:
            if how == "destroy":
                fuse.destroy()
            else:
                fuse.init()
            for pending in asked:
                assert fuse.wait(pending).error == -errno.EIO
        assert not any(request.answer(b"x") for request in before.values())
        fuse.init()
        pending = ask(fuse, 1)
        assert waiting.take().answer(b"new")
        assert fuse.wait(pending).check() == b"new"
        assert fuse.ring.in_flight == 0
        assert waiting.is_idle()


@POOLS
@AMOUNTS
def test_hang_up(run: Run, waiting: Waiting, pool: int, amount: int) -> None:
    with run(pool) as guest:
        for node in range(1, amount + 1):
            ask(guest.fuse, node)
        before = waiting.take_all(amount)
        guest.close()
    assert not any(request.answer(b"x") for request in before.values())


@POOLS
@AMOUNTS
def test_migration(run: Run, waiting: Waiting, pool: int, amount: int) -> None:
    """They are in the rings, not in the state: the other end takes them from there."""
    with run(pool) as guest:
        fuse = guest.fuse
        asked = {}
        for node in range(1, amount + 1):
            asked[node] = ask(fuse, node)
            if node % 10 == 1:
                fuse.getattr(ROOT_ID)
        waiting.take_all(amount)
        bases = guest.stop()
        state = guest.front_end.save_state()
        with run(pool, state=state, name="target") as target:
            # The guest's memory and rings go along.
            target.stop()
            target.front_end.set_mem_table(guest.memory)
            for index, ring in enumerate(guest.rings):
                target.front_end.start_ring(index, ring, bases[index])
            again = waiting.take_all(amount)
            for node, request in again.items():
                assert request.answer(b"%d" % node)
            for node, pending in asked.items():
                assert fuse.wait(pending).check() == b"%d" % node
            fuse.getattr(ROOT_ID)


# The command of somebody whose extension never answers.
OWN_COMMAND = """
import sys
from virtiofsd_py import cli
from virtiofsd_py.fuse import Handlers
handlers, kept = Handlers(), []
handlers.serves(4001)(kept.append)
handlers.serves(4002)(lambda request: len(kept).to_bytes(4, "little"))
sys.exit(cli.main(sys.argv[2:], extensions=handlers))
"""


@pytest.mark.parametrize("pool", [1, 3])
@AMOUNTS
@pytest.mark.parametrize("end", ["signal", "hang-up"])
def test_the_end_of_the_daemon(tmp_path: Path, pool: int, amount: int, end: str) -> None:
    launcher = [sys.executable, "-P", "-c", OWN_COMMAND]
    with Daemon(tmp_path, f"--thread-pool-size={pool}", launcher=launcher) as daemon:
        with Session.connect(daemon.socket) as guest:
            fuse = guest.fuse
            fuse.init()
            for node in range(1, amount + 1):
                ask(fuse, node)
            while int.from_bytes(fuse.request(4002, ROOT_ID), "little") < amount:
                fuse.getattr(ROOT_ID)
            if end == "signal":
                daemon.process.send_signal(signal.SIGTERM)
            else:
                guest.front_end.close()
            assert daemon.wait() == 0
            assert fuse.ring.in_flight == amount
            assert fuse.ring.pop_used() is None
        assert not any("forced_end" in line or "event=killed" in line for line in daemon.log)


def test_a_pool_may_have_extensions(run: Run, waiting: Waiting) -> None:
    def names() -> list[str]:
        return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]

    with run(5):  # in this process; each thread gives itself its name
        wait_until(lambda: names().count("vfsd-ring-1") == 5, "five threads")


def test_too_many_of_a_guest_that_uses_its_chains_again(run: Run, waiting: Waiting) -> None:
    """A ring defers no more than it has entries; the others get EAGAIN."""
    with run() as guest:
        ring = guest.fuse.ring
        pending = ask(guest.fuse, 1)
        for _ in range(ring.num - 1):
            ring.put_avail(pending.head)
            ring.publish()
            ring.kick()
            waiting.take()
        waiting.take()
        ring.put_avail(pending.head)
        ring.publish()
        ring.kick()
        with pytest.raises(FuseError) as refused:
            guest.fuse.wait(pending).check()
        assert refused.value.errno == errno.EAGAIN
