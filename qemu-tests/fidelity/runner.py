# SPDX-License-Identifier: BSD-3-Clause
"""Runs one scenario in one place and says what its observers saw."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from runguest.agent import Agent
from runguest.events import Event, Mask
from runguest.words import decode, encode

from .scenario import Observers, Scenario, Watch

EVENT_DEADLINE_MS: Final = 30_000
_FAN_DIRECTORIES: Final = 0x40000000 | 0x08000000  # FAN_ONDIR, FAN_EVENT_ON_CHILD
# What a file that has no name yet is called: by its inode number, another on each file system.
_NAMELESS: Final = re.compile(rb"#\d+")
_MARKERS: Final = b".markers"
_numbers: Final = itertools.count()

Sighting = tuple[str, ...]
"""What one instance saw, in order: ``("d CREATE|ISDIR x", "d/f MODIFY")``, watch first."""

Observation = tuple[Sighting, ...]
"""What each instance saw."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Somebody who sees a directory.

    Attributes:
        agent: who.
        root: where it sees the directory.
    """

    agent: Agent
    root: bytes


class ScenarioError(Exception):
    """A scenario did not run as written, so there is nothing to compare."""


class Stage:
    """One directory, its observer and its actor.

    Markers show when a change is over, not by time: see ``guest/observe.h``.
    """

    def __init__(self, observer: Seat, actor: Seat, host: Seat | None, paced: bool) -> None:
        """Prepares the directory of markers.

        Args:
            observer: watches.
            actor: acts.
            host: prepares, and makes markers between the actor's steps; None: the actor does. Not
                the actor, if ``paced``.
            paced: after each system call of the actor wait until its events have come.
        """
        self._observer = observer
        self._actor = actor
        self._host = host
        self._paced = paced
        self._maker = host or actor
        self._maker.agent.call("mkdir", _below(self._maker, _MARKERS), 0o755)
        observer.agent.call("markers", _below(observer, _MARKERS))

    def run(self, scenario: Scenario, way: Observers) -> Observation:
        """Runs ``scenario`` in a fresh directory, watched in that ``way``.

        Raises:
            ScenarioError: a step did not do as it should, or its marker did not come.
        """
        try:
            return self._run(scenario, way)
        except OSError as error:
            raise ScenarioError(f"{scenario.id}: {error}") from error

    def _run(self, scenario: Scenario, way: Observers) -> Observation:
        home = b"s%d" % next(_numbers)
        self._maker.agent.call("mkdir", _below(self._maker, home), 0o755)
        self._script(self._maker, home, scenario.given)
        self._script(self._actor, home, scenario.before)
        labels: dict[tuple[int, int], str] = {}
        for index, watches in enumerate(way):
            for watch in watches:
                self._watch(home, index, watch, labels)
        try:
            for phase in scenario.phases:
                self._script(self._actor, home, phase.script, self._paced)
                for index in range(len(way)):
                    if phase.watch:
                        self._settle()
                        like = replace(way[index][0], name=phase.watch, mask=Mask.ALL)
                        self._watch(home, index, like, labels)
                    if phase.unwatch:
                        self._settle()
                        self._unwatch(index, phase.unwatch, labels)
            self._settle()
            self._observer.agent.send("collect")
            words, _ = self._observer.agent.reply()
        finally:
            for seat in (self._observer, self._actor):
                seat.agent.call("end")
        return _observation(words, len(way), labels)

    def _watch(
        self, home: bytes, index: int, watch: Watch, labels: dict[tuple[int, int], str]
    ) -> None:
        path = _below(self._observer, home + b"/" + watch.name.encode())
        if watch.fanotify:
            wd = self._observer.agent.call(
                "fanobserve", index, int(watch.mask) | _FAN_DIRECTORIES, path
            )
        else:
            wd = self._observer.agent.call("observe", index, int(watch.mask), path)
        labels.setdefault((index, wd), watch.name)

    def _unwatch(self, index: int, name: str, labels: Mapping[tuple[int, int], str]) -> None:
        for (known, wd), label in labels.items():
            if (known, label) == (index, name):
                self._observer.agent.call("unobserve", index, wd)

    def _script(self, seat: Seat, home: bytes, text: str, paced: bool = False) -> None:
        if not text:
            return
        step, error = seat.agent.script(
            _below(seat, home), text.encode(), self._mark_and_await if paced else None
        )
        if step or error:
            raise ScenarioError(f"{step!r}: {os.strerror(error) if error else 'succeeded'}")

    def _settle(self) -> None:
        """Until all that the actor has done, and all that the host has to say of it, has come."""
        self._mark_and_await(self._actor)
        if self._host:
            self._mark_and_await(self._host)

    def _mark_and_await(self, by: Seat | None = None) -> None:
        name = b"m%d" % next(_numbers)
        maker = by or self._maker
        maker.agent.call("mknod", _below(maker, _MARKERS + b"/" + name), 0o644)
        self._observer.agent.call("await", name, EVENT_DEADLINE_MS)


def _below(seat: Seat, name: bytes) -> bytes:
    return seat.root + b"/" + name


def _observation(
    words: Sequence[str], count: int, labels: Mapping[tuple[int, int], str]
) -> Observation:
    seen: list[list[str]] = [[] for _ in range(count)]
    cookies: dict[tuple[int, int], str] = {}
    nameless: dict[tuple[int, bytes], str] = {}
    for head, name in zip(words[0::2], words[1::2], strict=True):
        index, wd, mask, cookie = (int(word, 0) for word in head.split(":"))
        event = Event(wd, Mask(mask), cookie, decode(name))
        shown = [labels.get((index, wd), f"wd-{wd}"), event.kind]
        if _NAMELESS.fullmatch(event.name):
            number = sum(known == index for known, _ in nameless) + 1
            shown.append(nameless.setdefault((index, event.name), f"#nameless-{number}"))
        elif event.name:
            shown.append(encode(event.name))
        if cookie:
            number = sum(known == index for known, _ in cookies) + 1
            shown.append(cookies.setdefault((index, cookie), f"#{number}"))
        seen[index].append(" ".join(shown))
    return tuple(tuple(sighting) for sighting in seen)
