"""Scenarios that broke a promise once, cut down to what is needed for it: none does any more.

`tests/simulation/seeds.txt` has the seeds; a scenario stays what it was when `generate.py` changes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from raftcoord.testing.simulation.scenario import decode
from raftcoord.testing.simulation.simulation import simulate

SCENARIOS = sorted((Path(__file__).parent / "regressions").glob("*.json"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_that_failed_once_passes(path: Path) -> None:
    result = simulate(decode(path.read_bytes()))
    assert result.violation is None, f"raftcoord-sim --scenario {path} --trace: {result.violation}"


def test_there_are_some() -> None:
    assert SCENARIOS
