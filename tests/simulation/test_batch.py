"""Many seeds: patches are found and put over every run, and results come until somebody stops."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from raftcoord.machine import Machine
from raftcoord.testing.simulation import batch
from raftcoord.testing.simulation.batch import load_patch, run_batch
from raftcoord.testing.simulation.simulation import Result
from raftcoord.testing.simulation.violation import Violation

PATCH = """
import contextlib
from unittest import mock
from neighbour import NAME
from raftcoord.machine import Machine

@contextlib.contextmanager
def broken():
    with mock.patch.object(Machine, "sign", NAME, create=True):
        yield
"""


@pytest.fixture
def patch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "neighbour.py").write_text("NAME = 'patched'\n")
    file = tmp_path / "patch_of_this_test.py"
    file.write_text(PATCH)
    return file


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, object]]:
    """Take the place of `simulate`; seeds above 5 fail."""
    ran: list[tuple[int, object]] = []

    def simulate(seed: int) -> Result:
        ran.append((seed, getattr(Machine, "sign", None)))
        violation = Violation("name", "text") if seed > 5 else None
        return Result(seed, violation, 0, 0, 1.0, 1.0, 1.0, 0, 0, 0)

    monkeypatch.setattr(batch, "simulate", simulate)
    return ran


def test_one_process_runs_seeds_in_order_until_it_is_stopped(stand_in: list[tuple[int, object]]) -> None:
    with contextlib.closing(run_batch(range(3, 100), jobs=1)) as results:
        for result in results:
            if result.violation is not None:
                break
    assert stand_in == [(3, None), (4, None), (5, None), (6, None)]


def test_a_patch_is_on_during_a_run_only(stand_in: list[tuple[int, object]], patch_file: Path) -> None:
    for _ in run_batch([1, 2], jobs=1, patch=f"{patch_file}:broken"):
        assert not hasattr(Machine, "sign")
    assert stand_in == [(1, "patched"), (2, "patched")]


@pytest.mark.parametrize("text", ["", "broken", ":broken", "none.py:broken", "{file}", "{file}:none"])
def test_a_patch_that_is_not_there(text: str, patch_file: Path) -> None:
    with pytest.raises(ValueError):
        load_patch(text.format(file=patch_file))
