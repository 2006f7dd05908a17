# SPDX-License-Identifier: BSD-3-Clause
"""The loads, and the files they need."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from virtiofsd_py.bench.session import (
    ROOT_ID,
    BadReply,
    Kind,
    Names,
    Outcome,
    Session,
    Work,
    run_bare,
)

FILE_BYTES: Final = 16 << 20
"""More than a core's own cache, less than what the machine's cores share on most servers."""
FEW_NAMES: Final = 1_000
MANY_NAMES: Final = 100_000
MIB: Final = 1 << 20
_PAGE_BYTES: Final = 4096
_HOT_NAMES: Final = 64
_CREATE: Final = "create"
_BARE_DEPTH: Final = 32
_BARE_BYTES: Final = 4 << 20
"""As many requests as the goals have in flight: one buffer would stay in a core's own cache."""
_DIRENTS_BYTES: Final = 32 << 10
"""What glibc's readdir asks the kernel for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One kind of request.

    Attributes:
        key: how it is called on the command line.
        title: how it is called in tables.
        kind: what the driver does.
        unit: what is counted.
        request_bytes: of READ, WRITE and READDIRPLUS.
        random: whether names and offsets come in no order.
        names: how many there are in the directory; 0 for a load on the file.
        hot: how many of them are used, if not all.
        forget: LOOKUP: whether each is forgotten at once.
        in_memory: whether it is better done in a file system in memory. ext4 gives no inode number
            away that was freed within the last minutes, and looks at all of them each time: that
            would be what is measured, and who comes later would have more of it.
    """

    key: str
    title: str
    kind: Kind
    unit: str = "op"
    request_bytes: int = 0
    random: bool = False
    names: int = 0
    hot: int = 0
    forget: bool = False
    in_memory: bool = False

    @property
    def used_names(self) -> int:
        """How many names it asks for."""
        return self.hot or self.names

    @property
    def data(self) -> str:
        """The name of the file it is about, of those that hold data."""
        return "data-large" if self.request_bytes == MIB else "data"


LOADS: Final = (
    Load(key="getattr", title="GETATTR", kind=Kind.GETATTR),
    Load(key="lookup", title="LOOKUP, hot", kind=Kind.LOOKUP, names=FEW_NAMES, hot=_HOT_NAMES),
    Load(
        key="lookup-100k",
        title="LOOKUP, 100 000 names",
        kind=Kind.LOOKUP,
        names=MANY_NAMES,
        random=True,
    ),
    Load(
        key="lookup-new",
        title="LOOKUP and FORGET",
        kind=Kind.LOOKUP,
        names=FEW_NAMES,
        forget=True,
    ),
    Load(
        key="read-4k",
        title="READ 4 KiB random",
        kind=Kind.READ,
        request_bytes=_PAGE_BYTES,
        random=True,
    ),
    Load(
        key="write-4k",
        title="WRITE 4 KiB random",
        kind=Kind.WRITE,
        request_bytes=_PAGE_BYTES,
        random=True,
    ),
    Load(key="read-1m", title="READ 1 MiB", kind=Kind.READ, request_bytes=MIB),
    Load(key="write-1m", title="WRITE 1 MiB", kind=Kind.WRITE, request_bytes=MIB),
    Load(
        key="readdirplus-1k",
        title="READDIRPLUS, 1 000 entries",
        kind=Kind.READDIRPLUS,
        unit="entry",
        request_bytes=_DIRENTS_BYTES,
        names=FEW_NAMES,
    ),
    Load(
        key="readdirplus-100k",
        title="READDIRPLUS, 100 000 entries",
        kind=Kind.READDIRPLUS,
        unit="entry",
        request_bytes=_DIRENTS_BYTES,
        names=MANY_NAMES,
    ),
    Load(key="create", title="CREATE…UNLINK…FORGET", kind=Kind.CREATE, in_memory=True),
)


class Tree:
    """A directory with what the loads need, made when it is needed.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        """Use the empty directory `path`."""
        self.path = path

    def names_in(self, count: int) -> str:
        """Return the name of a directory with `count` files."""
        return f"names-{count}"

    def prepare(self, load: Load) -> None:
        """Make what `load` needs, and have it on disk, so that nobody pays for that later."""
        if load.names:
            self.make_names(load.names)
        elif load.kind is Kind.CREATE:
            (self.path / _CREATE).mkdir(exist_ok=True)
        else:
            self._make_data(load)

    def make_names(self, count: int) -> Path:
        """Make a directory with `count` empty files, unless there is one; returns it."""
        directory = self.path / self.names_in(count)
        if not directory.exists():
            directory.mkdir()
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                for number in range(count):
                    os.mknod(f"n{number:07}", 0o644, dir_fd=fd)
            finally:
                os.close(fd)
            self._write_back()
        return directory

    def _make_data(self, load: Load) -> None:
        """Write the file in pieces as large as the requests that it is for.

        The page cache holds what was written at once in folios as large as the filesystem allows:
        so large transfers find large ones, and small ones need not look through all of a large one
        for what they change.
        """
        path = self.path / load.data
        if path.exists():
            return
        pages = max(load.request_bytes // _PAGE_BYTES, 1)
        with path.open("wb", buffering=0) as file:
            for first in range(0, FILE_BYTES // _PAGE_BYTES, pages):
                piece = (
                    struct.pack("=Q", page).ljust(_PAGE_BYTES, b"\0")
                    for page in range(first, first + pages)
                )
                file.write(b"".join(piece))
        self._write_back()

    def check_data(self, load: Load) -> None:
        """See that every page still says which it is.

        Raises:
            ValueError: one does not: somebody wrote something else, or somewhere else.
        """
        with (self.path / load.data).open("rb") as file:
            for page in range(FILE_BYTES // _PAGE_BYTES):
                if struct.unpack_from("=Q", file.read(_PAGE_BYTES))[0] != page:
                    raise ValueError(f"page {page} of the file is not what was written")

    def _write_back(self) -> None:
        subprocess.run(["sync", "--file-system", self.path], check=True)

    def run_bare(self, load: Load, seconds: float) -> Outcome:
        """Do the load's work by plain system calls, with the buffers of some requests by turns."""
        work = Work(
            kind=load.kind,
            depth=min(_BARE_DEPTH, _BARE_BYTES // max(load.request_bytes, 1)),
            seconds=seconds,
            file_bytes=FILE_BYTES,
            request_bytes=load.request_bytes,
            random=load.random,
        )
        flags = os.O_RDWR
        if load.names:
            path, flags = self.path / self.names_in(load.names), os.O_RDONLY
        elif load.kind is Kind.CREATE:
            path, flags = self.path / _CREATE, os.O_RDONLY
        else:
            path = self.path / load.data
            if load.kind is Kind.GETATTR:
                flags = os.O_PATH
        fd = os.open(path, flags)
        try:
            return run_bare(fd, load.used_names, work)
        finally:
            os.close(fd)


@contextmanager
def tree_in(share: Path) -> Iterator[Tree]:
    """Make a directory in `share`, and remove it at the end."""
    path = Path(tempfile.mkdtemp(prefix="virtiofsd-py-bench-", dir=share))
    try:
        yield Tree(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Client:
    """What one session has looked up and opened in a tree."""

    def __init__(self, session: Session, tree: Tree) -> None:
        """Look up the tree, a directory in the root."""
        self.session = session
        self._root = session.lookup(ROOT_ID, tree.path.name)
        self._tree = tree
        self._nodes: dict[str, int] = {}
        self._data_handles: dict[str, int] = {}
        self._directory_handles: dict[str, list[int]] = {}

    def prepare(self, load: Load) -> Work:
        """Open and look up what `load` needs; all names, unless they are to be new."""
        kind, request_bytes = load.kind, load.request_bytes
        if load.names:
            names = Names(load.used_names)
            nodeid = self._node(self._tree.names_in(load.names))
            if not load.forget:
                self._look_up_all(nodeid, names)
            return Work(
                kind=kind,
                nodeid=nodeid,
                request_bytes=request_bytes,
                random=load.random,
                forget=load.forget,
                names=names,
            )
        if kind is Kind.CREATE:
            return Work(kind=kind, nodeid=self._node(_CREATE))
        if kind is not Kind.GETATTR and load.data not in self._data_handles:
            self._data_handles[load.data] = self.session.open(self._node(load.data), os.O_RDWR)
        return Work(
            kind=kind,
            nodeid=self._node(load.data),
            handles=[self._data_handles[load.data]] if load.data in self._data_handles else [],
            file_bytes=FILE_BYTES,
            request_bytes=min(request_bytes, self.session.max_request_bytes),
            random=load.random,
        )

    def _look_up_all(self, nodeid: int, names: Names) -> None:
        work = Work(kind=Kind.LOOKUP, depth=8, units=names.count, nodeid=nodeid, names=names)
        try:
            self.session.run(work)
        except BadReply:
            self.session.forget(names)
            raise

    def handles(self, load: Load, count: int) -> list[int]:
        """Return so many handles of the directory of `load`."""
        name = self._tree.names_in(load.names)
        opened = self._directory_handles.setdefault(name, [])
        while len(opened) < count:
            opened.append(self.session.opendir(self._node(name)))
        return opened[:count]

    def _node(self, name: str) -> int:
        if name not in self._nodes:
            self._nodes[name] = self.session.lookup(self._root, name)
        return self._nodes[name]
