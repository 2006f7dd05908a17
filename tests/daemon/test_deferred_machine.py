# SPDX-License-Identifier: BSD-3-Clause
"""Requests that are answered later, and everything that may happen to them, in any order."""

from __future__ import annotations

import errno
import queue
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.daemon.extending import extended
from tests.frontend import ROOT_ID, Opcode, Session
from tests.frontend import fuse_wire as wire
from tests.frontend.fuse import FuseClient, Pending
from tests.frontend.vring import DEADLINE_S
from virtiofsd_py.fuse import Handlers, Request

WAIT = 4001
GETATTR = wire.GETATTR_IN.pack(0, 0, 0)
MOST = 40


class Asked:
    """A request that the guest waits for; its node id is its number."""

    def __init__(self, client: FuseClient, pending: Pending) -> None:
        """Be asked, and not taken."""
        self.client = client
        self.pending = pending
        self.request: Request | None = None


class Machine(RuleBasedStateMachine):
    """Two rings, whose threads are as many as `pool`."""

    pool = 1

    def __init__(self) -> None:
        """Ask nothing."""
        super().__init__()
        self.stack = ExitStack()
        self.arrived: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self.asked: dict[int, Asked] = {}
        self.stale: list[Request] = []
        self.last = 0

    @initialize()
    def start(self) -> None:
        handlers = Handlers()
        handlers.serves(WAIT)(self.arrived.put)
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        (directory / "share").mkdir()
        self.guest: Session = self.stack.enter_context(
            extended(handlers, directory / "share", directory / "socket", self.pool)
        )

    def teardown(self) -> None:
        """Answer all, and hang up."""
        try:
            if hasattr(self, "guest"):
                self.take()
                for number, asked in list(self.asked.items()):
                    assert asked.request is not None
                    assert asked.request.answer(b"%d" % number)
                    self.expect(number, b"%d" % number)
                assert all(ring.in_flight == 0 for ring in self.guest.rings[1:])
                assert not any(request.answer(b"x") for request in self.stale)
        finally:
            self.stack.close()

    def take(self) -> None:
        """Wait until the extension has all that it must have."""
        while missing := {n for n, asked in self.asked.items() if asked.request is None}:
            request = self.arrived.get(timeout=DEADLINE_S)
            assert request.raw.nodeid in missing, "twice, or after it was answered"
            asked = self.asked[request.raw.nodeid]
            assert request.raw.unique == asked.pending.unique
            asked.request = request
        assert self.arrived.empty()

    def expect(self, number: int, reply: bytes | int) -> None:
        """Take a reply: its payload, or an errno."""
        asked = self.asked.pop(number)
        got = asked.client.wait(asked.pending)
        assert (got.error, got.payload) == ((-reply, b"") if isinstance(reply, int) else (0, reply))

    def gone(self, *clients: FuseClient) -> None:
        """Requests on these rings come again; whoever has the old ones is not heard any more."""
        for asked in self.asked.values():
            if asked.client in clients and asked.request is not None:
                self.stale.append(asked.request)
                asked.request = None

    @rule(queue=st.integers(0, 1), amount=st.integers(1, 5))
    def ask(self, queue: int, amount: int) -> None:
        client = self.guest.clients[queue]
        for _ in range(min(amount, MOST - len(self.asked))):
            self.last += 1
            self.asked[self.last] = Asked(client, client.submit(WAIT, self.last, reply_bytes=16))

    @rule(queue=st.integers(0, 1))
    def ask_what_is_answered_at_once(self, queue: int) -> None:
        self.guest.clients[queue].getattr(ROOT_ID)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), error=st.sampled_from([0, 0, errno.EPERM]), threads=st.booleans())
    def answer(self, data: st.DataObject, error: int, threads: bool) -> None:
        self.take()
        numbers = data.draw(st.lists(st.sampled_from(sorted(self.asked)), unique=True, min_size=1))
        requests = [request for n in numbers if (request := self.asked[n].request) is not None]

        def act() -> None:
            for request in requests:
                if error:
                    assert request.fail(error)
                else:
                    assert request.answer(b"%d" % request.raw.nodeid)

        if threads:
            thread = threading.Thread(target=act)
            thread.start()
            thread.join()
        else:
            act()
        for number in numbers:
            self.expect(number, error or b"%d" % number)

    @precondition(lambda self: self.stale)
    @rule()
    def answer_what_has_gone(self) -> None:
        assert not self.stale.pop().answer(b"late")

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), taken=st.booleans())
    def interrupt(self, data: st.DataObject, taken: bool) -> None:
        if taken:
            self.take()
        number = data.draw(st.sampled_from(sorted(self.asked)))
        asked, fuse = self.asked[number], self.guest.fuse
        body = wire.INTERRUPT_IN.pack(asked.pending.unique)
        while raw := fuse.wait_raw(fuse.submit(Opcode.INTERRUPT, 0, body, ring=fuse.hiprio)):
            # It has not come that far: a kernel asks again.
            assert wire.OUT_HEADER.unpack(raw)[1] == -errno.EAGAIN
            assert not taken
        # Or it had been taken meanwhile.
        if asked.request is not None:
            self.stale.append(asked.request)
        self.expect(number, errno.EINTR)
        self.drop_arrived(number)

    def drop_arrived(self, number: int) -> None:
        """Forget one that may have been handed out before it was interrupted."""
        kept = []
        # The control thread may be handing it out just now; the next to arrive is behind it.
        self.last += 1
        mark = self.guest.fuse.submit(WAIT, self.last, reply_bytes=16)
        while (request := self.arrived.get(timeout=DEADLINE_S)).raw.nodeid != self.last:
            kept.append(request)
        assert request.answer(b"")
        self.guest.fuse.wait(mark).check()
        for request in kept:
            if request.raw.nodeid == number:
                self.stale.append(request)
            else:
                self.arrived.put(request)

    @rule(queue=st.integers(0, 1), base=st.booleans())
    def stop_a_ring(self, queue: int, base: bool) -> None:
        self.take()
        client = self.guest.clients[queue]
        index = self.guest.rings.index(client.ring)
        if base:
            at = self.guest.front_end.stop_ring(index)
            assert at == client.ring.device_used_idx()
            self.gone(client)
            self.guest.front_end.start_ring(index, client.ring, at)
        else:
            self.guest.front_end.set_vring_enable(index, False)
            self.gone(client)
            self.guest.front_end.set_vring_enable(index, True)

    @rule()
    def replace_memory(self) -> None:
        self.take()
        self.gone(*self.guest.clients)
        self.guest.front_end.set_mem_table(self.guest.memory)

    @rule(destroy=st.booleans())
    def end_the_session(self, destroy: bool) -> None:
        self.take()
        self.gone(*self.guest.clients)
        if destroy:
            self.guest.fuse.destroy()
        self.guest.fuse.init()
        for number in list(self.asked):
            self.expect(number, errno.EIO)

    @rule()
    def reset_the_guest(self) -> None:
        self.take()
        self.gone(*self.guest.clients)
        self.asked.clear()
        self.guest.reset()
        self.guest.fuse.init()


@pytest.fixture(params=[1, 3])
def machine(request: pytest.FixtureRequest) -> type[Machine]:
    return type("PoolMachine", (Machine,), {"pool": request.param})


def test_anything(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            # What fails may wait for long: no second time.
            phases=[Phase.generate],
            report_multiple_bugs=False,
        ),
    )
