# SPDX-License-Identifier: BSD-3-Clause
"""The network namespace's side of the sandbox: what can be reached from in here."""

from __future__ import annotations


def links() -> list[str]:
    """Return the names of this namespace's network interfaces; a new one has ``lo``, down.

    Slow, and to be called before the root changes: pyroute2 is imported only here, because that
    takes longer than all the rest of the start.
    """
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return [link.get("ifname") for link in route.get_links()]
