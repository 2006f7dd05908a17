# SPDX-License-Identifier: BSD-3-Clause
"""Pages with figures: where those come from, and where they go."""

from __future__ import annotations

import os
import time
from pathlib import Path


def describe() -> str:
    """Return when and on what machine this is, as one line."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
            break
    cores = len(os.sched_getaffinity(0))
    kernel = os.uname().release.partition("-")[0]
    busy = os.getloadavg()[0]
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())} on {cores} cores ({model}), Linux {kernel}, "
        f"load average {busy:.1f} at the end"
    )


def put_into(path: Path, text: str, place: str) -> None:
    """Put `text` into the place marked for it in a page; without the mark it becomes the page."""
    page = path.read_text() if path.exists() else ""
    before, begin, rest = page.partition(f"<!-- {place}: begin -->\n")
    _, end, after = rest.partition(f"<!-- {place}: end -->\n")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}" if begin and end else text)
