"""A seed gives the same run in every interpreter, whatever the order of its sets and hashes of texts."""

from __future__ import annotations

import os
import subprocess
import sys

SEEDS = (14, 26, 37)
PROGRAM = f"""
from raftcoord.testing.simulation.simulation import simulate

print(hash("salted"))
for seed in {SEEDS}:
    result = simulate(seed)
    print(seed, result.hash, result.steps, result.entries, result.violation)
"""


def _run(hash_seed: int) -> tuple[str, list[str]]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-c", PROGRAM]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    salted, *lines = output.splitlines()
    return salted, lines


def test_two_interpreters_agree() -> None:
    (salted, lines), (other_salted, other_lines) = _run(1), _run(2)
    assert salted != other_salted
    assert lines == other_lines
    assert [int(line.split()[0]) for line in lines] == [*SEEDS]
    assert all(line.endswith(" None") for line in lines)
