# SPDX-License-Identifier: BSD-3-Clause
"""The command line of ``run-guest``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import paths
from .errors import UsageError

_EPILOG = f"""
The share is mounted at {paths.GUEST_SHARE} in the guest, which is COMMAND's working directory.
The guest's root is this machine's, read-only, with empty tmpfs on /tmp, /run, /mnt and /var/tmp.
A UML guest also sees the share at {paths.GUEST_HOST}: what is done there is done by the host.

SIGUSR1 moves a QEMU guest to another QEMU, with daemons of its own, on this machine.

exit status: that of COMMAND (128 + N if signal N killed it); 124 if --timeout ran out; 125 if
guest, VMM or daemon failed: no answer, a crash, a BUG or WARNING on the console, a daemon that did
not end cleanly (the logs are shown); 126 or 127 if COMMAND cannot be run; 2 for a wrong command
line.

environment: RUN_GUEST_DAEMON, RUN_GUEST_ROOT_DAEMON, RUN_GUEST_QEMU, RUN_GUEST_UML_KERNEL and
RUN_GUEST_X86_KERNEL name other files than the built ones.
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, checked against the file system.

    Attributes:
        vmm: ``uml`` or ``qemu``.
        smp: virtual CPUs.
        queues: request queues of the share.
        mem_mib: guest memory, MiB.
        share: shared directory; None: an empty temporary one.
        daemon: the daemon under test.
        root_daemon: serves the root of a QEMU guest.
        daemon_args: further arguments of the daemon under test.
        notification: give the share's device a notification queue.
        kernel: UML binary or bzImage.
        append: further kernel parameters.
        qemu: QEMU binary.
        accel: ``auto``, ``kvm`` or ``tcg``.
        timeout_s: for everything, seconds; None: no limit.
        attached: further virtio-fs devices of a QEMU guest: tag, and socket of a daemon that runs.
        logs: where logs and state stay; None: they go.
        command: what runs in the guest.
    """

    vmm: str
    smp: int
    queues: int
    mem_mib: int
    share: Path | None
    daemon: Path
    root_daemon: Path
    daemon_args: tuple[str, ...]
    notification: bool
    kernel: Path
    append: str
    qemu: Path
    accel: str
    timeout_s: float | None
    attached: tuple[tuple[str, Path], ...]
    logs: Path | None
    command: tuple[str, ...]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _attachment(text: str) -> tuple[str, Path]:
    tag, equals, path = text.partition("=")
    if not tag or not equals:
        raise argparse.ArgumentTypeError("must be TAG=SOCKET")
    return tag, Path(path).absolute()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run-guest",
        usage="run-guest --vmm uml|qemu [option]... -- COMMAND [ARGUMENT]...",
        description="Run COMMAND in a guest that mounts a directory of this machine by virtio-fs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--vmm", choices=("uml", "qemu"), required=True, help="kind of guest")
    add("--smp", type=_positive, default=1, metavar="N", help="virtual CPUs (QEMU), default 1")
    add("--queues", type=_positive, default=1, metavar="N", help="request queues, default 1")
    add("--mem", type=_positive, default=256, metavar="MiB", help="guest memory, default 256")
    add("--share", type=Path, metavar="DIR", help="directory to share, default an empty one")
    add("--daemon", type=Path, metavar="PATH", help="daemon, default the built virtiofsd-py")
    add("--daemon-arg", action="append", default=[], metavar="ARG", help="for it; repeatable")
    add("--no-notification", action="store_true", help="no notification queue")
    add("--kernel", type=Path, metavar="PATH", help="guest kernel, default the built one")
    add("--append", default="", metavar="PARAMETERS", help="further kernel parameters")
    add("--qemu", type=Path, metavar="PATH", help="QEMU, default the built one")
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="auto: KVM if it works")
    add("--timeout", type=float, metavar="S", help="give up after S seconds")
    attach = "virtio-fs device of a daemon that runs already (QEMU); repeatable"
    add("--attach", type=_attachment, action="append", default=[], metavar="TAG=PATH", help=attach)
    add("--keep-logs", type=Path, metavar="DIR", help="leave logs, state.json, result.json in DIR")
    add("command", nargs="+", metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


def parse(argv: Sequence[str]) -> Options:
    """Reads the command line.

    Raises:
        UsageError: it makes no sense, or names a file that is not there.
        SystemExit: argparse's own complaints (status 2) and ``--help``.
    """
    raw = _parser().parse_args(argv)
    uml = raw.vmm == "uml"
    if uml and raw.smp != 1:
        raise UsageError("--smp: a UML guest has one CPU")
    if uml and raw.attach:
        raise UsageError("--attach: a UML guest has one share")
    built_kernel = (
        paths.from_environment("RUN_GUEST_UML_KERNEL", paths.UML_KERNEL)
        if uml
        else paths.from_environment("RUN_GUEST_X86_KERNEL", paths.X86_KERNEL)
    )
    daemon = raw.daemon or paths.from_environment("RUN_GUEST_DAEMON", paths.DAEMON)
    options = Options(
        vmm=raw.vmm,
        smp=raw.smp,
        queues=raw.queues,
        mem_mib=raw.mem,
        share=raw.share.absolute() if raw.share else None,
        daemon=daemon,
        root_daemon=paths.from_environment("RUN_GUEST_ROOT_DAEMON", paths.DAEMON),
        daemon_args=tuple(raw.daemon_arg),
        notification=not raw.no_notification,
        kernel=(raw.kernel or built_kernel).absolute(),
        append=raw.append,
        qemu=raw.qemu or paths.from_environment("RUN_GUEST_QEMU", paths.QEMU),
        accel=raw.accel,
        timeout_s=raw.timeout,
        attached=tuple(raw.attach),
        logs=raw.keep_logs.absolute() if raw.keep_logs else None,
        command=tuple(raw.command),
    )
    needed = [options.daemon, options.kernel]
    if not uml:
        needed += [options.root_daemon, options.qemu]
    for path in needed:
        if not path.is_file():
            raise UsageError(f"{path} does not exist (make build)")
    if options.share and not options.share.is_dir():
        raise UsageError(f"--share: {options.share} is not a directory")
    return options
