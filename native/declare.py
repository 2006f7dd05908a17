# SPDX-License-Identifier: BSD-3-Clause
"""Make the Python modules that repeat C declarations: enumerations, and layouts of structures.

Run by meson and by ``tools/lint``, for mypy: ``python declare.py NATIVE OUTPUT...``. NATIVE is
this directory, and each OUTPUT ``_declared.py`` or ``_records.py`` somewhere. A new member, and all
of fsnotify/records.h, is written in C only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cffi

CType: TypeAlias = Any
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# Of a structure that is read as bytes, each kind of member, as the module struct has it.
_CODES = {"uint16_t": "H", "int32_t": "i", "uint32_t": "I", "uint64_t": "Q"}


@dataclass(frozen=True)
class Numbers:
    """An ``enum`` as an IntEnum.

    Attributes:
        name: of the class.
        header: where the C declaration is; a folder: in one of its headers.
        c_name: of the ``enum``.
        prefixes: what members begin with in C, the longest first.
        doc: the docstring, which names the C declaration as well.
        without: members that Python has no use for.
    """

    name: str
    header: str
    c_name: str
    prefixes: tuple[str, ...]
    doc: str
    without: tuple[str, ...] = ()

    def python(self, native: Path) -> list[str]:
        """Return the lines of the class."""
        lines = [
            f"class {self.name}(IntEnum):",
            f'    """{self.doc}; ``enum {self.c_name}``."""',
            "",
        ]
        return lines + [f"    {name} = {value}" for name, value in self.members(native)]

    def members(self, native: Path) -> list[tuple[str, int]]:
        """Return the names in Python, and the numbers, in the order of C."""
        kind = _declared(native / self.header, f"enum {self.c_name}")
        return [
            (_without_prefix(name, self.prefixes), value)
            for name, value in sorted(kind.relements.items(), key=lambda item: item[1])
            if name not in self.without
        ]


class Words(Numbers):
    """An ``enum`` as a StrEnum: each value is the member's name as a command line has it."""

    def python(self, native: Path) -> list[str]:
        """Return the lines of the class."""
        lines = [
            f"class {self.name}(StrEnum):",
            f'    """{self.doc}; ``enum {self.c_name}``."""',
            "",
        ]
        names = [name for name, _ in self.members(native)]
        return lines + [f'    {name} = "{name.lower().replace("_", "-")}"' for name in names]


@dataclass(frozen=True)
class Layout:
    """A ``struct`` as a NamedTuple, and how it is unpacked."""

    name: str
    header: str
    c_name: str
    doc: str

    def python(self, native: Path) -> list[str]:
        """Return the lines of the class and of its ``struct.Struct``."""
        kind = _declared(native / self.header, f"struct {self.c_name}")
        fields = [(name, field.type.cname) for name, field in kind.fields]
        at = 0
        for (name, field), (_, c_name) in zip(kind.fields, fields, strict=True):
            if field.offset != at:
                raise SystemExit(f"{self.header}: padding before {self.c_name}.{name}")
            at += int(re.sub(r"\D", "", c_name)) // 8
        layout = "".join(_CODES[c_name] for _, c_name in fields)
        constant = re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).upper()
        return [
            f"class {self.name}(NamedTuple):",
            f'    """{self.doc}; ``struct {self.c_name}``."""',
            "",
            *(f"    {name}: int" for name, _ in fields),
            "",
            "",
            f'{constant}: Final = struct.Struct("={layout}")',
        ]


DECLARED: Sequence[Numbers] = (
    Words(
        "Cache", "fuse/options.h", "vfsd_cache", ("VFSD_CACHE_",),
        "How long the guest may trust what it knows",
    ),
    Words(
        "FileHandles", "inode/options.h", "vfsd_handle_policy", ("VFSD_HANDLES_",),
        "Whether inodes are held by file handle rather than by an O_PATH descriptor",
    ),
    Words(
        "Fsnotify", "fsnotify/options.h", "vfsd_fsnotify", ("VFSD_FSNOTIFY_",),
        "Who reports a change to the guest's watchers",
    ),
    Words(
        "FsnotifyDialect", "fsnotify/options.h", "vfsd_fsnotify_dialect", ("VFSD_DIALECT_",),
        "Which protocol of remote fsnotify the guest's kernel speaks",
    ),
    Words(
        "MigrationMode", "migrate/options.h", "vfsd_migration_mode", ("VFSD_MIGRATION_",),
        "How the other daemon finds the guest's inodes in a migration",
    ),
    Words(
        "MigrationOnError", "migrate/options.h", "vfsd_migration_on_error",
        ("VFSD_MIGRATION_",),
        "What an inode that cannot be found means for a migration",
    ),
    Words(
        "XattrType", "fuse/options.h", "vfsd_xattr_type", ("VFSD_XATTR_",),
        "What a rule does with the name of an extended attribute",
    ),
    Words(
        "XattrScope", "fuse/options.h", "vfsd_xattr_scope", ("VFSD_XATTR_",),
        "Whose names a rule looks at",
    ),
    Numbers(
        "IdEffect", "fuse/options.h", "vfsd_id_effect", ("VFSD_ID_",),
        "What happens to an id within a range",
    ),
    Numbers(
        "CoreLogLevel", "base/log.h", "vfsd_log_level", ("VFSD_LOG_",),
        "How severe a line of the C core is",
    ),
    Numbers(
        "Opcode", "fuse", "fuse_opcode", ("FUSE_",),
        "Request codes; numbers from 3072 on are free for private use",
        ("FUSE_OPCODES",),
    ),
)  # fmt: skip


# Of what RECORDS declares, all of which is made: names that differ from C's, or members' beginnings
# that are not all that they have in common.
RECORDS = "fsnotify/records.h"
NAMES = {"vfsd_watch_status": "Status"}
PREFIXES = {"vfsd_mount_change": ("VFSD_MOUNT_MADE_", "VFSD_")}


def records(native: Path) -> list[Numbers | Layout]:
    """Return what is made of `RECORDS`: each enumeration and structure that has a name."""
    found: list[Numbers | Layout] = []
    text = (native / RECORDS).read_text(encoding="utf-8")
    for kind, c_name in re.findall(r"^(enum|struct) (\w+) {", text, re.MULTILINE):
        name = NAMES.get(c_name) or "".join(map(str.title, c_name.split("_")[1:]))
        doc = f"As {RECORDS} has it"
        if kind == "struct":
            found.append(Layout(name, RECORDS, c_name, doc))
            continue
        names = list(_declared(native / RECORDS, f"enum {c_name}").relements)
        prefix = names[0]
        while not (prefix.endswith("_") and all(each.startswith(prefix) for each in names)):
            prefix = prefix[:-1]
        prefixes = PREFIXES.get(c_name, (prefix,))
        without = ("VFSD_RECORD_SKIP", "VFSD_RECORD_TYPES")
        found.append(Numbers(name, RECORDS, c_name, prefixes, doc, without))
    return found


def _declared(header: Path, what: str) -> CType:
    """Return the type that the header declares as `what`, which refers to no other."""
    headers = sorted(header.glob("**/*.h")) if header.is_dir() else [header]
    text = _COMMENT.sub("", "".join(path.read_text(encoding="utf-8") for path in headers))
    found = re.search(rf"^(?:typedef )?({what} \{{.*?\}})[^;]*;", text, re.DOTALL | re.MULTILINE)
    if not found:
        raise SystemExit(f"{header}: there is no {what}")
    builder = cffi.FFI()
    builder.cdef(f"{found[1]};")
    return builder.typeof(what)


def _without_prefix(name: str, prefixes: Sequence[str]) -> str:
    for prefix in prefixes:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    raise SystemExit(f"{name} begins with none of {prefixes}")


def module(name: str, native: Path) -> str:
    """Return the source of ``_declared.py`` or ``_records.py``."""
    lines = [
        "# SPDX-License-Identifier: BSD-3-Clause",
        '"""What C declares. Made by native/declare.py; changes are lost."""',
        "",
        "import struct",
        "from enum import IntEnum, StrEnum",
        "from typing import Final, NamedTuple",
    ]
    for each in records(native) if name == "_records.py" else DECLARED:
        lines += ["", "", *each.python(native)]
    return "\n".join(lines) + "\n"


def main(native: Path, outputs: Sequence[Path]) -> None:
    """Write the modules."""
    for output in outputs:
        output.write_text(module(output.name, native), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
