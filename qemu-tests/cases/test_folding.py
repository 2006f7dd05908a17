# SPDX-License-Identifier: BSD-3-Clause
"""Names that fold case, on a host that can: the guest is that host.

A UML kernel has ext4 with casefold, whatever this machine's kernel has. Its root is this machine's,
so the daemon and its tests are there.
"""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from runguest import paths

DEADLINE_S = 300
TESTS = paths.BUILD.parent / "tests" / "daemon" / "test_normalising.py"
# Where the guest has something of its own upon what is this machine's.
HIDDEN = ("/tmp", "/var/tmp", "/run", "/mnt")


@pytest.mark.only("uml")
def test_folded_names_in_a_guest_that_is_the_daemons_host(vmm: str) -> None:
    hides_us = [place for place in HIDDEN if TESTS.is_relative_to(place)]
    room = next(place for place in HIDDEN if place not in hides_us)
    pytest_in_guest = [
        *(
            "sh",
            "-c",
            f'umount {" ".join(hides_us)} && exec "$@"' if hides_us else 'exec "$@"',
            "sh",
        ),
        *("env", "PYTHONDONTWRITEBYTECODE=1", os.fspath(paths.BUILD / "venv/bin/pytest")),
        *("-q", "-rs", "-o", f"cache_dir={room}/cache", f"--basetemp={room}/tests"),
        *("-k", "folded", os.fspath(TESTS)),
    ]
    done = subprocess.run(
        [os.fspath(paths.RUN_GUEST), "--vmm", vmm, "--mem", "512", "--", *pytest_in_guest],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Both modes, and none of them skipped.
    assert re.search(r"^2 passed, \d+ deselected in", done.stdout, re.MULTILINE), done.stdout
