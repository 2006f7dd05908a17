# SPDX-License-Identifier: BSD-3-Clause
"""No code from the share.

Once the root is the share, the interpreter's paths lead into it: a module imported late, or a
source line shown in a traceback, would be whatever the guest has put there.
"""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType, TracebackType
from typing import Any, NoReturn


class _Refuse:
    """Finds nothing, before anybody else looks. Not derived: `importlib.abc` is a megabyte."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> NoReturn:
        raise ImportError(f"{fullname}: too late, the root has changed", name=fullname)


def forbid() -> None:
    """From now on import nothing and read no source file. Modules that are loaded stay."""
    sys.meta_path[:] = [_Refuse()]
    sys.path_hooks.clear()
    sys.path.clear()
    sys.path_importer_cache.clear()
    linecache.updatecache = _no_lines
    sys.excepthook = _show


def _no_lines(filename: str, module_globals: dict[str, Any] | None = None) -> list[str]:
    return []


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show what the interpreter's own hook would, but for the source lines."""
    traceback.print_exception(kind, error, trace)
