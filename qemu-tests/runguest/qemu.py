# SPDX-License-Identifier: BSD-3-Clause
"""QEMU: command line, control by QMP, and whether KVM can be trusted."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qemu.qmp.legacy import QEMUMonitorProtocol

from . import paths
from .console import read_log
from .errors import GuestFailedError
from .processes import Child, Workspace
from .vmm import Machine, kernel_parameters

PORT_NAME: Final = "org.virtiofsd-py.run-guest"
ROOT_TAG: Final = "vfsd-root"
_KVM_DEADLINE_S: Final = 20.0
_QMP_DEADLINE_S: Final = 60.0
_MIGRATION_DEADLINE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Emulator:
    """A QEMU binary with its firmware and its accelerator (``kvm`` or ``tcg``)."""

    program: Path
    firmware: Path
    accel: str

    def arguments(self) -> list[str]:
        """The part of the command line that every machine shares."""
        accel = ["-accel", "kvm", "-cpu", "host"]
        if self.accel == "tcg":
            accel = ["-accel", "tcg,thread=multi", "-cpu", "max"]
        return [
            os.fspath(self.program),
            *(["-L", os.fspath(self.firmware)] if self.firmware.is_dir() else []),
            *accel,
            *("-nodefaults", "-no-user-config", "-nographic"),
        ]


def start(
    workspace: Workspace,
    machine: Machine,
    emulator: Emulator,
    console: Path,
    channel: socket.socket,
    share_socket: Path,
    root_socket: Path,
    qmp_socket: Path,
    log: Path,
    incoming: bool = False,
) -> Child:
    """Starts the guest; its root is the virtio-fs device behind ``root_socket``.

    A reboot or panic of the guest ends QEMU; only a QMP client can change that.

    Args:
        workspace: owner of the process.
        machine: what to start.
        emulator: on what.
        console: log of the guest's serial console.
        channel: the guest's end of the data channel.
        share_socket: of the share's daemon.
        root_socket: of the root's daemon.
        qmp_socket: where to listen for a QMP client.
        log: what QEMU itself prints.
        incoming: wait for a guest that runs elsewhere, instead of booting one; see ``migrate``.

    Raises:
        UsageError: QEMU cannot be run.
    """
    share = f"vhost-user-fs-pci,chardev=share,tag={machine.tag},num-request-queues={machine.queues}"
    if machine.notification:
        share += ",notification=on"
    parameters = [
        "console=ttyS0",
        f"root={ROOT_TAG}",
        "rootfstype=virtiofs",
        "panic=-1",
        "mitigations=off",
        *kernel_parameters(machine, f"virtio:{PORT_NAME}"),
    ]
    if emulator.accel == "tcg" and machine.smp > 1:
        # QEMU 10.0 may abort (iotlb_to_section) when one processor changes the memory map, as PCI's
        # set-up does, while another is running. So guest/init.c starts the others.
        parameters.append("maxcpus=1")
    argv = [
        *emulator.arguments(),
        *("-machine", "q35,memory-backend=mem", "-smp", str(machine.smp)),
        *("-m", f"{machine.mem_mib}M"),
        *("-object", f"memory-backend-memfd,id=mem,size={machine.mem_mib}M,share=on"),
        *("-action", "reboot=shutdown,panic=shutdown"),
        *("-qmp", f"unix:{qmp_socket},server=on,wait=off"),
        *("-serial", f"file:{console}"),
        *("-chardev", f"socket,id=share,path={share_socket}", "-device", share),
        *("-chardev", f"socket,id=root,path={root_socket}"),
        *("-device", f"vhost-user-fs-pci,chardev=root,tag={ROOT_TAG}"),
        *_attach(machine),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=channel,fd={channel.fileno()}"),
        *("-device", f"virtserialport,chardev=channel,name={PORT_NAME}"),
        *("-kernel", os.fspath(machine.kernel), "-append", " ".join(parameters)),
        *(["-initrd", os.fspath(machine.initrd)] if machine.initrd else []),
        *(["-incoming", "defer"] if incoming else []),
    ]
    return workspace.adopt(Child("qemu", argv, log, pass_fds=[channel.fileno()]))


def _attach(machine: Machine) -> Iterator[str]:
    """Arguments for the devices that are attached. Queues as long as the longest request."""
    for index, (tag, path) in enumerate(machine.attached):
        yield from ("-chardev", f"socket,id=attached{index},path={path}")
        device = f"vhost-user-fs-pci,chardev=attached{index},tag={tag},queue-size=1024"
        yield from ("-device", device)


@contextlib.contextmanager
def _monitor(qmp_socket: Path) -> Iterator[QEMUMonitorProtocol]:
    monitor = QEMUMonitorProtocol(os.fspath(qmp_socket))
    monitor.settimeout(_QMP_DEADLINE_S)
    monitor.connect(negotiate=True)
    try:
        yield monitor
    finally:
        monitor.close()


def system_reset(qmp_socket: Path) -> None:
    """Resets the guest as a power cycle would, and lets it boot again.

    Raises:
        qemu.qmp.QMPError: no such QEMU, or it refused.
    """
    with _monitor(qmp_socket) as monitor:
        monitor.cmd("set-action", reboot="reset")
        monitor.cmd("system_reset")


def _await_listening(child: Child, path: Path, end_s: float) -> None:
    # There is no event for "listens"; QMP takes one client after the other.
    while time.monotonic() < end_s and child.status is None:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(os.fspath(path))
            except OSError:
                time.sleep(0.01)
            else:
                return
    raise GuestFailedError(f"{child.name} does not listen at {path}")


def migrate(qmp_socket: Path, target: Child, target_qmp: Path, channel: Path) -> None:
    """Moves the guest to another QEMU, started with ``incoming``; returns when it runs there.

    Args:
        qmp_socket: of the QEMU where it runs.
        target: the other one.
        target_qmp: its QMP socket.
        channel: where to make the socket that the guest goes through.

    Raises:
        GuestFailedError: it goes on where it was, or nowhere.
        qemu.qmp.QMPError: no such QEMU.
    """
    end = time.monotonic() + _MIGRATION_DEADLINE_S
    _await_listening(target, target_qmp, end)
    with _monitor(target_qmp) as monitor:
        monitor.cmd("migrate-incoming", uri=f"unix:{channel}")
    with _monitor(qmp_socket) as monitor:
        monitor.cmd(
            "migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}]
        )
        monitor.cmd("migrate", uri=f"unix:{channel}")
        while True:
            event = monitor.pull_event(wait=max(0.0, end - time.monotonic()))
            if event is None:
                raise GuestFailedError(f"migration takes {_MIGRATION_DEADLINE_S:.0f} s")
            status = event["data"]["status"] if event["event"] == "MIGRATION" else None
            if status == "completed":
                return
            if status == "failed":
                raise GuestFailedError(f"migration failed: {monitor.cmd('query-migrate')}")


def kvm_works(workspace: Workspace, program: Path, firmware: Path, kernel: Path) -> bool:
    """Whether a guest really runs under KVM. Asked once per boot of the host and QEMU binary.

    A ``/dev/kvm`` may exist and its guests hang in the firmware or kill QEMU, so a kernel is booted
    until it panics for want of a root, all drivers initialised.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    key = f"{boot_id} {program} {program.stat().st_mtime_ns} {kernel.stat().st_mtime_ns}"
    cache = paths.BUILD / "guest" / "kvm-probe.json"
    try:
        known = json.loads(cache.read_text())
        if known["key"] == key:
            return bool(known["works"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    works = _boots_under_kvm(workspace, program, firmware, kernel)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps({"key": key, "works": works}) + "\n")
    return works


def _boots_under_kvm(workspace: Workspace, program: Path, firmware: Path, kernel: Path) -> bool:
    logs = workspace.directory("kvm")
    argv = [
        *Emulator(program, firmware, "kvm").arguments(),
        *("-machine", "q35", "-m", "128M", "-no-reboot"),
        *("-serial", f"file:{logs / 'console'}", "-kernel", os.fspath(kernel)),
        *("-append", "console=ttyS0 panic=-1"),
    ]
    child = workspace.adopt(Child("kvm-probe", argv, logs / "qemu"))
    status = child.wait(_KVM_DEADLINE_S)
    child.end(grace_s=0)
    return status == 0 and "Kernel panic" in read_log(logs / "console")
