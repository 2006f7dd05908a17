# SPDX-License-Identifier: BSD-3-Clause
"""The same file operations done by the host or by the guest, so that a case can be data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

Step = tuple[str, *tuple[bytes, ...]]
"""A verb and its arguments: ``("rename", b"old", b"new")``. See ``Actor`` for the verbs."""

Call = Callable[..., int]
"""A system call by the agent's verb and arguments (``guest/agent.c``): its value, or OSError."""

_OPEN_FLAGS: Final = {b"r": os.O_RDONLY, b"w": os.O_WRONLY, b"a": os.O_WRONLY | os.O_APPEND}
_LONG_AGO_S: Final = 1_000_000_000

_HOST: Final[dict[str, Callable[..., object]]] = {
    "open": lambda path, flags, mode: os.open(path, flags | os.O_CLOEXEC, mode),
    "close": os.close,
    "read": os.read,
    "write": os.write,
    "mknod": os.mknod,
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "rename": os.rename,
    "link": os.link,
    "symlink": os.symlink,
    "chmod": os.chmod,
    "truncate": os.truncate,
    "utime": lambda path, seconds: os.utime(path, (seconds, seconds)),
}


def host_call(verb: str, *arguments: int | bytes) -> int:
    """The system call of this process that ``Agent.call`` would make in the guest."""
    value = _HOST[verb](*arguments)
    return value if isinstance(value, int) else 0


class Actor:
    """Does steps below one directory. Holds at most one open file.

    Verbs: ``file NAME [DATA]`` (create, write, close), ``create NAME`` and ``open NAME r|w|a``
    (left open), ``read``, ``write DATA``, ``close`` (of what is open), ``mknod NAME`` (an empty
    file that is never opened), ``mkdir``, ``rmdir``, ``unlink``, ``chmod``, ``truncate``, ``utime``
    with NAME, ``rename`` and ``link`` with OLD NEW, ``symlink TARGET NAME``.
    """

    def __init__(self, call: Call, root: bytes) -> None:
        """Acts by ``call`` below ``root``, a path as ``call``'s side sees it."""
        self._call = call
        self._root = root
        self._fd = -1

    def run(self, steps: Iterable[Step]) -> None:
        """Does ``steps`` in order; OSError if one fails."""
        for verb, *arguments in steps:
            self._step(verb, *arguments)

    def close(self) -> None:
        """Closes the open file, if any."""
        if self._fd >= 0:
            self._call("close", self._fd)
        self._fd = -1

    def below(self, name: bytes) -> Actor:
        """The same actor at home in the directory ``name``."""
        return Actor(self._call, self.path(name))

    def path(self, name: bytes) -> bytes:
        """``name`` as this actor's side sees it."""
        return self._root + b"/" + name

    def _step(self, verb: str, *names: bytes) -> None:
        match verb:
            case "file":
                self.run([("create", names[0]), ("write", *(names[1:] or [b"data"])), ("close",)])
            case "create":
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
                self._fd = self._call("open", self.path(names[0]), flags, 0o644)
            case "open":
                self._fd = self._call("open", self.path(names[0]), _OPEN_FLAGS[names[1]], 0)
            case "close":
                self.close()
            case "read":
                self._call("read", self._fd, 1)
            case "write":
                self._call("write", self._fd, names[0])
            case "mknod":
                self._call("mknod", self.path(names[0]), 0o644)
            case "mkdir":
                self._call("mkdir", self.path(names[0]), 0o755)
            case "chmod":
                self._call("chmod", self.path(names[0]), 0o600)
            case "truncate":
                self._call("truncate", self.path(names[0]), 1)
            case "utime":
                self._call("utime", self.path(names[0]), _LONG_AGO_S)
            case "symlink":
                self._call("symlink", names[0], self.path(names[1]))
            case "rmdir" | "unlink" | "rename" | "link":
                self._call(verb, *map(self.path, names))
            case _:
                raise ValueError(f"no such verb: {verb}")
