# SPDX-License-Identifier: BSD-3-Clause
"""What does not fit is reported as IN_Q_OVERFLOW, to each watcher concerned; then all is well."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Stage
from probes import stopped
from runguest.agent import Instance
from runguest.events import Event, Mask
from runguest.scene import EVENT_DEADLINE_MS

# inotify's default in the guest.
QUEUE_EVENTS = 16384


def _read_to(instance: Instance, name: bytes) -> list[Event]:
    events: list[Event] = []
    while not events or events[-1].name != name:
        more = instance.read(EVENT_DEADLINE_MS)
        assert more, f"no {name!r} after {len(events)} events"
        events += more
    return events


@pytest.mark.only("local", "uml")  # the same kernel code elsewhere, only slower
def test_queue_of_an_instance_overflows(stage: Stage) -> None:
    """One that does not read loses events and gets an overflow; one that reads loses nothing."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if stage.guest is not None:
        limit = QUEUE_EVENTS
    with stage.scene() as scene:
        scene.host.run([("mkdir", b"d")])
        lazy = [scene.agent.inotify() for _ in range(2)]
        reader = scene.agent.inotify()
        for instance in (*lazy, reader):
            instance.add(scene.guest.path(b"d"), Mask.CREATE | Mask.DELETE)
        read: list[Event] = []
        done = 0
        while done < limit + 1000:
            for i in range(done // 2, done // 2 + 500):
                scene.host.run([("mknod", b"d/%d" % i), ("unlink", b"d/%d" % i)])
            done += 1000
            scene.host.run([("mknod", b"d/end-%d" % done), ("unlink", b"d/end-%d" % done)])
            read += _read_to(reader, b"end-%d" % done)
            while read[-1].mask != Mask.DELETE:
                read += reader.read(EVENT_DEADLINE_MS)
        wanted = [
            (mask, b"%d" % i) for i in range(done // 2) for mask in (Mask.CREATE, Mask.DELETE)
        ]
        assert [(e.mask, e.name) for e in read if not e.name.startswith(b"end")] == wanted
        for instance in lazy:
            events: list[Event] = []
            while not events or events[-1].mask != Mask.Q_OVERFLOW:
                events += instance.read(EVENT_DEADLINE_MS)
            assert len(events) == limit + 1
            got = [(e.mask, e.name) for e in events[:-1] if not e.name.startswith(b"end")]
            assert got == wanted[: len(got)]
            assert events[-1].wd == -1
        scene.host.run([("mknod", b"d/after")])
        for instance in (*lazy, reader):
            assert [(e.kind, e.name) for e in instance.read(EVENT_DEADLINE_MS)] == [
                ("CREATE", b"after")
            ]
            instance.close()


@pytest.mark.only("uml")
def test_queue_of_the_host_overflows(guest_stage: Stage) -> None:
    """Every instance that watches anything of the share gets it, also one whose file was quiet."""
    with guest_stage.scene() as scene:
        scene.host.run([("mkdir", b"d"), ("file", b"quiet")])
        busy, quiet = scene.agent.inotify(), scene.agent.inotify()
        busy.add(scene.guest.path(b"d"), Mask.CREATE)
        quiet.add(scene.guest.path(b"quiet"), Mask.ATTRIB)
        with stopped(guest_stage.daemon_pid):
            for i in range(QUEUE_EVENTS + 100):
                scene.host.run([("mknod", b"d/%d" % i)])
        for instance in (busy, quiet):
            events = instance.read(EVENT_DEADLINE_MS)
            while events[-1].mask != Mask.Q_OVERFLOW:
                events += instance.read(EVENT_DEADLINE_MS)
            assert events[-1].wd == -1
            assert instance is busy or len(events) == 1
        scene.host.run([("mknod", b"d/after"), ("chmod", b"quiet")])
        assert _read_to(busy, b"after")[-1].kind == "CREATE"
        assert [event.kind for event in quiet.read(EVENT_DEADLINE_MS)] == ["ATTRIB"]
        busy.close()
        quiet.close()
