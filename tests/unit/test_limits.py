# SPDX-License-Identifier: BSD-3-Clause
"""The part of what the host has that one daemon's guest may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtiofsd_py.limits import WatchLimit, files_below, files_of_daemon, watch_limits

MILLION = 1_000_000


@pytest.mark.parametrize(
    ("nr_open", "file_max", "files"),
    [
        (1 << 30, (1 << 63) - 1, MILLION),
        (1 << 20, (1 << 63) - 1, MILLION),
        (MILLION, (1 << 63) - 1, MILLION),
        (500_000, (1 << 63) - 1, 500_000),
        (1 << 30, 800_000, 700_000),
        (500_000, 800_000, 500_000),
        (1 << 20, 32_768, 32_768 - 8192),
        (1 << 20, 16_384, 8192),
        (1 << 20, 10_000, 5000),
        (1 << 20, 8192, 4096),
    ],
)
def test_descriptors_below_those_of_the_host(nr_open: int, file_max: int, files: int) -> None:
    assert files_below(nr_open, file_max) == files


def say(sysctl: Path, **values: str) -> None:
    for name, value in values.items():
        path = sysctl / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value + "\n")


def test_what_the_host_says(tmp_path: Path) -> None:
    say(tmp_path, fs__fanotify__max_user_marks="4000", fs__inotify__max_user_watches="8001")
    say(tmp_path, user__max_fanotify_marks="4000", user__max_inotify_watches="8001")
    limits = watch_limits(tmp_path)
    assert limits.marks == WatchLimit("fs.fanotify.max_user_marks", 4000)
    assert limits.watches == WatchLimit("fs.inotify.max_user_watches", 8001)
    assert (limits.marks.part, limits.watches.part) == (1000, 2000)


def test_a_user_namespace_may_have_less(tmp_path: Path) -> None:
    say(tmp_path, fs__fanotify__max_user_marks="4000", user__max_fanotify_marks="400")
    say(tmp_path, fs__inotify__max_user_watches="5000000000", user__max_inotify_watches="3")
    limits = watch_limits(tmp_path)
    assert limits.marks.host == 400
    assert limits.watches.part == 1


def test_a_host_that_does_not_say(tmp_path: Path) -> None:
    limits = watch_limits(tmp_path)
    assert (limits.marks.part, limits.watches.part) == (2048, 2048)


def test_descriptors_of_this_host(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs/nr_open").write_text("1048576\n")
    (tmp_path / "fs/file-max").write_text("80000\n")
    assert files_of_daemon(tmp_path) == 70000


@pytest.mark.parametrize(("asked", "got"), [(0, 100), (1, 1), (5000, 5000), (1 << 40, 0xFFFF_FFFF)])
def test_an_explicit_number_is_taken_as_it_is(asked: int, got: int) -> None:
    assert WatchLimit("x", 400).of_guest(asked) == got
