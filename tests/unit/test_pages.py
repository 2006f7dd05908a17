# SPDX-License-Identifier: BSD-3-Clause
"""What the project's pages name is there: files, make targets, functions, patches, options."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from virtiofsd_py import arguments, watch

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")])
# What is in the repository; build/ is not.
TREES = "bench|docs|man|native|qemu-tests|tests|tools|virtiofsd_py"
page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
each_patch = pytest.mark.parametrize(
    "series",
    sorted(ROOT.glob("qemu-tests/*/patches/**/series")),
    ids=lambda path: path.parent.relative_to(ROOT).as_posix(),
)


def code(text: str) -> str:
    """Return what the page sets as code."""
    blocks = re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", rest)])


@page
def test_paths_exist(page: Path) -> None:
    named = re.findall(rf"(?<![\w./-])((?:{TREES})/[\w./*-]*)", code(page.read_text()))
    paths = {path.rstrip(".") for path in named if not re.search("RELEASE|FOLDER|NAME", path)}
    assert [path for path in sorted(paths) if not list(ROOT.glob(path.rstrip("/")))] == []


@page
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@page
def test_make_knows_the_targets(page: Path) -> None:
    named = re.findall(r"^make (?:-C \S+ )?([a-z][\w-]*)", code(page.read_text()), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    phony = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    assert set(named) <= set(" ".join(phony).split())


@page
def test_c_has_the_functions(page: Path) -> None:
    named = set(re.findall(r"\bvfsd_\w+", code(page.read_text())))
    sources = "\n".join(path.read_text() for path in ROOT.glob("native/**/*.[ch]"))
    assert sorted(name for name in named if not re.search(rf"\b{name}\b", sources)) == []


def test_the_table_of_layers_is_that_of_the_build() -> None:
    build = (ROOT / "native/meson.build").read_text()
    rows = dict(re.findall(r"^  '(\w+)': \[(.*?)\],?$", build, re.DOTALL | re.MULTILINE))
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| ?(.*?) \|$", text, re.MULTILINE))
    layers = {name: re.findall(r"'(\w+)'", below) for name, below in rows.items()}
    assert told.pop("device") == "all of them"
    assert sorted(layers.pop("device")) == sorted(layers)
    assert {name: re.findall(r"\w+", below) for name, below in told.items()} == layers


def test_the_protocol_has_the_numbers_of_the_wire() -> None:
    wire = "".join(path.read_text() for path in (ROOT / "native/fuse").glob("wire*.h"))
    text = (ROOT / "docs/protocol.md").read_text()
    bits = re.findall(r"^\| `(FUSE_\w+)` \| (\d+) \|", text, re.MULTILINE)
    assert len(bits) == 7
    for name, bit in bits:
        assert re.search(rf"\b{name} (?:= |\()1(?:ULL)? << {bit}\b", wire), name
    for struct in ("fuse_fsnotify_in", "fuse_notify_fsnotify_out"):
        (body,) = re.findall(rf"^struct {struct} {{\n(.*?)^}};", wire, re.DOTALL | re.MULTILINE)
        at = 0
        for kind, bits_of, field in re.findall(r"^\t(u?int(\d+)_t) (\w+);", body, re.MULTILINE):
            short = kind[0].replace("i", "s") + bits_of
            assert f"\n| {at} | `{short} {field}` |" in text, field
            at += int(bits_of) // 8


@each_patch
def test_each_patch_is_explained(series: Path) -> None:
    names = re.findall(r"^(\d.*)\.patch$", series.read_text(), re.MULTILINE)
    rows = re.findall(r"^\| (\d{4} [^|]*) \|", (ROOT / "docs/patches.md").read_text(), re.MULTILINE)
    told = tuple(re.sub(r"[^\w]+", "-", row) for row in rows)
    assert names
    # Git cuts long names.
    assert [name for name in names if not any(row.startswith(name[:50]) for row in told)] == []


# -- the man page --------------------------------------------------------------------------------


def man_page() -> str:
    """Return the page's source without what only sets it."""
    text = (ROOT / "man/virtiofsd-py.1").read_text()
    text = re.sub(r"\\f[A-Z]", "", text.replace("\\-", "-").replace("\\~", " "))
    return re.sub(r"^\.(?:B|I|BR|BI|IR|RI) ", "", text, flags=re.MULTILINE)


def options_of(section: str) -> dict[str, str]:
    """Return each option's paragraph, on one line."""
    body = re.split(r"^\.SH ", man_page(), flags=re.MULTILINE)
    (wanted,) = (part for part in body if part.startswith(section + "\n"))
    found = {}
    for paragraph in re.split(r"^\.(?:TP|SS.*)$", wanted, flags=re.MULTILINE):
        tag, _, text = paragraph.strip().partition("\n")
        for name in re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", tag):
            found[name] = re.sub(r"\s+", " ", text)
    return found


def options_in_help(text: str) -> set[str]:
    tags = [line.split("  ")[0] for line in re.findall(r"^  (-.*)", text, re.MULTILINE)]
    return {name for tag in tags for name in re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", tag)}


@pytest.mark.parametrize(
    ("section", "help_text"),
    [("OPTIONS", arguments.help_text()), ("WATCH", watch.help_text())],
    ids=["daemon", "watch"],
)
def test_the_man_page_has_each_option(section: str, help_text: str) -> None:
    told = set(options_of(section)) | {"-h", "--help"}
    assert told == options_in_help(help_text)


def test_the_man_page_has_each_default() -> None:
    paragraphs = options_of("OPTIONS")
    defaults = {}
    for entry in re.split(r"\n  (?=-)", arguments.help_text()):
        name, _, text = re.sub(r"\s+", " ", entry).partition(" ")
        if found := re.search(r"\(default: ([\w-]+)", text):
            defaults[name] = found[1]
    assert len(defaults) > 20
    assert {n: d for n, d in defaults.items() if f"Default: {d}" not in paragraphs[n]} == {}


def test_the_man_page_has_each_old_word() -> None:
    old = re.search(r"old manner: (.*?)\n  -d", arguments.help_text(), re.DOTALL)
    assert old
    assert set(re.findall(r"[\w=]+", old[1])) <= set(re.findall(r"[\w=]+", man_page()))


def test_the_man_page_renders_without_a_warning() -> None:
    argv = ["man", "--warnings=w", "--local-file", str(ROOT / "man/virtiofsd-py.1")]
    try:
        shown = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no man here")
    assert (shown.returncode, shown.stderr) == (0, "")
