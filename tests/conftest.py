# SPDX-License-Identifier: BSD-3-Clause
"""Hygiene for every test: nothing generated outside build/, nothing left open or running."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# For `tests.frontend`; last, so that virtiofsd_py is the installed one, which has the extension.
sys.path.append(str(ROOT))
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / "build/cache/hypothesis"))

from hypothesis import settings  # noqa: E402 - reads the environment when first used

# The same examples every time, and no opinion about how fast the machine is.
settings.register_profile("project", derandomize=True, deadline=None, database=None)
settings.load_profile("project")


def pytest_report_header() -> str:
    """Say which copy of the package is being tested."""
    spec = importlib.util.find_spec("virtiofsd_py")
    return f"virtiofsd_py: {spec.origin if spec else 'not installed'}"


def _descriptors() -> dict[int, str]:
    """Return this process's descriptors and what each refers to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the directory being listed
    return found


def _children() -> set[int]:
    """Return the pids of this process's children, zombies included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except FileNotFoundError:
            continue  # a thread that ended meanwhile, or a kernel without the file
    return found


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a descriptor, a child process or a thread."""
    descriptors, children = _descriptors(), _children()
    threads = set(threading.enumerate())
    yield
    left_threads = {t.name for t in set(threading.enumerate()) - threads if not t.daemon}
    left = _descriptors().items() - descriptors.items()
    if left:
        gc.collect()  # reference cycles are no leak
        left = _descriptors().items() - descriptors.items()
    left_children = _children() - children
    problems = [
        f"{what}: {sorted(things)}"
        for what, things in (
            ("descriptors", left),
            ("processes", left_children),
            ("threads", left_threads),
        )
        if things
    ]
    if problems:
        pytest.fail("left behind: " + "; ".join(problems), pytrace=False)
