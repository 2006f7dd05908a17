# SPDX-License-Identifier: BSD-3-Clause
"""The check that no files call each other in a circle, on objects of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-B", str(ROOT / "tools/lint-circles"), str(root)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def compiled(root: Path, sources: dict[str, str]) -> Path:
    """Compile what each file of a folder consists of, as meson lays it out."""
    objects = root / "libvfsd_folder.a.p"
    objects.mkdir()
    for name, text in sources.items():
        source = root / name
        source.write_text(text)
        subprocess.run(["gcc", "-c", source, "-o", objects / f"{name}.o"], check=True)
    return root


@pytest.mark.parametrize(
    ("low", "problem"),
    [
        ("int low(void) { return 1; }", ""),
        (
            "int high(int n); int low(void) { return high(0); }",
            "circle: high.c low.c\n  high.c uses low.c: low\n  low.c uses high.c: high\n",
        ),
        ("extern int table; int low(void) { return table; }", "low.c uses high.c: table"),
        ("static int high(void) { return 1; } int low(void) { return high(); }", ""),
    ],
)
def test_two_that_use_each_other(tmp_path: Path, low: str, problem: str) -> None:
    high = "int low(void); int table = 1; int high(int n) { return n ? low() : 0; }"
    result = lint(compiled(tmp_path, {"high.c": high, "low.c": low}))
    assert result.returncode == bool(problem)
    assert problem in result.stderr
    assert problem or not result.stderr


@pytest.mark.parametrize("closed", [False, True])
def test_a_circle_of_three_without_what_only_leads_to_it(tmp_path: Path, closed: bool) -> None:
    sources = {
        "top.c": "int a(void); int top(void) { return a(); }",
        "a.c": "int b(void); int a(void) { return b(); }",
        "b.c": "int c(void); int b(void) { return c(); }",
        "c.c": "int a(void); int c(void) { return a(); }"
        if closed
        else "int c(void) { return 0; }",
    }
    result = lint(compiled(tmp_path, sources))
    assert result.returncode == closed
    assert ("circle: a.c b.c c.c\n" in result.stderr) == closed
    assert "top.c" not in result.stderr


def test_no_objects_are_no_success(tmp_path: Path) -> None:
    result = lint(tmp_path)
    assert result.returncode == 1
    assert "no objects" in result.stderr
