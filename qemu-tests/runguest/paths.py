# SPDX-License-Identifier: BSD-3-Clause
"""Where things are. Nothing here touches the file system on import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

REPO: Final = Path(__file__).resolve().parents[2]
BUILD: Final = REPO / "build"
SOURCES: Final = REPO / "qemu-tests" / "guest"
EXAMPLES: Final = REPO / "qemu-tests" / "examples"
RUN_GUEST: Final = REPO / "qemu-tests" / "run-guest"

TOOLS: Final = BUILD / "guest" / "tools"
INIT: Final = TOOLS / "init"
UML_KERNEL: Final = BUILD / "guest" / "uml" / "linux"
X86_KERNEL: Final = BUILD / "guest" / "x86" / "bzImage"
QEMU: Final = BUILD / "qemu" / "qemu-system-x86_64"
FIRMWARE: Final = BUILD / "qemu" / "pc-bios"
FAILED_GUESTS: Final = BUILD / "log" / "failed-guests"
DAEMON: Final = BUILD / "venv" / "bin" / "virtiofsd-py"

GUEST_SHARE: Final = "/mnt/share"
"""Where the guest mounts the share."""
GUEST_TOOLS: Final = "/mnt/tools"
"""Where the guest sees ``TOOLS``, whatever its tmpfs mounts hide."""
GUEST_HOST: Final = "/mnt/host"
"""Where a UML guest sees the share as the host does (hostfs)."""


def from_environment(variable: str, default: Path) -> Path:
    """The path in ``variable`` if it is set and not empty, else ``default``."""
    value = os.environ.get(variable)
    return Path(value) if value else default
