# SPDX-License-Identifier: BSD-3-Clause
"""What consumers and daemon say to each other: any bytes are read, or refused as they should be."""

from __future__ import annotations

import errno
import json
import socket
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtiofsd_py._records import RecordType

from virtiofsd_py.errors import EngineError
from virtiofsd_py.fsnotify import BadRecord, BadRequest, Request, Watch
from virtiofsd_py.fsnotify.control import Control, WatchSocket
from virtiofsd_py.fsnotify.records import decode_untrusted
from virtiofsd_py.fsnotify.request import clean_path, parse_untrusted
from virtiofsd_py.fsnotify.ring import RingEntry
from virtiofsd_py.structures import WatchRequest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ASKED = json.loads(Request().encode())


@given(st.binary())
def test_any_bytes_are_a_request_or_not(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_untrusted(raw)


@given(st.sampled_from([*ASKED, "other"]), JSON)
def test_a_request_with_something_else_in_it(field: str, value: object) -> None:
    with suppress(BadRequest):
        assert isinstance(
            parse_untrusted(json.dumps(ASKED | {field: value}).encode()), WatchRequest
        )


@given(st.dictionaries(st.sampled_from(["path", "mask", "recursive"]), JSON))
def test_a_watch_with_something_else_in_it(change: dict[str, object]) -> None:
    watch = ASKED["watches"][0] | change
    with suppress(BadRequest):
        parse_untrusted(json.dumps(ASKED | {"watches": [watch]}).encode())


@given(
    st.lists(st.builds(Watch, st.sampled_from(["", "a", "/a//b/."]), st.integers(0, 0xFFF))),
    st.dictionaries(st.sampled_from(RecordType), st.integers(0, (1 << 64) - 1)),
    st.integers(16, 26),
)
def test_what_is_asked_for_arrives(
    watches: list[Watch], subtypes: dict[RecordType, int], order: int
) -> None:
    request = Request(tuple(watches), subtypes, 1 << order)
    parsed = parse_untrusted(request.encode())
    assert parsed.ring_bytes == 1 << order
    assert parsed.subtypes == subtypes
    assert [(w.mask, w.recursive, w.path) for w in parsed.watches] == [
        (w.mask, w.recursive, clean_path(w.path)) for w in watches
    ]
    assert [w.id for w in parsed.watches] == list(range(len(watches)))


@given(st.text())
def test_paths_stay_below(path: str) -> None:
    try:
        clean = clean_path(path)
    except BadRequest:
        return
    assert not clean.startswith(b"/")
    assert not {b"", b".", b".."} & set(clean.split(b"/") if clean else [])


@given(st.integers(0, 8), st.integers(0, 20), st.binary(max_size=64))
def test_any_payload_is_a_record_or_not(kind: int, subtype: int, payload: bytes) -> None:
    with suppress(BadRecord):
        decode_untrusted(RingEntry(kind, subtype, 0, memoryview(payload), 1))


@given(st.integers(0, 11), st.binary(max_size=30))
def test_paths_of_records_are_any_bytes(subtype: int, path: bytes) -> None:
    payload = struct.pack("=IIIiII", 1 << subtype, 0, 1, 0, 0, len(path)) + path
    entry = RingEntry(RecordType.FSNOTIFY, subtype, 0, memoryview(payload), 0)
    record = decode_untrusted(entry)
    assert getattr(record, "path").encode(errors="surrogateescape") == path  # noqa: B009


class Nobody:
    """An engine that has no room for consumers, and mounts that nobody watches."""

    def add_consumer(self, request: WatchRequest, notify_fd: int) -> tuple[int, int]:
        socket.socket(fileno=notify_fd).close()
        raise EngineError(errno.EUSERS, "watch client")

    def remove_consumer(self, number: int) -> None:
        raise AssertionError

    def hold(self) -> None:
        raise AssertionError

    release = hold


def test_what_the_engine_refuses_is_told(tmp_path: Path) -> None:
    with WatchSocket(tmp_path / "s") as listening:
        control = Control(listening.sock, Nobody(), Nobody())
        try:
            for _ in range(40):  # more than may be connected at once
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                    sock.connect(str(tmp_path / "s"))
                    sock.send(Request().encode())
                    control.serve()
                    control.serve()
                    assert json.loads(sock.recv(4096))["error"] == errno.EUSERS
        finally:
            control.close()
    assert not (tmp_path / "s").exists()
