# SPDX-License-Identifier: BSD-3-Clause
"""An engine with opcodes that Python serves, in a thread of this process, and its guest."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.frontend import Session
from virtiofsd_py import engine as core
from virtiofsd_py.device import VirtioFsDevice
from virtiofsd_py.engine_config import EngineConfig
from virtiofsd_py.fuse import Handlers
from virtiofsd_py.options import Fsnotify, Options
from virtiofsd_py.vhost_user import Listener, Server, serve

NUM_RINGS = 8


def serve_one(listener: Listener, share: Path, handlers: Handlers, pool_threads: int) -> None:
    """What the daemon does, without its options."""
    config = EngineConfig(
        options=Options(
            shared_dir=os.fspath(share), fsnotify=Fsnotify.OFF, thread_pool_size=pool_threads
        ),
        root_fd=os.open(share, os.O_PATH | os.O_DIRECTORY),
        proc_self_fd=os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY),
        num_rings=NUM_RINGS,
        log_level=-1,
        upcalls=handlers.opcodes,
    )
    with core.Engine(config) as engine:

        def served() -> bool:
            engine.serve_upcalls(lambda upcall: handlers.serve(upcall, engine), handlers.forget)
            return True

        device = VirtioFsDevice(
            engine, num_rings=NUM_RINGS, num_request_queues=2, tag="test", fsnotify=False
        )
        connection = listener.accept()
        assert connection is not None
        try:
            with connection, Server(device) as server:
                serve(connection, server, {engine.upcall_fd: served})
        finally:
            device.close()


@contextmanager
def extended(
    handlers: Handlers, share: Path, socket: Path, pool_threads: int = 0, state: bytes | None = None
) -> Iterator[Session]:
    """Run it with a guest, which has said INIT unless it goes on with a `state`."""
    with Listener.bind(socket, 0o600) as listener:
        thread = threading.Thread(target=serve_one, args=(listener, share, handlers, pool_threads))
        thread.start()
        try:
            with Session.connect(socket, state=state) as session:
                if state is None:
                    session.fuse.init()
                yield session
        finally:
            thread.join()
