# SPDX-License-Identifier: BSD-3-Clause
"""Many inotify instances on the same inodes: each reads what its own watches say, and no more.

Random scripts over instances and files, with the masks that change what a watch is: IN_MASK_ADD,
IN_ONESHOT, IN_EXCL_UNLINK. A naive model says what each instance must read of a change by the host,
and the world called "local" says whether the model is right.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from conftest import Stage
from probes import eventually, host_marks
from runguest.agent import Instance
from runguest.events import Mask
from runguest.scene import EVENT_DEADLINE_MS, Scene

FILES = [b"a", b"b", b"c"]
STEPS = 60
INSTANCES = 4
# Bits that one step of the host raises, and what it is; each without side effects of another kind.
CHANGES = {Mask.ATTRIB: "chmod", Mask.MODIFY: "truncate", Mask.MOVE_SELF: "rename"}


@dataclass
class Model:
    """One instance: the mask of each watch, and which ends with its first event."""

    instance: Instance
    masks: dict[bytes, Mask] = field(default_factory=dict)
    watches: dict[bytes, int] = field(default_factory=dict)
    once: set[bytes] = field(default_factory=set)

    def add(self, name: bytes, path: bytes, mask: Mask) -> None:
        wd = self.instance.add(path, mask)
        assert self.watches.setdefault(name, wd) == wd, "a watch of an inode is one watch"
        before = self.masks.get(name, Mask(0)) if Mask.MASK_ADD in mask else Mask(0)
        self.masks[name] = before | mask & Mask.ALL
        if Mask.MASK_ADD not in mask:
            self.once.discard(name)
        if Mask.ONESHOT in mask:
            self.once.add(name)

    def remove(self, name: bytes) -> list[tuple[int, Mask]]:
        wd = self.watches.pop(name)
        del self.masks[name]
        self.once.discard(name)
        self.instance.remove(wd)
        return [(wd, Mask.IGNORED)]

    def events_of(self, name: bytes, bit: Mask) -> list[tuple[int, Mask]]:
        """What it reads of an event; forgets the watch that ends with it."""
        if not self.masks.get(name, Mask(0)) & bit:
            return []
        wd = self.watches[name]
        if name not in self.once:
            return [(wd, bit)]
        del self.masks[name], self.watches[name]
        self.once.discard(name)
        return [(wd, bit), (wd, Mask.IGNORED)]


def _read(instance: Instance, fence: int, end: bytes) -> list[tuple[int, Mask]]:
    """Everything up to the event `end` in the directory of fences."""
    events = instance.read(EVENT_DEADLINE_MS, (fence, end))
    assert events, "nothing came"
    assert events[-1].name == end, "not even the fence came"
    return [(e.wd, e.mask) for e in events if e.wd != fence]


@pytest.mark.only("local", "uml")  # the same kernel code elsewhere, only slower
@pytest.mark.parametrize("seed", range(4))
def test_each_instance_reads_by_its_own_watches(stage: Stage, seed: int) -> None:
    choose = random.Random(seed)
    with stage.scene() as scene:
        scene.host.run([("mkdir", b"fence"), *[("file", name, b"xx") for name in FILES]])
        models: list[Model] = []
        fences: list[int] = []
        at = {name: name for name in FILES}  # where each file is called what now

        def begin() -> None:
            models.append(Model(scene.agent.inotify()))
            fence = scene.guest.path(b"fence")
            fences.append(models[-1].instance.add(fence, Mask.CREATE | Mask.ONLYDIR))

        for _ in range(INSTANCES):
            begin()
        for step in range(STEPS):
            expected: list[list[tuple[int, Mask]]] = [[] for _ in models]
            who = choose.randrange(len(models))
            name = choose.choice(FILES)
            verb = choose.choice(["add", "add", "add", "remove", "exit", "change", "change"])
            if verb == "add":
                mask = choose.choice([*CHANGES, Mask.ALL, Mask.ATTRIB | Mask.MODIFY])
                mask |= choose.choice([Mask(0), Mask(0), Mask.MASK_ADD, Mask.ONESHOT])
                models[who].add(name, scene.guest.path(at[name]), mask)
            elif verb == "remove" and name in models[who].watches:
                expected[who] = models[who].remove(name)
            elif verb == "exit":
                models.pop(who).instance.close()
                fences.pop(who)
                begin()
            # A change by the host after every step shows whether the step took.
            bit = choose.choice(list(CHANGES))
            if bit is Mask.MOVE_SELF:
                new = at[name] + b"'" if len(at[name]) < 8 else name
                scene.host.run([("rename", at[name], new)])
                at[name] = new
            else:
                scene.host.run([(CHANGES[bit], at[name])])
            end = b"%d" % step
            scene.host.run([("mknod", b"fence/" + end)])
            for index, model in enumerate(models):
                expected[index] += model.events_of(name, bit)
                assert _read(model.instance, fences[index], end) == expected[index]
        for model in models:
            model.instance.close()


def unlinked_names_are_told_unless_excluded(scene: Scene, who: str) -> None:
    """IN_EXCL_UNLINK: a watch no longer gets events of what has lost the name it was opened by."""
    actor = scene.host if who == "host" else scene.guest
    scene.host.run([("mkdir", b"d")])
    actor.run([("create", b"d/f")])  # and left open
    plain, excluding, itself = (scene.agent.inotify() for _ in range(3))
    directory, file = scene.guest.path(b"d"), scene.guest.path(b"d/f")
    wanted = Mask.MODIFY | Mask.CREATE
    plain.add(directory, wanted)
    excluding.add(directory, wanted | Mask.EXCL_UNLINK)
    itself.add(file, Mask.MODIFY | Mask.EXCL_UNLINK)
    itself.add(directory, Mask.CREATE)
    actor.run([("write", b"x")])
    for instance in (plain, excluding, itself):
        assert [e.kind for e in instance.read(EVENT_DEADLINE_MS)] == ["MODIFY"]
    # What the host does in one go may be merged, and then a write counts as by the name.
    actor.run([("unlink", b"d/f"), ("mknod", b"d/gone")])
    for instance in (plain, excluding, itself):
        _until(instance, b"gone")
    actor.run([("write", b"y"), ("mknod", b"d/end")])
    assert _until(plain, b"end") == [("MODIFY", b"f"), ("CREATE", b"end")]
    assert _until(excluding, b"end") == [("CREATE", b"end")]
    # The end of the file itself, and nothing of its contents.
    assert "MODIFY" not in [kind for kind, _ in _until(itself, b"end")]
    for instance in (plain, excluding, itself):
        instance.close()


def _until(instance: Instance, name: bytes) -> list[tuple[str, bytes]]:
    events = instance.read(EVENT_DEADLINE_MS)
    while events[-1].name != name:
        events += instance.read(EVENT_DEADLINE_MS)
    return [(e.kind, e.name) for e in events]


@pytest.mark.parametrize("who", ["host", "guest"])
def test_unlinked_names_are_told_unless_excluded(stage: Stage, who: str) -> None:
    with stage.scene() as scene:
        unlinked_names_are_told_unless_excluded(scene, who)


def test_exclusion_comes_and_goes_with_the_watch(stage: Stage) -> None:
    """A watch that is modified: its events stay the same, what it excludes does not."""
    with stage.scene() as scene:
        scene.host.run([("mkdir", b"d"), ("create", b"d/f"), ("unlink", b"d/f")])
        instance = scene.agent.inotify()
        for number, (extra, received) in enumerate(
            [
                (Mask(0), True),
                (Mask.EXCL_UNLINK, False),
                (Mask.MASK_ADD, False),
                (Mask(0), True),
                (Mask.MASK_ADD | Mask.EXCL_UNLINK, False),
            ]
        ):
            instance.add(scene.guest.path(b"d"), Mask.MODIFY | Mask.CREATE | extra)
            end = b"d/%dend" % number
            scene.host.run([("write", b"x"), ("mknod", end)])
            events = instance.read(EVENT_DEADLINE_MS)
            while events[-1].name != end[2:]:
                events += instance.read(EVENT_DEADLINE_MS)
            assert [e.name for e in events] == ([b"f"] if received else []) + [end[2:]]
        instance.close()


def test_host_watch_goes_with_the_last_instance_that_exits(guest_stage: Stage) -> None:
    with guest_stage.scene() as scene:
        scene.host.run([("file", b"f")])
        inode = (scene.directory / "f").stat().st_ino
        instances = [scene.agent.inotify() for _ in range(3)]
        for instance, mask in zip(
            instances, [Mask.ATTRIB | Mask.ONESHOT, Mask.MODIFY, Mask.ALL], strict=True
        ):
            instance.add(scene.guest.path(b"f"), mask)
            assert host_marks(guest_stage.daemon_pid).count(inode) == 1
        scene.host.run([("chmod", b"f")])
        kinds = [event.kind for event in instances[0].read(EVENT_DEADLINE_MS)]
        while kinds[-1] != "IGNORED":
            kinds += [event.kind for event in instances[0].read(EVENT_DEADLINE_MS)]
        assert kinds == ["ATTRIB", "IGNORED"]
        for instance in instances:
            assert inode in host_marks(guest_stage.daemon_pid)
            instance.close()
        eventually(lambda: inode not in host_marks(guest_stage.daemon_pid))
