# SPDX-License-Identifier: BSD-3-Clause
"""The daemons that are compared: ours, and the two others as far as they can be fetched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_PEERS: Final = ROOT / "build" / "peers"
_OURS: Final = os.environ.get("VIRTIOFSD_PY", str(ROOT / "build/venv/bin/virtiofsd-py"))

OURS: Final = (
    f"{_OURS} --fd {{fd}} --shared-dir {{share}} --sandbox chroot --log-level warn "
    + os.environ.get("OURS_ARGUMENTS", "")
)
"""Ours, with further arguments from the environment."""
OURS_SLEEPING: Final = f"{OURS} --poll-us 0"
_C: Final = (
    f"{_PEERS}/c-virtiofsd --fd={{fd}} -o source={{share}} "
    "-o sandbox=chroot -o cache=auto -o log_level=err"
)
_RUST: Final = (
    f"{_PEERS}/rust-virtiofsd --fd {{fd}} --shared-dir {{share}} --sandbox chroot --log-level error"
)
# Without this it holds a descriptor for each inode, and the machine may not allow that many.
_RUST_HANDLES: Final = f"{_RUST} --inode-file-handles=prefer --modcaps=+dac_read_search"

Commands = Sequence[tuple[str, str]]
"""Names and command lines with {fd} and {share}, ours first."""


def commands(*, handles: bool = False) -> Commands:
    """Fetch the others, and return those that are there.

    Args:
        handles: whether the Rust daemon comes a second time, with file handles for inodes.
    """
    subprocess.run([ROOT / "bench/fetch-peers"], stdout=sys.stderr, check=False)
    found = [("ours", OURS)]
    wanted = [("c", _C), ("rust", _RUST), *([("rust-handles", _RUST_HANDLES)] if handles else [])]
    for name, command in wanted:
        if os.access(command.split()[0], os.X_OK):
            found.append((name, command))
        else:
            sys.stderr.write(f"bench: WITHOUT {name}, which could not be fetched\n")
    return found
