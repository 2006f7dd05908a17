# SPDX-License-Identifier: BSD-3-Clause
"""QEMU: command line, control by QMP, and whether KVM can be trusted."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qemu.qmp.legacy import QEMUMonitorProtocol

from . import paths
from .console import read_log
from .processes import Child, Workspace
from .vmm import Machine, kernel_parameters

PORT_NAME: Final = "org.virtiofsd-py.run-guest"
ROOT_TAG: Final = "vfsd-root"
_KVM_DEADLINE_S: Final = 20.0
_QMP_DEADLINE_S: Final = 60.0


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
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=channel,fd={channel.fileno()}"),
        *("-device", f"virtserialport,chardev=channel,name={PORT_NAME}"),
        *("-kernel", os.fspath(machine.kernel), "-append", " ".join(parameters)),
    ]
    return workspace.adopt(Child("qemu", argv, log, pass_fds=[channel.fileno()]))


def system_reset(qmp_socket: Path) -> None:
    """Resets the guest as a power cycle would, and lets it boot again.

    Raises:
        qemu.qmp.QMPError: no such QEMU, or it refused.
    """
    monitor = QEMUMonitorProtocol(os.fspath(qmp_socket))
    monitor.settimeout(_QMP_DEADLINE_S)
    monitor.connect(negotiate=True)
    try:
        monitor.cmd("set-action", reboot="reset")
        monitor.cmd("system_reset")
    finally:
        monitor.close()


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
