# SPDX-License-Identifier: BSD-3-Clause
"""Codecs: what they accept they reproduce, and what they do not accept is a BadMessage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from virtiofsd_py.vhost_user.errors import BadMessage
from virtiofsd_py.vhost_user.messages import (
    MAX_PAYLOAD_BYTES,
    U64,
    ConfigFlag,
    ConfigSpace,
    Header,
    HeaderFlag,
    LogArea,
    MemoryTable,
    NoPayload,
    Payload,
    RegionDescription,
    Request,
    SingleRegion,
    StateTransfer,
    TransferDirection,
    TransferPhase,
    VringAddress,
    VringAddressFlag,
    VringFile,
    VringState,
    encode_reply,
)

CODECS: list[type[Payload]] = [
    Header,
    NoPayload,
    U64,
    VringState,
    VringAddress,
    VringFile,
    RegionDescription,
    MemoryTable,
    SingleRegion,
    ConfigSpace,
    LogArea,
    StateTransfer,
]

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
# Mostly small or at an edge, so that some inputs pass every check but one.
word = st.one_of(
    st.integers(0, 64),
    st.sampled_from([0xFF, 0x100, 0x1FF, 1 << 16, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 4096]),
    u64,
)
words32 = st.lists(word.map(lambda w: w & 0xFFFF_FFFF), max_size=6).map(
    lambda ws: struct.pack(f"={len(ws)}I", *ws)
)
words64 = st.lists(word, max_size=12).map(lambda ws: struct.pack(f"={len(ws)}Q", *ws))
hostile = st.one_of(
    st.binary(max_size=128), st.tuples(words32, words64, st.binary(max_size=3)).map(b"".join)
)

regions = st.builds(
    RegionDescription,
    guest_address=st.integers(0, 1 << 63),
    size_bytes=st.integers(1, 1 << 62),
    user_address=st.integers(0, 1 << 63),
    mmap_offset_bytes=st.integers(0, 1 << 62),
)
valid = st.one_of(
    st.builds(
        Header,
        st.sampled_from(Request),
        st.sampled_from([HeaderFlag(0), *HeaderFlag]),
        st.integers(0, MAX_PAYLOAD_BYTES),
    ),
    st.builds(NoPayload),
    st.builds(U64, u64),
    st.builds(VringState, u32, u32),
    st.builds(
        VringAddress,
        index=u32,
        flags=st.sampled_from([VringAddressFlag(0), VringAddressFlag.LOG]),
        desc_user_address=st.integers(0, (1 << 60) - 1).map(lambda n: 16 * n),
        used_user_address=st.integers(0, (1 << 62) - 1).map(lambda n: 4 * n),
        avail_user_address=st.integers(0, (1 << 63) - 1).map(lambda n: 2 * n),
        log_guest_address=u64,
    ),
    st.builds(VringFile, st.integers(0, 255), st.booleans()),
    regions,
    st.builds(MemoryTable, st.lists(regions, max_size=9).map(tuple)),
    st.builds(SingleRegion, regions),
    st.builds(
        ConfigSpace,
        st.integers(0, 128),
        st.sampled_from([ConfigFlag(0), ConfigFlag.LIVE_MIGRATION]),
        st.binary(min_size=1, max_size=128),
    ),
    st.builds(LogArea, st.integers(1, 1 << 62), st.integers(0, 1 << 62)),
    st.builds(StateTransfer, st.sampled_from(TransferDirection), st.just(TransferPhase.STOPPED)),
)


@pytest.mark.parametrize("codec", CODECS)
@given(raw=hostile)
def test_any_bytes_decode_or_are_a_bad_message(codec: type[Payload], raw: bytes) -> None:
    try:
        value = codec.parse_untrusted(raw)
    except BadMessage:
        return
    again = value.encode()
    assert codec.parse_untrusted(again) == value
    # Only paddings and uncounted regions may differ from what came.
    assert len(again) <= len(raw)


@given(value=valid)
def test_round_trip(value: Payload) -> None:
    assert type(value).parse_untrusted(value.encode()) == value


@given(value=valid, cut=st.integers(1, 8))
def test_a_truncated_message_is_bad(value: Payload, cut: int) -> None:
    raw = value.encode()
    if len(raw) < cut:
        return
    with pytest.raises(BadMessage):
        type(value).parse_untrusted(raw[:-cut])


@given(bits=u32)
@example(bits=1)
@example(bits=1 | 1 << 2 | 1 << 3)
@example(bits=1 | 1 << 4)
@example(bits=1 | 1 << 31)
@example(bits=2)
def test_header_flags_are_exact(bits: int) -> None:
    raw = struct.pack("=III", 1, bits, 0)
    if bits & ~0xC == 1:
        assert Header.parse_untrusted(raw).flags == bits & 0xC
    else:
        with pytest.raises(BadMessage):
            Header.parse_untrusted(raw)


@pytest.mark.parametrize("code", [0, 45, 1 << 31])
def test_unknown_requests_are_bad(code: int) -> None:
    with pytest.raises(BadMessage, match="unknown request"):
        Header.parse_untrusted(struct.pack("=III", code, 1, 0))


def test_oversize_payload_is_bad() -> None:
    raw = struct.pack("=III", 5, 1, MAX_PAYLOAD_BYTES)
    assert Header.parse_untrusted(raw).payload_bytes == MAX_PAYLOAD_BYTES
    with pytest.raises(BadMessage, match="payload of"):
        Header.parse_untrusted(struct.pack("=III", 5, 1, MAX_PAYLOAD_BYTES + 1))


def test_uncounted_regions_are_ignored() -> None:
    """User-mode Linux announces one region and sends two, the second all zero."""
    region = RegionDescription(0x1000, 0x2000, 0x3000, 0)
    raw = struct.pack("=II", 1, 0) + region.encode() + bytes(32)
    assert MemoryTable.parse_untrusted(raw) == MemoryTable((region,))


def test_more_regions_than_bytes_are_bad() -> None:
    with pytest.raises(BadMessage):
        MemoryTable.parse_untrusted(struct.pack("=II", 0xFFFF_FFFF, 0) + bytes(32))


@pytest.mark.parametrize(
    "fields",
    [
        (0, 0, 0, 0),
        ((1 << 64) - 4096, 4097, 0, 0),
        (0, 4097, (1 << 64) - 4096, 0),
        (0, 4096, 0, (1 << 63) - 4095),
        (0, 1, 0, 1 << 63),
        (0, (1 << 64) - 1, 1, 0),
    ],
)
def test_regions_that_wrap_are_bad(fields: tuple[int, ...]) -> None:
    with pytest.raises(BadMessage):
        RegionDescription.parse_untrusted(struct.pack("=4Q", *fields))


def test_the_last_region_of_the_address_space_is_good() -> None:
    top = (1 << 64) - 4096
    raw = struct.pack("=4Q", top, 4096, top, (1 << 63) - 4096)
    assert RegionDescription.parse_untrusted(raw).guest_address == top


def test_layout_is_the_specified_one() -> None:
    address = VringAddress(3, VringAddressFlag.LOG, 0x10, 0x20, 0x30, 0x40)
    assert address.encode() == struct.pack("=IIQQQQ", 3, 1, 0x10, 0x20, 0x30, 0x40)
    assert VringFile(5, False).encode() == struct.pack("=Q", 0x105)
    assert encode_reply(Request.GET_FEATURES, U64(9).encode()) == struct.pack("=IIIQ", 1, 5, 8, 9)
    config = ConfigSpace(4, ConfigFlag(0), b"abc")
    assert config.encode() == struct.pack("=III", 4, 3, 0) + b"abc"
    assert LogArea(0x1000, 0x2000).encode() == struct.pack("=QQ", 0x1000, 0x2000)
    load = StateTransfer(TransferDirection.LOAD, TransferPhase.STOPPED)
    assert load.encode() == struct.pack("=II", 1, 0)


@pytest.mark.parametrize("fields", [(0, 0), (1, 1 << 63), (1 << 63, 1), ((1 << 63) - 1, 2)])
def test_logs_that_no_file_holds_are_bad(fields: tuple[int, int]) -> None:
    with pytest.raises(BadMessage):
        LogArea.parse_untrusted(struct.pack("=QQ", *fields))


@pytest.mark.parametrize("fields", [(2, 0), (0, 1), (1 << 31, 0)])
def test_unknown_transfers_are_bad(fields: tuple[int, int]) -> None:
    with pytest.raises(BadMessage):
        StateTransfer.parse_untrusted(struct.pack("=II", *fields))
