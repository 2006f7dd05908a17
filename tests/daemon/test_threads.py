# SPDX-License-Identifier: BSD-3-Clause
"""Everything at once, on all queues: what ThreadSanitizer sees of it (``make test-daemon-tsan``).

The guest's four queues are kept full with requests for the same few names, which it watches and
unwatches, while the host changes them, a consumer watches them, and the control thread stops,
starts and remaps what is in use. Most requests fail, for another one was there first; each has an
answer.
An ordinary build must get through it, too.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.daemon.running import Daemon
from tests.daemon.test_dirty_log import DirtyLog, switch
from tests.daemon.watching import Watcher
from tests.frontend import ROOT_ID, Opcode, RefusedByBackend, Session
from tests.frontend import fuse_wire as wire
from tests.frontend.fuse import FuseClient, Pending

QUEUES = 4
FIRST = 2  # request ring
NAMES = [f"name{number}" for number in range(12)]
ROUNDS = int(os.environ.get("HAMMER_ROUNDS", "30"))
BATCH = 32
KEPT = 48
REPLY_BYTES = 8192
MASK = 0x0800_0FFF  # every event, of children as well


class Guest:
    """A guest that does anything with few names, and does not wait for one thing before another."""

    def __init__(self, session: Session, seed: int) -> None:
        self.session = session
        self.random = random.Random(seed)
        self.nodes = [ROOT_ID]
        self.opened = [(ROOT_ID, 0)]

    def burst(self, meanwhile: Callable[[], object]) -> None:
        """Fill every queue, do something else, and take all the answers."""
        fuse = self.session.fuse
        pending: list[tuple[FuseClient, int, Pending]] = []
        for client in self.session.clients:
            for _ in range(BATCH):
                opcode, node, body = self.request()
                ask = client.submit(opcode, node, body, reply_bytes=REPLY_BYTES, kick=False)
                pending.append((client, opcode, ask))
        for client in self.session.clients:
            client.ring.publish()
            client.ring.kick_if_needed()
        forgets = [
            fuse.submit(
                Opcode.FORGET,
                node,
                wire.FORGET_IN.pack(1),
                wants_reply=False,
                ring=self.session.rings[0],
            )
            for node in self.random.sample(self.nodes, len(self.nodes) // 2)
            if node != ROOT_ID
        ]
        meanwhile()
        for forget in forgets:
            fuse.wait_raw(forget)
        for client, opcode, ask in pending:
            reply = client.wait(ask)
            if reply.error == 0:
                self.learn(opcode, reply.payload)
        self.nodes = [ROOT_ID, *self.nodes[-KEPT:]]
        self.opened = self.opened[-KEPT:]
        self.take_events()

    def take_events(self) -> None:
        notifications = self.session.notifications
        assert notifications is not None
        notifications.read_now()
        notifications.post()

    def learn(self, opcode: int, payload: bytes) -> None:
        if opcode in (Opcode.LOOKUP, Opcode.MKDIR, Opcode.CREATE):
            (node,) = struct.unpack_from("=Q", payload)
            self.nodes.append(node)
        if opcode == Opcode.CREATE:
            self.opened.append((node, wire.OPEN_OUT.unpack_from(payload, -wire.OPEN_OUT.size)[0]))
        elif opcode == Opcode.OPENDIR:
            self.opened.append((ROOT_ID, wire.OPEN_OUT.unpack(payload)[0]))

    def request(self) -> tuple[int, int, bytes]:
        name, other = (each.encode() + b"\0" for each in self.random.sample(NAMES, 2))
        node = self.random.choice(self.nodes)
        at, fh = self.random.choice(self.opened)
        mask = self.random.choice((MASK, MASK, 0))
        return self.random.choice(
            [
                (Opcode.LOOKUP, ROOT_ID, name),
                (Opcode.LOOKUP, ROOT_ID, other),
                (Opcode.GETATTR, node, wire.GETATTR_IN.pack(0, 0, 0)),
                (Opcode.STATFS, ROOT_ID, b""),
                (Opcode.MKDIR, ROOT_ID, wire.MKDIR_IN.pack(0o755, 0) + name),
                (Opcode.CREATE, ROOT_ID, wire.CREATE_IN.pack(os.O_RDWR, 0o644, 0, 0) + name),
                (Opcode.UNLINK, ROOT_ID, name),
                (Opcode.RMDIR, ROOT_ID, name),
                (Opcode.RENAME, ROOT_ID, wire.RENAME_IN.pack(ROOT_ID) + name + other),
                (Opcode.OPENDIR, ROOT_ID, wire.OPEN_IN.pack(0, 0)),
                (Opcode.READDIRPLUS, at, wire.READ_IN.pack(fh, 0, 1024, 0, 0, 0, 0)),
                (Opcode.READ, at, wire.READ_IN.pack(fh, 0, 4096, 0, 0, 0, 0)),
                (Opcode.WRITE, at, wire.WRITE_IN.pack(fh, 0, 4, 0, 0, 0, 0) + b"data"),
                (Opcode.RELEASE, at, wire.RELEASE_IN.pack(fh, 0, 0, 0)),
                (Opcode.FSNOTIFY, node, wire.FSNOTIFY_IN.pack(mask, 0, 0)),
                (Opcode.FSNOTIFY, ROOT_ID, wire.FSNOTIFY_IN.pack(mask, 0, 0)),
            ]
        )


@contextmanager
def host_changes(share: Path, seed: int) -> Iterator[None]:
    """Let the host change the same names meanwhile."""
    over = threading.Event()
    chance = random.Random(seed)

    def change() -> None:
        while not over.wait(0.0005):
            path, other = (share / name for name in chance.sample(NAMES, 2))
            acts: list[Callable[[], object]] = [
                path.touch,
                path.unlink,
                path.mkdir,
                path.rmdir,
                partial(path.rename, other),
            ]
            with suppress(OSError):
                chance.choice(acts)()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Control:
    """What the front-end does to rings that are in use."""

    def __init__(self, session: Session, log: DirtyLog) -> None:
        self.session = session
        self.log = log
        self.logging = False

    def steps(self) -> list[Callable[[], object]]:
        return [
            lambda: None,
            self.restart_one,
            self.disable_all,
            self.remap,
            self.switch_log,
            self.new_calls,
            self.save,
        ]

    def restart_one(self) -> None:
        for index in (0, 1, FIRST, FIRST + 1):
            ring = self.session.rings[index]
            base = self.session.front_end.stop_ring(index)
            self.session.front_end.start_ring(index, ring, base)

    def disable_all(self) -> None:
        for enabled in (False, True):
            for index in range(len(self.session.rings)):
                self.session.front_end.set_vring_enable(index, enabled)

    def remap(self) -> None:
        self.session.front_end.set_mem_table(self.session.memory)

    def switch_log(self) -> None:
        self.log.share()
        self.logging = not self.logging
        switch(self.session, self.logging)

    def new_calls(self) -> None:
        for index, ring in enumerate(self.session.rings):
            self.session.front_end.set_vring_call(index, ring.call_fd)

    def save(self) -> None:
        """Begin a migration that then does not take place."""
        front_end = self.session.front_end
        bases = self.session.stop()
        with suppress(RefusedByBackend):
            front_end.save_state()
        for index, (ring, base) in enumerate(zip(self.session.rings, bases, strict=True)):
            front_end.start_ring(index, ring, base)


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail with what ThreadSanitizer has to say; an ordinary daemon leaves nothing of the kind."""
    directory = tmp_path / "tsan"
    directory.mkdir()
    monkeypatch.setenv("TSAN_OPTIONS", f"log_path={directory}/report")
    yield
    text = "\n".join(path.read_text() for path in sorted(directory.iterdir()))
    assert not text, text


@pytest.mark.usefixtures("reports")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="merged"),
        pytest.param(["--thread-pool-size=3"], id="pool"),
        pytest.param(["--fsnotify=server", "--inode-file-handles=never"], id="server"),
    ],
)
def test_everything_at_once(start: Callable[..., Daemon], arguments: list[str]) -> None:
    daemon = start(
        f"--num-request-queues={QUEUES}",
        "--migration-on-error=guest-error",
        "--sandbox=none",
        "--seccomp=none",
        *arguments,
    )
    with Session.connect(daemon.socket) as session, DirtyLog(session) as log:
        session.fuse.init()
        guest, control = Guest(session, 1), Control(session, log)
        steps = control.steps()
        watcher = Watcher(daemon, "--json")
        try:
            with host_changes(daemon.share, 2):
                for number in range(ROUNDS):
                    guest.burst(steps[number % len(steps)])
            watcher.process.send_signal(signal.SIGINT)
            watcher.end()
        finally:
            watcher.kill()
        # And the end comes in the middle of it.
        for client in session.clients:
            for _ in range(BATCH):
                client.submit(Opcode.LOOKUP, ROOT_ID, NAMES[0].encode() + b"\0", kick=False)
            client.ring.publish()
            client.ring.kick_if_needed()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0
