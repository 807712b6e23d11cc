"""The examples as programs: each starts what it needs, kills the leader, shows its results, and ends."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = sorted(file.name for file in EXAMPLES.glob("*.py") if file.name != "both_clusters.py")


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_explains_itself(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(EXAMPLES / program), run_name="__main__")
    text = capsys.readouterr().out
    summary = ast.get_docstring(ast.parse((EXAMPLES / program).read_text("utf-8")))
    assert summary is not None
    assert summary in text
    assert "--kill-leader" in text


def test_an_example_runs_as_a_program() -> None:
    out = run("lost_updates.py", "--kill-leader")
    assert "the leader)" in out
    assert f"under the lock: {[*range(2, 12)]} and the counter is 11" in out


def test_an_example_kills_only_what_it_started() -> None:
    with pytest.raises(AssertionError, match="kills a replica that this program started"):
        run("lost_updates.py", "--kill-leader", "--raftcoord", "127.0.0.1:1")


def test_the_list_of_examples_is_complete() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    assert [program for program in PROGRAMS if f"[`{program}`]({program})" not in text] == []
    assert len(PROGRAMS) == 6
