# SPDX-License-Identifier: BSD-3-Clause
"""The kernel build script: which patch series it takes, tried on a tree of three files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What the script asks of the kernel's make, and nothing else.
MAKEFILE = """\
allnoconfig:
\tcp $(KCONFIG_ALLCONFIG) $(O)/.config
linux:
\tcat fs/file >$(O)/linux
"""
APT = """\
# apt-private of a mirror that is a directory: SUITE/VERSION is a package.
cd "$(dirname "$0")/mirror" || exit 1
version=$(ls "$1" 2>/dev/null | sort -V | tail -n 1)
[ -n "$version" ] || exit 1
case $2 in
newest) echo "$version" ;;
download) mkdir -p "$4" && cp "$1/$version" "$4/package.deb" && echo "$4/package.deb" ;;
esac
"""


def patch(before: str, after: str) -> str:
    return f"--- a/fs/file\n+++ b/fs/file\n@@ -1,3 +1,3 @@\n one\n-{before}\n+{after}\n three\n"


class Checkout:
    """A project with nothing but the script, in a directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kernel = root / "qemu-tests/kernel"
        self.kernel.mkdir(parents=True)
        shutil.copy(ROOT / "qemu-tests/kernel/build", self.kernel)
        (self.kernel / "common.config").write_text("CONFIG_TINY=y\n")
        for name, text in (("apt-private", APT), ("install-deps", "")):
            script = root / "tools" / name
            script.parent.mkdir(exist_ok=True)
            script.write_text(f"#!/bin/sh\n{text}")
            script.chmod(0o755)

    def series(self, release: str, text: str) -> None:
        """Add, or replace, the series for a release."""
        directory = self.kernel / "patches" / release
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "0001-second-line.patch").write_text(text)
        (directory / "series").write_text("0001-second-line.patch\n")

    def package(self, suite: str, version: str, second_line: str) -> None:
        """Have a suite offer a release of the source."""
        tree = self.root / "tree"
        (tree / "linux/fs").mkdir(parents=True)
        (tree / "linux/Makefile").write_text(MAKEFILE)
        (tree / "linux/fs/file").write_text(f"one\n{second_line}\nthree\n")
        (tree / "deb/DEBIAN").mkdir(parents=True)
        (tree / "deb/usr/src").mkdir(parents=True)
        (tree / "deb/DEBIAN/control").write_text(
            f"Package: linux-source-6.12\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: nobody <nobody@localhost>\nDescription: three files\n"
        )
        archive = tree / "deb/usr/src/linux-source-6.12.tar.xz"
        subprocess.run(["tar", "-C", tree, "-cJf", archive, "linux"], check=True)
        mirror = self.root / "tools/mirror" / suite
        mirror.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["dpkg-deb", "--build", tree / "deb", mirror / version], check=True, capture_output=True
        )
        shutil.rmtree(tree)

    def build(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.kernel / "build", "uml", *arguments], capture_output=True, text=True, check=False
        )

    def built(self, out: str = "guest") -> list[str]:
        """Build, and return the lines of what came of it."""
        result = self.build(*(["--newest"] if out == "guest-newest" else []))
        assert result.returncode == 0, result.stdout + result.stderr
        return (self.root / "build" / out / "uml/linux").read_text().split()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    made.series("6.12.95", patch("early", "patched-95"))
    made.series("6.12.117", patch("late", "patched-117"))
    return made


@pytest.mark.parametrize(
    ("version", "source", "result"),
    [
        pytest.param("6.12.95-1~bpo12+1", "early", "patched-95", id="its own release"),
        pytest.param("6.12.117-1", "late", "patched-117", id="its own release, the later"),
        pytest.param("6.12.101-1", "early", "patched-95", id="between, like the earlier"),
        pytest.param("6.12.101-1", "late", "patched-117", id="between, like the later"),
        pytest.param("6.12.130-1", "late", "patched-117", id="after the last"),
        pytest.param("6.12.130-1", "early", "patched-95", id="after the last, unlike it"),
        pytest.param("6.12.90-1", "early", "patched-95", id="before the first"),
    ],
)
def test_series_is_chosen_by_release(
    checkout: Checkout, version: str, source: str, result: str
) -> None:
    checkout.package("bookworm-backports", version, source)
    assert checkout.built() == ["one", result, "three"]


@pytest.mark.parametrize(
    ("version", "result"), [("6.12.96-1", "nearest-95"), ("6.12.130-1", "nearest-117")]
)
def test_nearest_series_is_taken_where_several_apply(
    checkout: Checkout, version: str, result: str
) -> None:
    for release in ("6.12.95", "6.12.117"):
        checkout.series(release, patch("same", f"nearest-{release.rsplit('.', 1)[1]}"))
    checkout.package("bookworm-backports", version, "same")
    assert checkout.built() == ["one", result, "three"]


def test_release_that_no_series_fits_is_refused_before_anything_is_built(
    checkout: Checkout,
) -> None:
    checkout.package("bookworm-backports", "6.12.140-1", "unheard-of")
    result = checkout.build()
    assert result.returncode == 1
    message = result.stderr.splitlines()[0]
    assert "no patch series fits Linux 6.12.140-1" in message
    assert "6.12.95 (0001-second-line.patch)" in message
    assert "6.12.117 (0001-second-line.patch)" in message
    assert "compiling" not in result.stdout
    assert not (checkout.root / "build/guest/uml").exists()


def test_series_that_is_mended_is_tried_again(checkout: Checkout) -> None:
    checkout.package("bookworm-backports", "6.12.140-1", "unheard-of")
    assert checkout.build().returncode == 1
    checkout.series("6.12.140", patch("unheard-of", "mended"))
    assert checkout.built() == ["one", "mended", "three"]
    checkout.series("6.12.140", patch("unheard-of", "mended-again"))
    assert checkout.built() == ["one", "mended-again", "three"]


def _replaced(checkout: Checkout) -> None:
    checkout.package("bookworm-backports", "6.12.117-1", "late")


def _withdrawn(checkout: Checkout) -> None:
    shutil.rmtree(checkout.root / "tools/mirror")


@pytest.mark.parametrize("change", [_replaced, _withdrawn])
def test_source_that_is_there_stays_in_use_when_the_suite_moves(
    checkout: Checkout, change: Callable[[Checkout], None]
) -> None:
    checkout.package("bookworm-backports", "6.12.95-1", "early")
    assert checkout.built() == ["one", "patched-95", "three"]
    change(checkout)
    checkout.series("6.12.95", patch("early", "patched-anew"))
    assert checkout.built() == ["one", "patched-anew", "three"]


@pytest.mark.parametrize(
    ("suites", "result"),
    [
        ({"bookworm-backports": "6.12.95-1", "trixie": "6.12.117-1"}, "patched-95"),
        ({"trixie": "6.12.117-1"}, "patched-117"),
        ({"trixie": "6.12.117-1", "trixie-security": "6.12.118-1"}, "patched-117"),
    ],
)
def test_first_suite_that_has_the_package_is_taken(
    checkout: Checkout, suites: Mapping[str, str], result: str
) -> None:
    for suite, version in suites.items():
        checkout.package(suite, version, "early" if "95" in version else "late")
    assert checkout.built() == ["one", result, "three"]


def test_no_suite_has_the_package(checkout: Checkout) -> None:
    result = checkout.build()
    assert result.returncode == 1
    assert "no Debian suite has linux-source-6.12" in result.stderr


def test_newest_of_all_suites_is_built_apart(checkout: Checkout) -> None:
    checkout.package("bookworm-backports", "6.12.95-1", "early")
    checkout.package("trixie-security", "6.12.118-1", "late")
    checkout.package("trixie", "6.12.117-1", "late")
    assert checkout.built() == ["one", "patched-95", "three"]
    assert checkout.built("guest-newest") == ["one", "patched-117", "three"]
    version = (checkout.root / "build/guest-newest/source.version").read_text()
    assert version == "6.12.118-1\n"
    # A newer one has come: this one alone follows.
    checkout.package("bookworm-security", "6.12.120-1", "late")
    assert checkout.built("guest-newest") == ["one", "patched-117", "three"]
    version = (checkout.root / "build/guest-newest/source.version").read_text()
    assert version == "6.12.120-1\n"
    assert (checkout.root / "build/guest/source.version").read_text() == "6.12.95-1\n"


def test_series_of_the_project_name_their_files() -> None:
    """Each release's series lists exactly the patches that lie beside it."""
    directories = sorted((ROOT / "qemu-tests/kernel/patches").iterdir())
    assert [d.name for d in directories] == ["6.12.117", "6.12.95"]
    for directory in directories:
        listed = (directory / "series").read_text().split()
        assert listed == sorted(p.name for p in directory.glob("*.patch")), directory
