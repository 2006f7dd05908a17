# SPDX-License-Identifier: BSD-3-Clause
"""User-mode Linux: the kernel is a program, its virtio driver the vhost-user front-end."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

from .processes import Child, Workspace
from .vmm import Machine, kernel_parameters

_VIRTIO_ID_FS: Final = 26

# The shell is PID 1 of a namespace of the guest's own: when it goes, or unshare is killed, the
# kernel kills every process of the guest with it. A traced UML process must not outlive its kernel,
# for it would then run the guest's system calls on the host. With address randomisation UML adds up
# to 1 GiB of memory to what was asked for.
_CONFINE: Final = (
    *("setarch", "--addr-no-randomize", "unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--"),
    *("/bin/sh", "-c", '"$@"; exit $?', "uml"),
)


def start(
    workspace: Workspace,
    machine: Machine,
    console: Path,
    channel: socket.socket,
    share_socket: Path,
    share: Path,
) -> Child:
    """Starts the guest; the host's userland is its root, read-only.

    Args:
        workspace: owner of the process.
        machine: what to start; ``smp`` must be 1.
        console: log of the kernel's console.
        channel: the guest's end of the data channel.
        share_socket: of the share's daemon.
        share: the shared directory, also given to the guest by hostfs.

    Raises:
        UsageError: the kernel cannot be run.
    """
    argv = [
        *_CONFINE,
        os.fspath(machine.kernel),
        f"mem={machine.mem_mib}M",
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        f"virtio_uml.device={share_socket}:{_VIRTIO_ID_FS}",
        f"uml_dir={workspace.directory('uml')}/",
        "umid=guest",
        "con0=fd:0,fd:1",
        f"con1=fd:{channel.fileno()}",
        *kernel_parameters(machine, "/dev/tty1", vfsd_host=str(share)),
    ]
    return workspace.adopt(Child("uml", argv, console, pass_fds=[channel.fileno()]))
