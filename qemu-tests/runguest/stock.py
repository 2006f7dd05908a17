# SPDX-License-Identifier: BSD-3-Clause
"""Guests whose kernel is not told what the host does, with virtiofsd-agent running in them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from . import paths
from .agent import GUEST_AGENT, Agent
from .errors import GuestFailedError
from .events import Event, Mask
from .scene import Scene

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
AGENT: Final = paths.BUILD / "agent" / _ARCHITECTURES[platform.machine()] / "virtiofsd-agent"
DAEMON: Final = paths.BUILD.parent / "qemu-tests" / "stock-daemon"
KERNEL: Final = paths.BUILD.parent / "qemu-tests" / "kernel" / "debian"
SUITE: Final = "bookworm"

LOOK_MS: Final = 20
_SERVED_DEADLINE_S: Final = 60.0
_TRY_MS: Final = 4 * LOOK_MS


def options(vmm: str, *daemon_args: str) -> list[str]:
    """Options of run-guest for such a guest: Debian's own kernel in QEMU, ours without the queue.

    In UML, which no distribution has a kernel for, it is the daemon that is made to look stock.
    """
    arguments = [f"--daemon-arg={arg}" for arg in daemon_args]
    if vmm == "uml":
        return ["--daemon", os.fspath(DAEMON), *arguments]
    subprocess.run([sys.executable, KERNEL, SUITE], check=True, capture_output=True)
    home = paths.BUILD / "stock" / SUITE
    kernel = [f"--kernel={home / 'vmlinuz'}", f"--initrd={home / 'initramfs'}"]
    return ["--no-notification", *kernel, *arguments]


def command(agent: str) -> tuple[str, ...]:
    """The guest's command: the case's hand, and `agent` as a shell starts it before."""
    tracefs = "mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null"
    return ("/bin/sh", "-c", "\n".join([tracefs, agent, f"exec {GUEST_AGENT}"]))


def running(agent: Path = AGENT) -> str:
    """How a shell starts virtiofsd-agent."""
    return f"{agent} --interval {LOOK_MS} --verbose {paths.GUEST_SHARE} &"


class StockScene(Scene):
    """A scene whose watches are known to virtiofsd-agent once they are placed.

    There is no call that returns when they are: the host does something to what is watched, until
    the watcher sees it.
    """

    def __init__(self, agent: Agent, share: Path, mount: Path) -> None:
        """Prepares the directory and the sentinels; see `Scene`."""
        super().__init__(agent, share, mount)
        end = time.monotonic() + _SERVED_DEADLINE_S
        sentinel = share / ".sentinels" / f"first-{self.directory.name}"
        while not self.instance.read(_TRY_MS, (self._sentinel_wd, os.fsencode(sentinel.name))):
            if time.monotonic() > end:
                raise GuestFailedError("virtiofsd-agent does not serve this guest")
            sentinel.unlink(missing_ok=True)
            sentinel.touch()
        sentinel.unlink(missing_ok=True)

    def watch(self, label: str, name: bytes, mask: Mask = Mask.ALL) -> int:
        """As `Scene.watch`, and the agent knows of it; nothing is left to be read."""
        wd = super().watch(label, name, mask | Mask.ATTRIB | Mask.CREATE)
        end = time.monotonic() + _SERVED_DEADLINE_S
        events: list[Event] = []
        while all(event.wd != wd for event in events):
            if time.monotonic() > end:
                raise GuestFailedError(f"the watch of {name!r} is not served")
            self._touch(os.path.join(os.fsencode(self.directory), name))
            events = self.instance.read(_TRY_MS)
        self.settle()
        return wd

    def _touch(self, path: bytes) -> None:
        """Do what no watcher sees but that of `path` itself, not one of its directory either."""
        if os.path.isdir(path):
            os.mknod(os.path.join(path, b"primed"))
            os.unlink(os.path.join(path, b"primed"))
        else:
            other = os.path.join(os.fsencode(self.directory.parent), b".sentinels", b"primed")
            os.link(path, other)
            os.unlink(other)
