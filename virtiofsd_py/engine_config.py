# SPDX-License-Identifier: BSD-3-Clause
"""From options to the C core's configuration, member by member of the same name.

The structures that the C folders declare (native/*/options.h) say what there is. A member is filled
from the attribute of its name, so nothing here names an option: see `EngineConfig`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from virtiofsd_py._declared import CoreLogLevel
from virtiofsd_py._native import ffi
from virtiofsd_py.idmap import Range, Table
from virtiofsd_py.options import Options
from virtiofsd_py.xattrmap import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What the core is made with: ``vfsd_engine_config`` in native/device/native.cdef.h.

    A member of the C structure, or ``member`` of its part ``folder``, is the attribute of this name
    (``folder_member``) here, or else the one of `options`.

    Attributes:
        options: what the command line says.
        root_fd: O_PATH descriptor of the shared directory; the engine owns it.
        proc_self_fd: O_PATH descriptor of /proc/self/fd; the engine owns it.
        mount_table_fd: /proc/self/mountinfo, which the engine opens anew; 0: names of directories
            that are listed often cannot be known by their numbers.
        num_rings: rings a front-end may start, at most `engine.MAX_RINGS`.
        log_level: the least severe line that the core logs, a `CoreLogLevel`; -1: none.
        max_fds: descriptors the guest may make us hold, for inodes and open files together; 0 means
            no quota.
        fsnotify_max_marks: fanotify marks that the guest may cause; 0 means the host's own limit.
        fsnotify_max_watches: inotify watches, where it comes to those.
        watch_max_fds: descriptors that watch clients may make the daemon hold; 0 means no quota.
        watch_max_marks: fanotify marks that watch clients may cause.
        watch_max_watches: likewise.
        xattrmap: rules for names of extended attributes, the first that matches decides; empty: the
            host's names.
        uids: how user ids are translated.
        gids: how group ids are.
        upcalls: opcodes that `Engine.serve_upcalls` serves.
    """

    options: Options
    root_fd: int
    proc_self_fd: int
    num_rings: int
    mount_table_fd: int = 0
    log_level: int = CoreLogLevel.INFO
    max_fds: int = 0
    fsnotify_max_marks: int = 0
    fsnotify_max_watches: int = 0
    watch_max_fds: int = 0
    watch_max_marks: int = 0
    watch_max_watches: int = 0
    xattrmap: Sequence[Rule] = ()
    uids: Table = field(default_factory=Table)
    gids: Table = field(default_factory=Table)
    upcalls: Sequence[int] = ()


CType: TypeAlias = Any
"""What ``ffi.typeof`` returns."""


def raw_config(config: EngineConfig) -> tuple[Any, object]:
    """Return a ``vfsd_engine_config *``, and what it points to, to be kept as long.

    Raises:
        AttributeError: C has a member that nobody here has a value for.
    """
    rules = [
        {
            "type": _constant(ffi.typeof("enum vfsd_xattr_type"), rule.type),
            "scope": _constant(ffi.typeof("enum vfsd_xattr_scope"), rule.scope),
            "key": ffi.new("char[]", rule.key),
            "prepend": ffi.new("char[]", rule.prepend),
        }
        for rule in config.xattrmap
    ]
    raw_rules = ffi.new("vfsd_xattr_rule[]", rules)
    tables = [config.uids.to_host, config.uids.to_guest, config.gids.to_host, config.gids.to_guest]
    raw_tables = [_ranges(table) for table in tables]
    raw_upcalls = ffi.new("uint32_t[]", list(config.upcalls))
    pointers = {
        "xattrmap": raw_rules,
        "xattrmap_rules": len(rules),
        "ids": raw_tables,
        "id_ranges": [len(table) for table in tables],
        "upcalls": raw_upcalls,
        "n_upcalls": len(config.upcalls),
    }
    values = {
        name: pointers[name] if name in pointers else _value(member.type, config, "", name)
        for name, member in ffi.typeof("vfsd_engine_config").fields
    }
    return ffi.new("vfsd_engine_config *", values), (rules, raw_rules, raw_tables, raw_upcalls)


def _value(kind: CType, config: EngineConfig, folder: str, name: str) -> object:
    """Return what a member of C type `kind` is to have."""
    if kind.kind == "struct":
        return {m: _value(member.type, config, f"{name}_", m) for m, member in kind.fields}
    value = _find(config, folder + name, name)
    return _constant(kind, value) if kind.kind == "enum" else value


def _find(config: EngineConfig, *names: str) -> object:
    for holder in (config, config.options):
        for name in names:
            if hasattr(holder, name):
                return getattr(holder, name)
    raise AttributeError(f"no value for {names[0]}")


def _constant(kind: CType, member: object) -> int:
    """Return the C enumerator of the member's name: they differ in what all of C's begin with."""
    assert isinstance(member, enum.Enum), member
    names: dict[str, int] = kind.relements
    first = min(names)
    prefix = next(
        first[:i]
        for i in range(len(first), 0, -1)
        if first[i - 1] == "_" and all(name.startswith(first[:i]) for name in names)
    )
    return names[prefix + member.name]


def _ranges(table: Sequence[Range]) -> object:
    kind = ffi.typeof("enum vfsd_id_effect")
    return ffi.new(
        "vfsd_id_range[]", [(r.first, r.count, r.to, _constant(kind, r.effect)) for r in table]
    )
