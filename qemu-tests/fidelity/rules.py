# SPDX-License-Identifier: BSD-3-Clause
"""What may differ from a local file system, for whom, and why. Everything else is a fault.

A rule either takes out of two sightings what may differ, and the rest has to be equal, or compares
them in its own way. Each has its tests in ``cases/test_fidelity_rules.py``: what it excuses, and
what it must not. Rules are combined only where one does not do.
"""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from runguest.events import Mask

from .runner import Observation, Sighting
from .scenario import Scenario, Watch


@dataclass(frozen=True, slots=True)
class About:
    """What two sightings are of.

    Attributes:
        scenario: what was done.
        watches: of the instance that saw it.
    """

    scenario: Scenario
    watches: Sequence[Watch]

    def _steps(self, given: bool) -> list[list[str]]:
        """The script's steps, word by word."""
        scripts = [self.scenario.before, *(phase.script for phase in self.scenario.phases)]
        scripts += [self.scenario.given] if given else []
        return [step.split() for script in scripts for step in re.split("[;|()]", script)]

    def does(self, *verbs: str) -> bool:
        """The script has one of these verbs."""
        return any(step and step[0] in verbs for step in self._steps(given=False))

    def linked(self) -> set[str]:
        """The names, without their directories, of files that have several."""
        links = (step for step in self._steps(given=True) if step and step[0] == "link")
        return {path.rpartition("/")[2] for step in links for path in step[1:]}

    def flagged(self, flag: Mask) -> set[str]:
        """The names that are watched with ``flag``."""
        return {watch.name for watch in self.watches if watch.mask & flag}


Pair = tuple[Sighting, Sighting]
"""What was seen on a local file system, and what was seen."""


def _always(_: About) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason for a difference.

    Attributes:
        name: short.
        why: what cannot be known or promised, and what is promised all the same.
        actors: whose changes it is about; see ``suite.ACTORS``.
        strip: takes out what may differ.
        alike: compares the rest; equality, if the rule has nothing to say on order.
        about: it is about these only.
    """

    name: str
    why: str
    actors: frozenset[str]
    strip: Callable[[About, Pair], Pair] = lambda _, pair: pair
    alike: Callable[[Pair], bool] | None = None
    about: Callable[[About], bool] = field(default=_always)


# -- the parts of a shown event ------------------------------------------------------------------


def watch_of(event: str) -> str:
    """Which watch an event belongs to."""
    return event.split(" ")[0]


def kind_of(event: str) -> str:
    """Its bit, without ISDIR."""
    return event.split(" ")[1].removesuffix("|ISDIR")


def name_of(event: str) -> str:
    """The name it carries, or nothing."""
    words = event.split(" ")
    return words[2] if len(words) > 2 else ""


def is_of_directory(event: str) -> bool:
    """It has ISDIR."""
    return event.split(" ")[1].endswith("|ISDIR")


def uncookied(event: str) -> str:
    """Cookies count up in order of appearance, which says nothing once events are taken apart."""
    return " ".join(event.split(" ")[:3])


def squeeze(events: Iterable[str]) -> Sighting:
    """Without events that repeat the one before, which an unread queue merges."""
    return tuple(event for event, _ in itertools.groupby(events))


def only(events: Iterable[str], keep: Callable[[str], bool]) -> Sighting:
    """The events to ``keep``; what are neighbours only now was merged, or not, in vain."""
    return squeeze(event for event in events if keep(event))


def parts_by(events: Iterable[str], key: Callable[[str], object]) -> dict[object, list[str]]:
    """The events of each key in their order, without cookies."""
    parts: dict[object, list[str]] = {}
    for event in events:
        parts.setdefault(key(event), []).append(uncookied(event))
    return parts


def _watch_and_name(event: str) -> tuple[str, str]:
    return watch_of(event), name_of(event)


_VISITS: Final = frozenset({"OPEN", "ACCESS", "CLOSE_WRITE", "CLOSE_NOWRITE"})
_ON_CHILD: Final = _VISITS | {"MODIFY", "ATTRIB"}
_ENDS: Final = frozenset({"DELETE_SELF", "IGNORED"})

# -- the order of what happens at the same time --------------------------------------------------


def same_but_for_order_of_branches(pair: Pair) -> bool:
    """Each name's own events are the same, in the same order."""
    ours, theirs = (
        {key: squeeze(events) for key, events in parts_by(sighting, _watch_and_name).items()}
        for sighting in pair
    )
    return ours == theirs


# -- what the host's queue merges ----------------------------------------------------------------

_CANONICAL: Final = (
    *("CREATE", "MOVED_FROM", "MOVED_TO", "MOVE_SELF", "OPEN", "ACCESS", "MODIFY", "ATTRIB"),
    *("CLOSE_WRITE", "CLOSE_NOWRITE", "DELETE_SELF", "DELETE", "IGNORED"),
)
_NAMES: Final = ("CREATE", "DELETE")
# fanotify has the place of an object in events of its contents, and none in those of itself; of
# ATTRIB there are both kinds, and they look the same here.
_SELVES: Final = ("MOVE_SELF", "DELETE_SELF", "IGNORED")


def _short_lived(window: Sequence[str]) -> set[str]:
    """The names of directories that come and go."""
    return {
        name_of(event)
        for event in window
        if is_of_directory(event)
        and kind_of(event) == "DELETE"
        and event.replace("DELETE", "CREATE") in window
    }


def _heirs(window: Sequence[str]) -> Iterable[int | None]:
    """How many events an object may have that gets the name of one that is still open.

    What follows is of that one. None: it is one object, that has lost its name and got it back.
    """
    gone: set[str] = set()
    for event in window:
        if kind_of(event) == "CREATE" and name_of(event) in gone:
            return (None, *range(len(window)))
        if kind_of(event) == "DELETE":
            gone.add(name_of(event))
    return (None, len(window))


def _groups(
    window: Sequence[str], attrib_of_self: bool, heirs: int | None
) -> Iterable[Sequence[str]]:
    """The events that become one each."""
    short_lived = _short_lived(window)
    groups: dict[tuple[object, ...], list[str]] = {}
    moves = 0
    life: dict[str, int] = {}
    left: dict[str, int] = {}
    for event in window:
        kind, name, is_dir = kind_of(event), name_of(event), is_of_directory(event)
        if kind == "CREATE" and heirs is not None:
            life[name] = life.get(name, 0) + 1
            left[name] = heirs
        now = life.get(name, 0)
        if kind in ("MOVED_FROM", "MOVED_TO"):
            key: tuple[object, ...] = (name, "move", kind, is_dir)
        elif kind in _NAMES and is_dir and name not in short_lived:
            key = (name, "name", now)
        elif not name and (kind in _SELVES or (kind == "ATTRIB" and attrib_of_self)):
            moves += kind == "MOVE_SELF"
            key = ("", "self")
        else:
            if kind not in _NAMES and now > 0:
                now -= left[name] <= 0
                left[name] -= 1
            key = (name, "object", moves, is_dir, now)  # it has another name when it has moved
        group = groups.setdefault(key, [])
        if event not in group:
            group.append(event)
    return groups.values()


def _pieces(window: Sequence[str]) -> list[tuple[str, ...]]:
    """How the unread events ``window`` of one watch may come out: one object's bits together.

    Those of a file with its name's. A directory's are apart from its name's, and are reported
    before it goes if they were read together with its whole life.
    """
    pieces = []
    for attrib_of_self, heirs in itertools.product((False, True), _heirs(window)):
        # Ends come when all else has that is known of the object.
        ends = [event for event in window if kind_of(event) in _ENDS]
        orders = []
        for group in _groups(window, attrib_of_self, heirs):
            rest = [event for event in group if kind_of(event) not in _ENDS]
            rest.sort(key=lambda event: _CANONICAL.index(kind_of(event)))
            # Of a name that came and went, its presence now shows which was last.
            both = set(_NAMES) <= {kind_of(event) for event in rest}
            orders.append([rest, [rest[-1], *rest[:-1]]] if both else [rest])
        pieces += [
            (*(event for group in choice for event in group), *ends)
            for choice in itertools.product(*orders)
        ]
    return list(dict.fromkeys(pieces))


def comes_of_merging(local: Sequence[str], seen: Sequence[str]) -> bool:
    """Can the host's queue have made ``seen`` of ``local``, the events of one watch?

    It can if ``local`` can be cut into what the daemon read at a time, so that in each piece each
    object's events come once each, in the order of ``vfsd_source_next_bit()``.
    """
    want = squeeze(seen)
    reached = {0: {0}}  # how much of local: how much of want
    for start in range(len(local)):
        for at in sorted(reached.get(start, ())):
            for end in range(start + 1, len(local) + 1):
                for piece in _pieces(local[start:end]):
                    after = _follow(want, at, piece)
                    if after is None:
                        continue
                    reached.setdefault(end, set()).add(after)
                    # Locally the last may be several that were merged, and be read in two parts.
                    if end - 1 > start:
                        reached.setdefault(end - 1, set()).add(after)
    return len(want) in reached.get(len(local), ())


def _follow(want: Sequence[str], at: int, piece: Sequence[str]) -> int | None:
    for event in piece:
        if at > 0 and want[at - 1] == event:
            continue
        if at == len(want) or want[at] != event:
            return None
        at += 1
    return at


def _merged_by(key: Callable[[str], object]) -> Callable[[Pair], bool]:
    def alike(pair: Pair) -> bool:
        ours, theirs = (parts_by(sighting, key) for sighting in pair)
        return ours.keys() == theirs.keys() and all(
            comes_of_merging(ours[part], theirs[part]) for part in ours
        )

    return alike


merged_by_the_host: Final = _merged_by(watch_of)
"""Each watch's events come of merging."""

merged_in_branches: Final = _merged_by(_watch_and_name)
"""Each name's events come of merging."""


def without_what_follows_the_end(about: About, pair: Pair) -> Pair:
    """What a watch that has ended saw too much, for it was merged with what it had to see."""
    local, seen = pair
    ended = {watch_of(event) for event in local if kind_of(event) == "IGNORED"}
    ended |= about.flagged(Mask.EXCL_UNLINK)
    known = collections.Counter(map(uncookied, local))
    met: collections.Counter[str] = collections.Counter()

    def keep(event: str) -> bool:
        met[event] += 1
        within = met[event] <= known[uncookied(event)]
        return within or watch_of(event) not in ended or kind_of(event) not in _ON_CHILD

    return local, only(seen, keep)


# -- what is not there to be known -----------------------------------------------------------------


def without_late_visits_of_gone_directories(about: About, pair: Pair) -> Pair:
    """Without events, by name, of directories behind their removal."""
    blind = {watch.name for watch in about.watches if not watch.mask & Mask.DELETE}

    def kept(sighting: Sighting) -> Sighting:
        gone: set[tuple[str, str]] = set()
        result = []
        for event in sighting:
            key = _watch_and_name(event)
            if kind_of(event) == "DELETE" and is_of_directory(event):
                gone.add(key)
            late = key in gone or key[0] in blind
            if not (late and key[1] and kind_of(event) in _ON_CHILD and is_of_directory(event)):
                result.append(event)
        return squeeze(result)

    return kept(pair[0]), kept(pair[1])


def without_names_of_links(about: About, pair: Pair) -> Pair:
    """Without the names of links in events that are no names' own."""
    linked = about.linked()

    def renamed(event: str) -> str:
        words = event.split(" ")
        if kind_of(event) in _ON_CHILD and name_of(event) in linked:
            words[2] = "*"
        return " ".join(words)

    return squeeze(map(renamed, pair[0])), squeeze(map(renamed, pair[1]))


def with_ends_at_the_close(_: About, pair: Pair) -> Pair:
    """Without what comes between an object's last ATTRIB and its end, which is put last."""

    def stripped(sighting: Sighting) -> Sighting:
        ended = {watch_of(event) for event in sighting if kind_of(event) == "IGNORED"}
        last = {watch_of(e): at for at, e in enumerate(sighting) if kind_of(e) == "ATTRIB"}
        head, tail = [], []
        for at, event in enumerate(sighting):
            watch = watch_of(event)
            if watch not in ended:
                head.append(event)
            elif kind_of(event) in _ENDS:
                tail.append(event)
            elif at <= last.get(watch, -1):
                head.append(event)
        return (*head, *tail)

    return stripped(pair[0]), stripped(pair[1])


def without_visits_here(_: About, pair: Pair) -> Pair:
    """With nothing of what happens inside an open FIFO."""
    return only(pair[0], lambda e: kind_of(e) not in _ON_CHILD - {"ATTRIB"}), pair[1]


def without_reads(_: About, pair: Pair) -> Pair:
    """Without ACCESS of files."""

    def keep(event: str) -> bool:
        return kind_of(event) != "ACCESS" or is_of_directory(event)

    return only(pair[0], keep), only(pair[1], keep)


def without_reads_and_writes(_: About, pair: Pair) -> Pair:
    """Without ACCESS and MODIFY."""

    def keep(event: str) -> bool:
        return kind_of(event) not in {"ACCESS", "MODIFY"}

    return only(pair[0], keep), only(pair[1], keep)


def without_what_inotify_leaves_to_the_guest(about: About, pair: Pair) -> Pair:
    """Without what server mode reports for the guest's own operations only."""
    local, seen = pair
    if about.flagged(Mask.ONESHOT):  # that one event is another one
        return tuple(e for e in local if kind_of(e) == "IGNORED"), tuple(
            e for e in seen if kind_of(e) == "IGNORED"
        )
    return only(local, lambda e: kind_of(e) not in _VISITS), squeeze(seen)


def same_but_for_who_tells(pair: Pair) -> bool:
    """What the daemon reports is the same and in order, and so is what the guest itself reports."""
    ours, theirs = map(_by_who_tells, pair)
    return ours == theirs


def same_but_for_who_tells_in_branches(pair: Pair) -> bool:
    """The same of each name."""
    ours, theirs = (
        {key: _by_who_tells(events) for key, events in parts_by(side, _watch_and_name).items()}
        for side in pair
    )
    return ours == theirs


def _by_who_tells(events: Iterable[str]) -> tuple[Sighting, Sighting]:
    own = _VISITS | _ENDS
    events = tuple(events)
    return only(events, lambda e: kind_of(e) in own), only(events, lambda e: kind_of(e) not in own)


# -- fanotify groups in the guest: several bits an event -------------------------------------------


def without_merged_ends(_: About, pair: Pair) -> Pair:
    """With DELETE_SELF taken out of the events that it is merged with, and put last."""

    def stripped(sighting: Sighting) -> Sighting:
        head, tail = [], []
        for event in sighting:
            watch, bits, *name = event.split(" ")
            rest = [bit for bit in bits.split("|") if bit != "DELETE_SELF"]
            if "DELETE_SELF" in bits.split("|"):
                tail.append(f"{watch} DELETE_SELF")
            if rest not in ([], ["ISDIR"]):
                head.append(" ".join([watch, "|".join(rest), *name]))
        return (*head, *sorted(tail))

    return stripped(pair[0]), stripped(pair[1])


def without_handles_of_strangers(_: About, pair: Pair) -> Pair:
    """With what happened to directories that no watch is on at the end, and not to which."""
    watched = {watch_of(event) for event in pair[1]}

    def stripped(sighting: Sighting) -> Sighting:
        kept: list[str] = []
        strange: set[str] = set()
        for event in sighting:
            here, bits, *name = event.split(" ")
            rest = bits.split("|")
            if is_of_directory(event) and (here not in watched or name != ["."]):
                strange |= _ON_CHILD.intersection(rest)
                rest = [bit for bit in rest if bit not in _ON_CHILD]
            if rest != ["ISDIR"]:
                kept.append(" ".join([here, "|".join(rest), *name]))
        return (*kept, "? " + "|".join(sorted(strange)))

    return stripped(pair[0]), stripped(pair[1])


def _by_fanotify(about: About) -> bool:
    return any(watch.fanotify for watch in about.watches)


# -- the rules -------------------------------------------------------------------------------------

_BURSTS: Final = frozenset({"host-burst", "guest2-burst"})
_GUEST2: Final = frozenset({"guest2", "guest2-burst"})
_HOST: Final = frozenset({"host", "host-burst"}) | _GUEST2
_SERVER_FOREIGN: Final = frozenset({"server-host", "server-guest2"})
_FOREIGN: Final = _HOST | _SERVER_FOREIGN
_EVERYBODY: Final = _FOREIGN | {"guest", "server-guest"}

RULES: Final[Sequence[Rule]] = [
    Rule(
        "branches",
        "What happens at the same time has no order between its parts, on a local file system "
        "neither. Each name's own events are there, in their order.",
        _EVERYBODY,
        alike=same_but_for_order_of_branches,
        about=lambda about: about.scenario.parallel,
    ),
    Rule(
        "host-merge",
        "fanotify, which alone can attribute events to a process, merges unread events of one "
        "object and process, be others between them or not; the daemon reads at once, but a "
        "burst is faster. Each bit of the burst is there once, the bits of one object in a fixed "
        "order. With a pause after each system call nothing is merged.",
        _BURSTS,
        alike=merged_by_the_host,
        about=lambda about: not about.scenario.parallel,
    ),
    Rule(
        "host-merge-in-branches",
        "Both of the above; branches have no pauses.",
        _HOST,
        alike=merged_in_branches,
        about=lambda about: about.scenario.parallel,
    ),
    Rule(
        "merged-beyond-the-end",
        "What happens to an open object after its end is merged with what happened before, and a "
        "watch that has ended locally sees it, also what it has seen before.",
        _BURSTS,
        strip=without_what_follows_the_end,
        about=lambda about: about.does("open"),
    ),
    Rule(
        "gone-directory-late",
        "fanotify names a directory's own events by nothing but a handle, which is of no use when "
        "it is gone. Until then the queue says what its name was; watchers of the directory that "
        "it was in miss what somebody does who has it open, its last close at least.",
        _HOST,
        strip=without_late_visits_of_gone_directories,
        about=lambda about: about.does("rmdir"),
    ),
    Rule(
        "which-link",
        "A guest names an inode when it opens a file, so its daemon may open it by another of its "
        "hard links. Names of CREATE, DELETE and MOVED_* are right.",
        _GUEST2 | {"server-guest", "server-guest2"},
        strip=without_names_of_links,
        about=lambda about: bool(about.linked()),
    ),
    Rule(
        "end-of-linked",
        "A local kernel ends the watch of an open file when the last of its links goes, if it was "
        "opened by another one. Another guest's daemon has it open by any: it ends at the close.",
        _GUEST2 | {"server-guest", "server-guest2"},
        strip=with_ends_at_the_close,
        about=lambda about: about.does("open") and bool(about.linked()),
    ),
    Rule(
        "private-fifo",
        "FIFOs and sockets are open in their guest only.",
        _GUEST2,
        strip=without_visits_here,
        about=lambda about: "fifo" in about.scenario.given and about.does("open"),
    ),
    Rule(
        "page-cache",
        "What a guest has read before it may read again without its daemon.",
        _GUEST2,
        strip=without_reads,
        about=lambda about: about.does("cat", "r"),
    ),
    Rule(
        "mapped-pages",
        "What is stored through a mapping is no event locally; but a guest's pages have to be read "
        "and written by its daemon, like any.",
        _GUEST2 | {"server-guest", "server-guest2"},
        strip=without_reads_and_writes,
        about=lambda about: about.does("mmap"),
    ),
    Rule(
        "fanotify-end",
        "fanotify merges events by process. The end of an object is raised by the guest's kernel, "
        "and by another process than what was reported before it.",
        frozenset({"host"}),
        strip=without_merged_ends,
        about=_by_fanotify,
    ),
    Rule(
        "fanotify-stranger",
        "A guest that has never looked a directory up has no handle of it: its events come with "
        "that of the one that it is in, and its name there, as those of files do.",
        frozenset({"host"}),
        strip=without_handles_of_strangers,
        about=_by_fanotify,
    ),
    Rule(
        "server-silence",
        "inotify does not say who acts, so in server mode OPEN, ACCESS and CLOSE_* are the guest's "
        "own only. Everything else is reported.",
        _SERVER_FOREIGN,
        strip=without_what_inotify_leaves_to_the_guest,
    ),
    Rule(
        "server-order",
        "In server mode the guest's own OPEN, ACCESS, CLOSE_* and DELETE_SELF come at once, all "
        "else by the host: each is in order, but not with the other.",
        frozenset({"server-guest"}),
        alike=same_but_for_who_tells,
    ),
    Rule(
        "server-order-in-branches",
        "That and the first.",
        frozenset({"server-guest"}),
        alike=same_but_for_who_tells_in_branches,
        about=lambda about: about.scenario.parallel,
    ),
]


def explain(
    actor: str, scenario: Scenario, way: str, local: Observation, seen: Observation
) -> list[str] | None:
    """The rules that explain how ``seen`` differs; empty if it does not, None if nothing does."""
    used: list[str] = []
    for watches, ours, theirs in zip(scenario.ways[way], local, seen, strict=True):
        names = _explain(actor, About(scenario, watches), (ours, theirs))
        if names is None:
            return None
        used += names
    return sorted(set(used))


def _explain(actor: str, about: About, pair: Pair) -> list[str] | None:
    """The fewest rules that do."""
    if pair[0] == pair[1]:
        return []
    rules = [rule for rule in RULES if actor in rule.actors and rule.about(about)]
    if _by_fanotify(about):
        rules = [rule for rule in rules if not rule.alike]  # they expect one bit an event
    for count in range(1, 4):
        for chosen in itertools.combinations(rules, count):
            if _alike(about, pair, chosen):
                return [rule.name for rule in chosen]
    return None


def _alike(about: About, pair: Pair, rules: Sequence[Rule]) -> bool:
    compare = [rule.alike for rule in rules if rule.alike]
    if len(compare) > 1:
        return False
    for rule in rules:
        pair = rule.strip(about, pair)
    return compare[0](pair) if compare else pair[0] == pair[1]
