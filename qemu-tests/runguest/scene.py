# SPDX-License-Identifier: BSD-3-Clause
"""One case's stage: a directory seen from both sides, an inotify instance in the guest."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final, Self

from .actors import Actor, host_call
from .agent import Agent
from .events import Event, Mask, describe

EVENT_DEADLINE_MS: Final = 30_000
"""For an event that must come."""
GRACE_MS: Final = 500
"""For events that must not come, where nothing later could prove their absence."""

_SENTINELS: Final = b".sentinels"
_numbers: Final = itertools.count()


class Scene:
    """A fresh directory of the share, acted on by ``host`` and ``guest``, watched by the guest.

    "Nothing more comes" needs no waiting: the instance also watches a directory of sentinels, and
    its queue is in order, so when a new sentinel's event has come, everything older has come too.

    Attributes:
        host: acts on the host.
        guest: acts in the guest.
        instance: the inotify instance.
    """

    def __init__(self, agent: Agent, share: Path, mount: Path, remote: bool = True) -> None:
        """Prepares the directory.

        Args:
            agent: in the guest.
            share: the shared directory, here.
            mount: the same in the guest.
            remote: host changes are expected to reach the guest; else sentinels are guest-made.
        """
        name = f"scene-{next(_numbers)}"
        (share / name).mkdir()
        (share / _SENTINELS.decode()).mkdir(exist_ok=True)
        self.directory = share / name
        self.host = Actor(host_call, bytes(share / name))
        self.guest = Actor(agent.call, bytes(mount / name))
        self.agent = agent
        self.instance = agent.inotify()
        self._remote = remote
        self._host_sentinels = Actor(host_call, bytes(share / _SENTINELS.decode()))
        self._guest_sentinels = Actor(agent.call, bytes(mount / _SENTINELS.decode()))
        self._sentinel_wd = self.instance.add(self._guest_sentinels.path(b"."), Mask.CREATE)
        self._labels: dict[int, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.host.close()
        self.guest.close()
        self.instance.close()

    def watch(self, label: str, name: bytes, mask: Mask = Mask.ALL) -> int:
        """The guest watches ``name``; its events appear under ``label``."""
        wd = self.instance.add(self.guest.path(name), mask)
        self._labels[wd] = label
        return wd

    def unwatch(self, label: str) -> None:
        """Ends the watch called ``label``."""
        self.instance.remove(next(wd for wd, known in self._labels.items() if known == label))

    def settle(self) -> dict[str, list[str]]:
        """Everything that has happened so far, by label, and forgets it; see ``describe``.

        Raises:
            AssertionError: the sentinel did not come.
        """
        early: list[Event] = []
        if not self._remote:  # a host event would come out of order, if it came
            early = self.instance.read(GRACE_MS, (self._sentinel_wd, b"never"))
        name = b"%d" % next(_numbers)
        sentinels = self._host_sentinels if self._remote else self._guest_sentinels
        sentinels.run([("mknod", name)])
        events = early + self.instance.read(EVENT_DEADLINE_MS, (self._sentinel_wd, name))
        self._host_sentinels.run([("unlink", name)])
        ours = [event for event in events if event.wd != self._sentinel_wd]
        assert events, "not even the sentinel came"
        assert events[-1].name == name, f"no sentinel; only {describe(ours, self._labels)}"
        return describe(ours, self._labels)
