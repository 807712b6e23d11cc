"""The demonstration: every verdict holds, each leader was killed in the middle, and failing is noticed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from raftcoord.demo import parts

TITLES = [part.title for part in parts.PARTS]


def test_the_demo_holds() -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "raftcoord.cli", "demo"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "Traceback" not in demo.stderr
    verdicts = [line for line in demo.stdout.splitlines() if "| killed " in line]
    assert [line.partition(" | ")[0] for line in verdicts] == TITLES
    for line in verdicts:
        assert line.endswith("| holds"), line
        found = re.search(r"killed replica \d at ([\d,]+) of ([\d,]+) \| failover (\d+) ms", line)
        assert found, line
        reached, total, failover_ms = (int(text.replace(",", "")) for text in found.groups())
        assert 0 < reached < total, line
        assert 0 < failover_ms < 10_000, line
    assert str(parts.POWERS) in verdicts[0]
    assert "5 messages" in verdicts[1]
    assert str(list(range(2, 12))) in verdicts[3]
    assert str(list(range(2, 12))) in verdicts[4]
    assert "10,000 items, 0 missing, 0 doubled" in verdicts[5]


@pytest.mark.parametrize(
    ("taken", "text"),
    [
        ([[*range(1, 10_000)]], "1 missing, 0 doubled"),
        ([[*range(1, 10_001)], [7]], "0 missing, 1 doubled"),
        ([[*range(1, 10_002)]], "0 missing, 0 doubled"),
    ],
)
def test_a_drain_that_loses_or_doubles_is_noticed(taken: list[list[int]], text: str) -> None:
    finding = parts.PARTS[-1].check(taken)
    assert not finding.holds
    assert text in finding.text


def test_a_wrong_power_is_noticed() -> None:
    assert parts.PARTS[0].check(parts.POWERS).holds
    assert not parts.PARTS[0].check([*parts.POWERS[:-1], 100_001]).holds
