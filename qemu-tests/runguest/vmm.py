# SPDX-License-Identifier: BSD-3-Clause
"""What both kinds of guest are started with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from . import paths


@dataclass(frozen=True, slots=True)
class Machine:
    """A guest as asked for.

    Attributes:
        kernel: UML binary or bzImage.
        smp: virtual CPUs.
        queues: request queues of the share.
        mem_mib: guest memory, MiB.
        tag: tag of the share.
        notification: the share's device has a notification queue.
        append: further kernel parameters.
        initrd: a QEMU guest starts with that, if it is not None.
        attached: further virtio-fs devices (QEMU): tag, and socket of the daemon.
    """

    kernel: Path
    smp: int
    queues: int
    mem_mib: int
    tag: str
    notification: bool
    append: str = ""
    initrd: Path | None = None
    attached: tuple[tuple[str, Path], ...] = ()


def kernel_parameters(machine: Machine, channel: str, **more: str) -> list[str]:
    """Parameters for the kernel and, by its environment, for ``guest/init.c``."""
    init = {
        "vfsd_channel": channel,
        "vfsd_tag": machine.tag,
        "vfsd_tools": str(paths.TOOLS),
        **more,
    }
    return [
        "ro",
        f"init={paths.INIT}",
        "loglevel=7",
        *(_parameter(name, value) for name, value in init.items()),
        *shlex.split(machine.append),
    ]


def _parameter(name: str, value: str) -> str:
    return f'{name}="{value}"' if " " in value else f"{name}={value}"
