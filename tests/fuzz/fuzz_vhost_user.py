#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""vhost-user conversations of a hostile front-end, against a device that is not there.

    fuzz_vhost_user.py [--random N SEED | --seconds N]

The honest conversations of QEMU and User-mode Linux come first. Then they are bent: bytes, order,
number and descriptors of messages, where one piece on the socket ends, what the device refuses, how
many descriptors the process may have. 2000 of seed 1 unless told, or as many as N seconds allow, of
a seed that is new each time. What is wrong is shown with the arguments that lead there again.

Nothing but the library's declared errors may come up, a reply has to be its request's, and in the
end no descriptor may be left and the device must have been given up.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import resource
import secrets
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

# For `tests.vhost_user`; last, so that virtiofsd_py is the installed one.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.vhost_user.recording import RecordingBackend, count_fds
from virtiofsd_py.vhost_user import (
    SUPPORTED_PROTOCOL_FEATURES,
    Connection,
    Header,
    HeaderFlag,
    ProtocolError,
    ProtocolFeature,
    Request,
    Server,
    VhostUserError,
)

R = Request
HEADER_BYTES = Header.STRUCT.size
MOST_STEPS = 200
MOST_FDS = 253
"""SCM_MAX_FD: the kernel sends no more with one message."""
RINGS = 3
BASE = 0x7000_0000
SIZE = 0x10_0000
PROTOCOL_FEATURES = 1 << 30
VERSION_1 = 1 << 32
LOG_ALL = 1 << 26
CAN_FAIL = (
    "read_config",
    "finish_transfer",
    "replace_memory",
    "reset_device",
    "set_backend_channel",
    "set_features",
    "set_log",
    "set_log_fd",
    "set_logging",
    "set_status",
    "set_vring_call",
    "set_vring_enabled",
    "set_vring_err",
    "set_vring_log",
    "start_transfer",
    "start_vring",
    "write_config",
)
INTERESTING = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0xFFF, 0x1000, 0x8000, 0xFFFF, 1 << 31)
INTERESTING_64 = (BASE, BASE + SIZE - 1, SIZE, 1 << 30, 1 << 32, 1 << 63, (1 << 63) - 1)


@dataclass(frozen=True, slots=True)
class Piece:
    """What goes into the socket at once: one message at first, and who knows what later.

    Attributes:
        fds: how many descriptors come along.
        fails: what the device refuses meanwhile.
    """

    data: bytes
    fds: int = 0
    fails: frozenset[str] = frozenset()


Conversation = list[Piece]


class WrongError(Exception):
    """What a conversation led to that it must not."""


# Honest conversations.


def message(request: Request, payload: bytes = b"", fds: int = 0, *, ack: bool = False) -> Piece:
    flags = HeaderFlag.NEED_REPLY if ack else HeaderFlag(0)
    return Piece(Header(request, flags, len(payload)).encode() + payload, fds)


def u64(value: int) -> bytes:
    return struct.pack("=Q", value)


def state(index: int, num: int) -> bytes:
    return struct.pack("=II", index, num)


def address(index: int, *, log: bool = False) -> bytes:
    at = BASE + index * 0x4000
    return struct.pack("=IIQQQQ", index, log, at, at + 0x2000, at + 0x1000, at - BASE + 0x2000)


def region(number: int) -> bytes:
    return struct.pack("=QQQQ", number * SIZE, SIZE, BASE + number * SIZE, 0)


def start_ring(index: int, *, ack: bool = False) -> Iterator[Piece]:
    yield message(R.SET_VRING_NUM, state(index, 128), ack=ack)
    yield message(R.SET_VRING_BASE, state(index, 0), ack=ack)
    yield message(R.SET_VRING_ADDR, address(index), ack=ack)
    yield message(R.SET_VRING_KICK, u64(index), 1, ack=ack)
    yield message(R.SET_VRING_CALL, u64(index), 1, ack=ack)


def qemu() -> Iterator[Piece]:
    """QEMU: two phases, memory by the slot or all at once, a stop and a second start."""
    offered = SUPPORTED_PROTOCOL_FEATURES
    yield message(R.GET_FEATURES)
    yield message(R.GET_PROTOCOL_FEATURES)
    yield message(R.SET_PROTOCOL_FEATURES, u64(offered))
    yield message(R.GET_QUEUE_NUM)
    yield message(R.GET_MAX_MEM_SLOTS)
    yield message(R.SET_BACKEND_REQ_FD, fds=1, ack=True)
    yield message(R.SET_OWNER)
    yield message(R.GET_CONFIG, struct.pack("=III", 0, 44, 0) + bytes(44))
    for index in range(RINGS):
        yield message(R.SET_VRING_CALL, u64(index), 1)
        yield message(R.SET_VRING_ERR, u64(index), 1)
    for again in (False, True):
        yield message(R.SET_FEATURES, u64(VERSION_1 | PROTOCOL_FEATURES))
        if again:
            yield message(R.SET_MEM_TABLE, state(2, 0) + region(0) + region(1), 2, ack=True)
        else:
            yield message(R.ADD_MEM_REG, u64(0) + region(0), 1, ack=True)
            yield message(R.ADD_MEM_REG, u64(0) + region(1), 1, ack=True)
        for index in range(RINGS):
            yield from start_ring(index)
        for index in range(RINGS):
            yield message(R.SET_VRING_ENABLE, state(index, 1))
        yield message(R.SET_STATUS, u64(0xF))
        yield message(R.GET_STATUS)
        yield message(R.SET_CONFIG, struct.pack("=III", 40, 4, 0) + bytes(4))
        for index in range(RINGS):
            yield message(R.SET_VRING_ENABLE, state(index, 0))
            yield message(R.GET_VRING_BASE, state(index, 0))
        yield message(R.REM_MEM_REG, u64(0) + region(1), ack=True)
    yield message(R.SET_STATUS, u64(0))
    yield message(R.RESET_DEVICE)


def uml() -> Iterator[Piece]:
    """User-mode Linux: all is acknowledged, the table always has room for two regions."""
    wanted = (
        ProtocolFeature.REPLY_ACK | ProtocolFeature.BACKEND_REQ | ProtocolFeature.CONFIG
    ) & SUPPORTED_PROTOCOL_FEATURES
    yield message(R.SET_OWNER)
    yield message(R.GET_FEATURES)
    yield message(R.GET_PROTOCOL_FEATURES)
    yield message(R.SET_PROTOCOL_FEATURES, u64(wanted), ack=True)
    yield message(R.SET_BACKEND_REQ_FD, fds=1, ack=True)
    yield message(R.GET_CONFIG, struct.pack("=III", 0, 44, 0) + bytes(44))
    yield message(R.SET_FEATURES, u64(VERSION_1 | PROTOCOL_FEATURES), ack=True)
    yield message(R.SET_MEM_TABLE, state(1, 0) + region(0) + bytes(32), 1, ack=True)
    for index in range(RINGS):
        yield from start_ring(index, ack=True)
        yield message(R.SET_VRING_ENABLE, state(index, 1), ack=True)
    yield message(R.GET_VRING_BASE, state(0, 0))


def plain() -> Iterator[Piece]:
    """A front-end without protocol features: its rings run as soon as they are kicked."""
    yield message(R.SET_OWNER)
    yield message(R.SET_FEATURES, u64(VERSION_1))
    yield message(R.SET_MEM_TABLE, state(1, 0) + region(0), 1)
    yield from start_ring(0)
    yield message(R.GET_VRING_BASE, state(0, 0))
    yield message(R.RESET_OWNER)


def migration() -> Iterator[Piece]:
    """QEMU: the destination's side, and then the source's of the next migration."""
    features = VERSION_1 | PROTOCOL_FEATURES
    yield message(R.SET_PROTOCOL_FEATURES, u64(SUPPORTED_PROTOCOL_FEATURES))
    yield message(R.SET_OWNER)
    yield message(R.SET_DEVICE_STATE_FD, state(1, 0), 1)
    yield message(R.CHECK_DEVICE_STATE)
    yield message(R.SET_FEATURES, u64(features))
    yield message(R.SET_MEM_TABLE, state(1, 0) + region(0), 1, ack=True)
    for index in range(RINGS):
        yield from start_ring(index)
        yield message(R.SET_VRING_ENABLE, state(index, 1))
    yield message(R.SET_LOG_BASE, struct.pack("=QQ", 0x1000, 0), 1)
    yield message(R.SET_LOG_FD, fds=1)
    yield message(R.SET_FEATURES, u64(features | LOG_ALL), ack=True)
    for index in range(RINGS):
        yield message(R.SET_VRING_ADDR, address(index, log=True), ack=True)
    yield message(R.SET_LOG_BASE, struct.pack("=QQ", 0x2000, 0), 1)
    for index in range(RINGS):
        yield message(R.SET_VRING_ENABLE, state(index, 0))
        yield message(R.GET_VRING_BASE, state(index, 0))
    yield message(R.SET_FEATURES, u64(features), ack=True)
    yield message(R.SET_DEVICE_STATE_FD, state(0, 0), 1)
    yield message(R.CHECK_DEVICE_STATE)


HONEST: tuple[Conversation, ...] = (list(qemu()), list(uml()), list(plain()), list(migration()))


# Mutations.


def bend_bytes(rng: random.Random, data: bytes) -> bytes:
    bent = bytearray(data or b"\0")
    at = rng.randrange(len(bent))
    match rng.randrange(6):
        case 0:
            bent[at] ^= 1 << rng.randrange(8)
        case 1:
            bent[at] = rng.randrange(256)
        case 2:  # a field of the payload, to what a field may mean
            kind, values = rng.choice((("=I", INTERESTING), ("=Q", INTERESTING + INTERESTING_64)))
            width = struct.calcsize(kind)
            if len(bent) >= HEADER_BYTES + width:
                at = HEADER_BYTES + rng.randrange((len(bent) - HEADER_BYTES) // 4) * 4
                struct.pack_into(kind, bent, min(at, len(bent) - width), rng.choice(values))
        case 3:  # another request with this payload
            bent[0:1] = bytes([rng.choice(list(Request))])
        case 4:  # asks for an acknowledgement, or no longer does
            if len(bent) > 4:
                bent[4] ^= HeaderFlag.NEED_REPLY
        case _:  # longer or shorter, and honest about it or not
            payload = bytes(bent[HEADER_BYTES:])
            payload = payload[: rng.randrange(len(payload) + 1)] + rng.randbytes(rng.randrange(40))
            bent[HEADER_BYTES:] = payload
            if rng.random() < 0.7 and len(bent) >= HEADER_BYTES:
                struct.pack_into("=I", bent, 8, len(payload))
    return bytes(bent)


def bend(rng: random.Random, talk: Conversation) -> None:
    """Change one thing."""
    at = rng.randrange(len(talk))
    piece = talk[at]
    match rng.randrange(12):
        case 0 | 1 | 2:
            talk[at] = replace(piece, data=bend_bytes(rng, piece.data))
        case 3:
            del talk[at]
        case 4:
            talk[at:at] = [piece] * rng.choice((1, 1, 2, 20))
        case 5:
            talk.insert(rng.randrange(len(talk)), talk.pop(at))
        case 6:  # some of another conversation
            other = rng.choice(HONEST)
            start = rng.randrange(len(other))
            talk[at:at] = other[start : start + rng.randrange(1, 12)]
        case 7 | 8:
            most = rng.choice((1, 3, 3, MOST_FDS))
            talk[at] = replace(piece, fds=rng.randrange(most + 1))
        case 9:  # in two pieces, the descriptors with either
            cut = rng.randrange(len(piece.data) + 1)
            halves = [replace(piece, data=piece.data[:cut]), replace(piece, data=piece.data[cut:])]
            without = rng.randrange(3)
            if without < 2:
                halves[without] = replace(halves[without], fds=0)
            talk[at : at + 1] = halves
        case 10:  # in one piece with the next
            rest = talk[at + 1 : at + 2]
            data = b"".join(each.data for each in (piece, *rest))
            fds = min(MOST_FDS, sum(each.fds for each in (piece, *rest)))
            talk[at : at + 2] = [Piece(data, fds, piece.fails)]
        case _:
            talk[at] = replace(piece, fails=frozenset(rng.sample(CAN_FAIL, rng.randrange(1, 4))))
    del talk[MOST_STEPS:]
    if not talk:
        talk.append(Piece(rng.randbytes(rng.randrange(64))))


# What they lead to.


@contextmanager
def room_for_fds(count: int | None) -> Iterator[None]:
    """Let this process open only so many more descriptors; None: as ever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is on numbers: what lies below the highest one in use is filled up first.
    limit = soft if count is None else min(soft, count_fds() + count)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def check_reply(request: Request, reply: bytes) -> None:
    header = Header.parse_untrusted(reply[:HEADER_BYTES])
    sound = header == Header(request, HeaderFlag.REPLY, len(reply) - HEADER_BYTES)
    if not sound:
        raise WrongError(f"{request.name} got {reply.hex()}")


@dataclass(frozen=True, slots=True)
class Served:
    replied_bytes: int
    refused: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a conversation went: whether the server heard all of it, how much it refused."""

    to_the_end: bool
    refused: int


def serve_all(connection: Connection, server: Server) -> Served:
    """Serve what has arrived. Raises what ends the conversation."""
    replied = refused = 0
    while (received := connection.receive()) is not None:
        request = received.header.request
        try:
            reply = server.receive(received.header, received.payload, received.fds)
        except ProtocolError as error:
            if not error.survives:
                raise
            reply = error.reply
            refused += 1
        if reply is not None:
            check_reply(request, reply)
            connection.send(reply)
            replied += len(reply)
    return Served(replied, refused)


def drain(sock: socket.socket, replied: int) -> None:
    while replied:
        try:
            replied -= len(sock.recv(replied))
        except BlockingIOError:
            raise WrongError(f"{replied} bytes of replies never arrived") from None


def send(sock: socket.socket, piece: Piece, sent_fd: int) -> None:
    if not piece.data:
        return  # a stream has no empty pieces
    rights = struct.pack(f"={piece.fds}i", *[sent_fd] * piece.fds)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
    if sock.sendmsg([piece.data], ancillary) != len(piece.data):
        raise WrongError("the server leaves bytes in the socket")


def converse(talk: Conversation, sent_fd: int, room: int | None) -> Outcome:
    """Have one conversation, and look at what the device still has."""
    backend = RecordingBackend(RINGS)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    to_the_end = True
    refused = 0
    with (
        theirs,
        Connection(ours) as connection,
        Server(backend, protocol_features=SUPPORTED_PROTOCOL_FEATURES) as server,
    ):
        try:
            with room_for_fds(room):
                for piece in talk:
                    backend.fail = set(piece.fails)
                    send(theirs, piece, sent_fd)
                    served = serve_all(connection, server)
                    drain(theirs, served.replied_bytes)
                    refused += served.refused
        except VhostUserError:
            to_the_end = False
        finally:
            backend.fail = set()
    migrating = (backend.log, backend.log_fd, backend.logging)
    kept = (backend.running, backend.fds, backend.memory, backend.channel, *migrating)
    if any(kept):
        raise WrongError(f"the device still has {kept}")
    return Outcome(to_the_end, refused)


def run(talk: Conversation, sent_fd: int, room: int | None = None) -> Outcome:
    before = count_fds()
    outcome = converse(talk, sent_fd, room)
    left = count_fds() - before
    if left:
        raise WrongError(f"{left} descriptors are left")
    return outcome


def bent_conversation(seed: int, number: int) -> tuple[Conversation, int | None]:
    """Return the conversation of that number and its room for descriptors."""
    rng = random.Random(f"{seed} {number}")
    talk = list(rng.choice(HONEST))
    for _ in range(rng.randrange(1, 1 << rng.randrange(1, 6))):
        bend(rng, talk)
    return talk, rng.randrange(60) if rng.randrange(8) == 0 else None


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def show(talk: Conversation) -> None:
    for piece in talk:
        fails = f", device refuses {' '.join(sorted(piece.fails))}" if piece.fails else ""
        say(f"  {piece.data.hex()} {piece.fds} descriptors{fails}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz vhost-user messages.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--random", nargs=2, type=int, metavar=("N", "SEED"), default=[2000, 1])
    how.add_argument("--seconds", type=int, metavar="N")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    most, seed = options.random
    end = None
    if options.seconds is not None:
        most, seed = None, secrets.randbits(32)
        end = time.monotonic() + options.seconds
    say(f"seed {seed}")
    sent_fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for talk in HONEST:
        if run(talk, sent_fd) != Outcome(to_the_end=True, refused=0):
            raise WrongError("an honest conversation was cut off, or part of it refused")
    done = complete = 0
    for number in itertools.count(1) if most is None else range(1, most + 1):
        if end is not None and time.monotonic() >= end:
            break
        talk, room = bent_conversation(seed, number)
        try:
            complete += run(talk, sent_fd, room).to_the_end
        except BaseException:
            show(talk)
            say(f"room for {room} descriptors; replay with --random {number} {seed}")
            raise
        done += 1
    os.close(sent_fd)
    say(f"{done} conversations of seed {seed}, {complete} of which went on to their end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
