# SPDX-License-Identifier: BSD-3-Clause
"""The check of what the folders of native/ include, on folders of its own and on ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = """\
layers = {
  'low': [],
  'left': ['low'],
  'right': ['low'],
  'top': ['low', 'left'],
}
"""


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-B", str(ROOT / "tools/lint-includes"), str(root)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("file", "includes", "problem"),
    [
        ("top/a.c", "left/a.h", ""),
        ("top/a.c", "top/b.h", ""),
        ("top/deep/a.c", "low/a.h", ""),
        ("low/a.c", "top/b.h", "a.c:1: low/ may not include top/"),
        ("left/a.h", "right/a.h", "a.h:1: left/ may not include right/"),
        ("top/a.c", "right/a.h", "a.c:1: top/ may not include right/"),
        ("top/a.c", "b.h", "a.c:1: b.h is no path from"),
    ],
)
def test_only_what_a_row_names_is_included(
    tmp_path: Path, file: str, includes: str, problem: str
) -> None:
    (tmp_path / "meson.build").write_text(LAYERS)
    for header in ("low/a.h", "left/a.h", "right/a.h", "top/b.h"):
        (tmp_path / header).parent.mkdir(exist_ok=True)
        (tmp_path / header).write_text("#include <stdint.h>\n")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(f'#include "{includes}"\n')
    result = lint(tmp_path)
    assert result.returncode == bool(problem)
    assert problem in result.stderr


def test_rows_name_what_is_below(tmp_path: Path) -> None:
    (tmp_path / "meson.build").write_text(LAYERS.replace("'low': []", "'low': ['top']"))
    result = lint(tmp_path)
    assert result.returncode == 1
    assert "low/ comes before top/" in result.stderr


def test_ours() -> None:
    result = lint(ROOT / "native")
    assert result.returncode == 0, result.stderr
