# SPDX-License-Identifier: BSD-3-Clause
"""Which of root's capabilities are kept, through libcap-ng.

Spec: capabilities(7), cap-ng(3).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from virtiofsd_py._sandbox import lib
from virtiofsd_py.errors import StartError
from virtiofsd_py.options import CAPABILITY_NAMES, CapabilityChange

_log = logging.getLogger(__name__)

USUAL: Final = frozenset(
    {"chown", "dac_override", "fowner", "fsetid", "setgid", "setuid", "mknod", "setfcap"}
)
"""What serving other users' files takes."""

FOR_HANDLES: Final = frozenset({"dac_read_search"})
"""What opening a file by its handle takes besides."""


def kept(*, file_handles: bool, changes: Iterable[CapabilityChange]) -> frozenset[str]:
    """Return the names to keep.

    Args:
        file_handles: whether inodes may be held by file handle.
        changes: what ``--modcaps`` says.
    """
    names = USUAL | FOR_HANDLES if file_handles else set(USUAL)
    for change in changes:
        names = names | {change.name} if change.keep else names - {change.name}
    return frozenset(names)


def keep_only(names: frozenset[str]) -> None:
    """Drop every capability but `names`, for this thread and those it will make.

    What we do not have cannot be kept, and is left out: containers give root less.

    Args:
        names: as in `CAPABILITY_NAMES`.

    Raises:
        StartError: the kernel refuses.
    """
    lib.capng_get_caps_process()
    numbers = {CAPABILITY_NAMES.index(name) for name in names}
    missing = {n for n in numbers if not lib.capng_have_capability(lib.CAPNG_PERMITTED, n)}
    if missing:
        absent = sorted(CAPABILITY_NAMES[number] for number in missing)
        _log.warning("event=capabilities_missing names=%s", ",".join(absent))
    # Only who has this may narrow the bounding set; nobody executes a program here anyway.
    may_bound = lib.capng_have_capability(lib.CAPNG_EFFECTIVE, CAPABILITY_NAMES.index("setpcap"))
    which = lib.CAPNG_SELECT_BOTH if may_bound else lib.CAPNG_SELECT_CAPS
    lib.capng_clear(which)
    for number in numbers - missing:
        lib.capng_update(lib.CAPNG_ADD, lib.CAPNG_EFFECTIVE | lib.CAPNG_PERMITTED, number)
    result = lib.capng_apply(which)
    if result != 0:
        raise StartError(f"capabilities cannot be dropped: capng_apply returned {result}")
