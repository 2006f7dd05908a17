# SPDX-License-Identifier: BSD-3-Clause
"""What the benchmark makes of its figures."""

from __future__ import annotations

import pytest

from bench import goals
from virtiofsd_py.bench import compare, daemons, report
from virtiofsd_py.bench.compare import Cell, Footprint, Results, Sample

GETATTR = Cell("getattr", 32, awake=True)


def sample(rate: float = 100.0, cpu_us: float = 1.0, p50_us: float = 10.0) -> Sample:
    return Sample(rate, cpu_us, p50_us, 2 * p50_us, 0.5)


def results(ours: list[Sample], **peers: list[Sample]) -> Results:
    found = Results(["ours", *peers])
    found.samples[GETATTR] = {"ours": ours, **peers}
    return found


def test_a_ratio_is_of_neighbours() -> None:
    # All got slower together: the ratio stays.
    found = results(
        [sample(rate) for rate in (200, 100, 20)], c=[sample(rate) for rate in (100, 50, 10)]
    )
    ratio = compare.ratio(found, GETATTR, compare.rate)
    assert ratio == compare.Ratio("c", 2.0, 2.0, 2.0)


def test_the_better_peer_depends_on_what_is_asked() -> None:
    found = results(
        [sample()] * 3,
        fast=[sample(rate=200, cpu_us=4)] * 3,
        frugal=[sample(rate=50, cpu_us=0.5)] * 3,
    )
    rate = compare.ratio(found, GETATTR, compare.rate)
    cpu = compare.ratio(found, GETATTR, compare.cpu)
    assert rate == compare.Ratio("fast", 0.5, 0.5, 0.5)
    assert cpu == compare.Ratio("frugal", 2.0, 2.0, 2.0)


def test_one_odd_round_does_not_decide() -> None:
    found = results([sample(100), sample(1), sample(100)], c=[sample(100)] * 3)
    assert compare.ratio(found, GETATTR, compare.rate) == compare.Ratio("c", 1.0, 0.01, 1.0)


def test_without_peers_there_is_no_ratio() -> None:
    assert compare.ratio(results([sample()]), GETATTR, compare.rate) is None
    assert compare.ratio(results([sample()], c=[]), GETATTR, compare.rate) is None
    assert compare.ratio(results([], c=[sample()]), GETATTR, compare.rate) is None


@pytest.mark.parametrize(
    ("rate", "cpu_us", "met"),
    [(170, 0.5, (True, True)), (169, 0.51, (False, False)), (900, 0.6, (True, False))],
)
def test_goals(rate: float, cpu_us: float, met: tuple[bool, bool]) -> None:
    found = results([sample(rate, cpu_us)], c=[sample(100, 1.0)])
    judged = {v.what: v.met for v in goals.judge(found)}
    assert (judged["GETATTR, QD 32: rate"], judged["GETATTR, QD 32: CPU"]) == met
    assert judged["READ 1 MiB, QD 4: rate"] is None


def test_goals_say_what_system_calls_alone_would_get() -> None:
    found = results([sample(170, 0.5)], c=[sample(100, 1.0)], rust=[sample(90, 0.8)])
    judged = {v.what: v.alone for v in goals.judge(found)}
    assert judged["GETATTR, QD 32: CPU"] is None
    found.bare["getattr"] = [sample(400, 0.2), sample(300, 0.4), sample(1, 9)]
    judged = {v.what: v.alone for v in goals.judge(found)}
    assert judged["GETATTR, QD 32: rate"] == 3.0
    assert judged["GETATTR, QD 32: CPU"] == 0.5
    assert judged["LOOKUP, hot, QD 32: CPU"] is None
    assert judged["GETATTR, QD 1: p50"] is None


def test_who_does_not_poll_may_take_as_long_as_others_and_is_nobodys_peer() -> None:
    found = results([], c=[])
    found.sleeping = "ours-sleeping"
    found.samples[Cell("getattr", 1)] = {
        "ours": [sample(p50_us=5)],
        "c": [sample(p50_us=10)],
        "ours-sleeping": [sample(p50_us=9)],
    }
    judged = {v.what: v.met for v in goals.judge(found)}
    assert judged["GETATTR, QD 1: p50"] is True
    assert judged["GETATTR, QD 1: p50, without polling"] is True
    found.samples[Cell("getattr", 1)]["ours-sleeping"] = [sample(p50_us=11)]
    found.samples[Cell("getattr", 1)]["ours"] = [sample(p50_us=6)]
    judged = {v.what: v.met for v in goals.judge(found)}
    assert judged["GETATTR, QD 1: p50"] is False
    assert judged["GETATTR, QD 1: p50, without polling"] is False


def test_memory_is_compared_with_the_better_peer() -> None:
    found = Results(["ours", "c", "rust"])
    found.footprints = {
        "ours": [Footprint(10, 10**6), Footprint(10, 10**6, 1000, 90.0)],
        "c": [Footprint(10, 10**6, 1000, 100.0)],
        "rust": [Footprint(10, 10**6, 1000, 80.0)],
    }
    judged = {v.what: v.met for v in goals.judge(found)}
    assert judged["memory for an inode"] is False
    assert judged["resident when idle"]
    assert judged["ready"]


def test_tables_line_up() -> None:
    text = report.rates(results([sample(1234567)], c=[sample(99)]))
    assert len({len(line) for line in text.splitlines()}) == 1
    assert "1.23 M" in text


@pytest.mark.parametrize(
    ("autogroup", "nice"),
    [("/autogroup-7134 nice 0\n", 0), ("/autogroup-1 nice -15\n", -15), ("", None)],
)
def test_how_nice_a_session_is(autogroup: str, nice: int | None) -> None:
    assert daemons.nice_of(autogroup) == nice
