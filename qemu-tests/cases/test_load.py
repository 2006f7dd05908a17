# SPDX-License-Identifier: BSD-3-Clause
"""Load with a model beside it: what is read is what was written, in the guest and on the host."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from commands import run_in_guest

# One file against an array of bytes, like fsx: every way to change and to see it.
ONE_FILE = """
import ctypes, hashlib, mmap, os, random, sys
LIMIT, STEPS = 256 * 1024, 3000
dice = random.Random(int(sys.argv[1]))
libc = ctypes.CDLL(None, use_errno=True)
fallocate = libc.fallocate
fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
PUNCH = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
fd = os.open("file", os.O_RDWR | os.O_CREAT, 0o644)
model = bytearray()

def write():
    at, data = dice.randrange(LIMIT), dice.randbytes(dice.randrange(1, 30000))
    data = data[: LIMIT - at]
    if at > len(model):
        model.extend(bytes(at - len(model)))
    model[at : at + len(data)] = data
    assert os.pwrite(fd, data, at) == len(data)

def truncate():
    size = dice.randrange(LIMIT)
    if size < len(model):
        del model[size:]
    else:
        model.extend(bytes(size - len(model)))
    os.ftruncate(fd, size)

def read():
    at, size = dice.randrange(LIMIT), dice.randrange(1, 60000)
    assert os.pread(fd, size, at) == model[at : at + size], ("read", at, size)

def mapped():
    if model:
        with mmap.mmap(fd, len(model), prot=mmap.PROT_READ) as view:
            assert view[:] == model, "mapped"

def punch():
    at, size = dice.randrange(LIMIT), dice.randrange(1, 30000)
    assert fallocate(fd, PUNCH, at, size) == 0
    end = min(at + size, len(model))
    if at < end:
        model[at:end] = bytes(end - at)

def allocate():
    at, size = dice.randrange(LIMIT - 30000), dice.randrange(1, 30000)
    assert fallocate(fd, 0, at, size) == 0
    model.extend(bytes(max(0, at + size - len(model))))

def reopen():
    global fd
    os.close(fd)
    fd = os.open("file", os.O_RDWR)
    assert os.fstat(fd).st_size == len(model)

ways = [write] * 5 + [read] * 5 + [truncate, mapped, punch, allocate, reopen]
for _ in range(STEPS):
    dice.choice(ways)()
os.fsync(fd)
print(hashlib.sha256(model).hexdigest())
"""

# Several processes in one tree; each prints what it left in the names that are its own.
TREE = """
import hashlib, os, random, sys
def work(me):
    dice, mine = random.Random(me), {}
    for step in range(400):
        name = f"p{me}-{dice.randrange(30)}"
        way = dice.randrange(5)
        where = f"d{dice.randrange(4)}"
        os.makedirs(where, exist_ok=True)
        if way < 2:
            data = dice.randbytes(dice.randrange(5000))
            with open(mine.setdefault(name, [f"{where}/{name}", b""])[0], "wb") as file:
                file.write(data)
            mine[name][1] = data
        elif name in mine and way == 2:
            os.rename(mine[name][0], f"{where}/{name}")
            mine[name][0] = f"{where}/{name}"
        elif name in mine and way == 3:
            os.unlink(mine.pop(name)[0])
        else:
            os.listdir(where)
    return mine
pids, pipes = [], []
for me in range(4):
    r, w = os.pipe()
    if not os.fork():
        for path, data in work(me).values():
            os.write(w, f"{path} {hashlib.sha256(data).hexdigest()}\\n".encode())
        os._exit(0)
    os.close(w)
    pipes.append(r)
for r in pipes:
    sys.stdout.write(open(r).read())
for _ in pipes:
    assert os.wait()[1] == 0
"""

# Without a cache, shared mappings have to be asked for.
CACHES = ["--cache=auto", "--cache=always", "--cache=never --allow-mmap"]


def run(vmm: str, share: Path, script: str, cache: str, *arguments: str) -> list[str]:
    """Run `script` by the guest's Python on the share; return what it prints."""
    share.mkdir()
    options = tuple(f"--daemon-arg={option}" for option in cache.split())
    said = run_in_guest(vmm, share, "python3", "-", *arguments, options=options, text=script)
    return said.splitlines()


@pytest.mark.only("uml")
@pytest.mark.parametrize("cache", CACHES)
def test_one_file_against_a_model(vmm: str, tmp_path: Path, cache: str) -> None:
    (digest,) = run(vmm, tmp_path / "share", ONE_FILE, cache, "1")
    assert hashlib.sha256((tmp_path / "share/file").read_bytes()).hexdigest() == digest


@pytest.mark.only("uml")
@pytest.mark.parametrize("cache", CACHES)
def test_processes_in_one_tree(vmm: str, tmp_path: Path, cache: str) -> None:
    share = tmp_path / "share"
    printed = dict(line.split() for line in run(vmm, share, TREE, cache))
    found = {
        os.fspath(path.relative_to(share)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in share.rglob("*")
        if path.is_file()
    }
    assert found == printed
