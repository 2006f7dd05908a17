# SPDX-License-Identifier: BSD-3-Clause
"""Who serves which opcode, and what a function that does so gets to see."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from virtiofsd_py.fuse.wire import NEVER_UP, Opcode, Reader


class Raw(Protocol):
    """A request as it comes from the engine. `virtiofsd_py.structures.Upcall` is one."""

    @property
    def id(self) -> int: ...  # noqa: D102 - see Request
    @property
    def opcode(self) -> int: ...  # noqa: D102
    @property
    def nodeid(self) -> int: ...  # noqa: D102
    @property
    def unique(self) -> int: ...  # noqa: D102
    @property
    def uid(self) -> int: ...  # noqa: D102
    @property
    def gid(self) -> int: ...  # noqa: D102
    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def body(self) -> bytes: ...  # noqa: D102
    @property
    def room_bytes(self) -> int: ...  # noqa: D102


class Nodes(Protocol):
    """Where requests come from, with the objects that they name.

    `virtiofsd_py.engine.Engine` is one.
    """

    def open_node(self, nodeid: int, flags: int) -> int:
        """Open a file or directory; the descriptor is the caller's. OSError: ESTALE and others."""

    def answer_upcall(self, upcall: Raw, answer: bytes | int) -> bool:
        """Answer a request: the payload of the reply, or an errno."""


@dataclass(slots=True, weakref_slot=True, eq=False)
class Request:
    """One request.

    Attributes:
        raw: its header's fields (`opcode`, `nodeid`, `unique`, and who asks: `uid`, `gid`, `pid`),
            the unchecked `body` behind them, and `room_bytes` for the payload of the reply.
        nodes: where node ids can be opened.
        gone: nobody waits for the answer any more: the guest has interrupted the request, or its
            session has ended, or its ring was stopped. In the last case it comes again when the
            ring goes on, as a new `Request`.
    """

    raw: Raw
    nodes: Nodes
    gone: bool = False

    def reader(self) -> Reader:
        """Return a cursor at the start of the body."""
        return Reader(self.raw.body)

    def answer(self, payload: bytes) -> bool:
        """Answer it after its handler has returned None; any thread, once.

        Returns:
            Whether somebody was still waiting.
        """
        return self.nodes.answer_upcall(self.raw, payload)

    def fail(self, number: int) -> bool:
        """Answer it with an errno; as `answer`."""
        return self.nodes.answer_upcall(self.raw, number)


Handler = Callable[[Request], bytes | None]
"""Returns the payload of the reply, or raises OSError with an errno for the guest. It runs on the
control thread: nothing else is configured meanwhile, though other requests are served. One that
would wait returns None, and `Request.answer` or `Request.fail` is called later."""


class Handlers:
    """A table from opcode to function."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_opcode: dict[int, Handler] = {}
        self._later: WeakValueDictionary[int, Request] = WeakValueDictionary()

    @property
    def opcodes(self) -> tuple[int, ...]:
        """What is served, in ascending order."""
        return tuple(sorted(self._by_opcode))

    def serves(self, opcode: int) -> Callable[[Handler], Handler]:
        """Return a decorator that registers a function.

        Args:
            opcode: 32 bits; also one that C serves, which it then does no more.

        Raises:
            ValueError: it is taken, no opcode, or one of `wire.NEVER_UP`.
        """
        if opcode in NEVER_UP:
            raise ValueError(f"{Opcode(opcode).name} is the core's own")
        if not 0 <= opcode < 1 << 32:
            raise ValueError(f"{opcode} is no opcode")
        if opcode in self._by_opcode:
            raise ValueError(f"opcode {opcode} is served already")

        def register(handler: Handler) -> Handler:
            self._by_opcode[opcode] = handler
            return handler

        return register

    def serve(self, raw: Raw, nodes: Nodes) -> bytes | None:
        """Have a request served; None: it is answered later.

        Raises:
            OSError: for the guest; ENOSYS if nobody serves it.
        """
        handler = self._by_opcode.get(raw.opcode)
        if handler is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        request = Request(raw, nodes)
        payload = handler(request)
        if payload is None:
            self._later[raw.id] = request
        return payload

    def forget(self, upcall: int) -> None:
        """Note that the request with this `Raw.id` has gone."""
        request = self._later.pop(upcall, None)
        if request is not None:
            request.gone = True
