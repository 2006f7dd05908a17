# SPDX-License-Identifier: BSD-3-Clause
"""The fidelity suite in its shorter form: one guest, no second one, not every partial mask."""

from __future__ import annotations

from pathlib import Path

import pytest
from fidelity import scenario
from fidelity.runner import Observation
from fidelity.suite import Suite
from runguest.agent import Agent

SCENARIOS = scenario.load()


def test_there_are_enough_scenarios() -> None:
    assert len(SCENARIOS) >= 200
    assert sum(known.parallel for known in SCENARIOS) >= 10


@pytest.mark.only("uml")
def test_the_share_is_watched_as_a_local_file_system(vmm: str, case_root: Path) -> None:
    suite = Suite(case_root / "fidelity", vmm, SCENARIOS, quick=True)
    verdicts = list(suite.run(["guest", "host", "host-burst"]))
    assert {verdict.actor: verdict.faults for verdict in verdicts} == {
        "guest": {},
        "host": {},
        "host-burst": {},
    }
    guest, host, _ = verdicts
    assert {name for used in guest.by_rule.values() for name in used} == {"branches"}
    assert len(host.identical) > len(SCENARIOS) * 9 // 10


class Mistaken(Suite):
    """Takes it that locally nobody sees a first event."""

    def learn(self, agent: Agent) -> dict[tuple[str, str], Observation]:
        truth = super().learn(agent)
        return {key: tuple(seen[1:] for seen in observation) for key, observation in truth.items()}


@pytest.mark.only("uml")
def test_any_other_difference_is_a_fault(vmm: str, case_root: Path) -> None:
    chosen = [known for known in SCENARIOS if known.id in {"create", "chmod", "stat"}]
    verdicts = list(Mistaken(case_root / "mistaken", vmm, chosen, quick=True).run(["host"]))
    assert [sorted(verdict.faults) for verdict in verdicts] == [["chmod", "create"]]
    assert verdicts[0].identical == ["stat"]
