# SPDX-License-Identifier: BSD-3-Clause
"""What programs make on the share in a guest is what they make on the host, byte for byte."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from commands import DEADLINE_S, run_in_guest
from runguest import paths

# Run by the guest on the share and by the host beside it: relative names only.
SCRIPT = """
set -e
umask 022
mkdir made
git clone -q given/repository made/clone
git -C made/clone -c gc.auto=0 checkout -q -b branch HEAD~3
git -C made/clone fsck --strict --no-progress 2>made/fsck
tar -xpf given/tree.tar -C made
cd made
gcc -O2 -c ../given/agent.c -I../given -o agent.o
gcc -O2 -c ../given/channel.c -I../given -o channel.o
ar rcD both.a agent.o channel.o
rm -rf tree/d3
cp -a tree copied
find copied -type f -name 'f1*' -exec truncate -s 777 {} +
"""


def describe(top: Path) -> dict[str, object]:
    """Return what is below `top`: types, modes, owners, contents; times where they are data."""
    found: dict[str, object] = {}
    for path in sorted(top.rglob("*")):
        name = os.fspath(path.relative_to(top))
        if ".git/" in name and not name.endswith(".git/HEAD"):
            continue  # its index has times and inode numbers; fsck has looked at the objects
        status = path.lstat()
        what: list[object] = [stat.filemode(status.st_mode), status.st_uid, status.st_gid]
        if path.is_symlink():
            what.append(os.readlink(path))
        elif path.is_file():
            what.append(path.read_bytes())
        if name.startswith("tree/") and not path.is_dir():
            what.append(status.st_mtime_ns)
            what.append(status.st_nlink)
        found[name] = what
    return found


def give(top: Path) -> None:
    """Make a repository, an archive and sources, the same every time."""
    dice = random.Random(7)
    repository = top / "repository"
    repository.mkdir(parents=True)
    who = {"NAME": "n", "EMAIL": "e@invalid", "DATE": "2026-01-01T00:00:00Z"}
    identity = {f"GIT_{role}_{key}": who[key] for role in ("AUTHOR", "COMMITTER") for key in who}

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", repository, *arguments], env=os.environ | identity, check=True)

    git("init", "-q", "-b", "main")
    for number in range(8):
        for _ in range(20):
            file = repository / f"d{dice.randrange(5)}" / f"f{dice.randrange(40)}"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(dice.randbytes(dice.randrange(20_000)))
        git("add", ".")
        git("commit", "-q", "-m", f"change {number}")
    tree = top / "tree"
    for number in range(300):
        file = tree / f"d{number % 10}" / f"f{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(dice.randbytes(dice.randrange(50_000)))
        file.chmod(dice.choice([0o644, 0o600, 0o755, 0o4711, 0o440]))
        os.utime(file, ns=(10**18, 10**18 + number * 1_000_003))
    (tree / "symlink").symlink_to("d1/f1")
    os.link(tree / "d2/f2", tree / "second-name")
    os.mkfifo(tree / "pipe")
    for name in ("symlink", "pipe"):
        os.utime(tree / name, ns=(10**18, 10**18 + 1), follow_symlinks=False)
    with tarfile.open(top / "tree.tar", "w") as archive:
        archive.add(tree, "tree")
    for source in paths.SOURCES.glob("*.[ch]"):
        (top / source.name).write_bytes(source.read_bytes())


@pytest.mark.only("uml")
@pytest.mark.parametrize("cache", ["auto", "never", "always"])
def test_clone_build_and_unpack_as_on_the_host(vmm: str, tmp_path: Path, cache: str) -> None:
    share, host = tmp_path / "share", tmp_path / "host"
    for top in (share, host):
        give(top / "given")
    subprocess.run(["sh", "-c", SCRIPT], cwd=host, check=True, timeout=DEADLINE_S)
    run_in_guest(vmm, share, "sh", "-c", SCRIPT, options=(f"--daemon-arg=--cache={cache}",))
    expected, made = describe(host / "made"), describe(share / "made")
    assert made.keys() == expected.keys()
    for name, what in expected.items():
        assert made[name] == what, name
    head = ["git", "-C", "made/clone", "status", "--porcelain"]
    assert subprocess.run(head, cwd=share, capture_output=True, check=True).stdout == b""
