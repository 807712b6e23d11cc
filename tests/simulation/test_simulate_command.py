"""The command: what it prints, what it returns, and that a failure can be found again from what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from little_scenarios import fault, scenario

from raftcoord.cli.exits import Exit
from raftcoord.cli.simulate_command import run
from raftcoord.testing.simulation.scenario import Scenario, decode, encode
from raftcoord.testing.simulation.simulation import simulate

SEED = 14  # one of the quickest
SEEDS = (26, 27)
PATCHES = """
from contextlib import contextmanager
from unittest import mock

from raftcoord.machine import Machine
from raftcoord.machine.queue import Queues

put, close = Queues._put, Machine._close_session


@contextmanager
def put_twice():
    def broken(queues, session, sequence, name, maxsize, values, wait):
        return put(queues, session, sequence, name, maxsize, [*values, *values], wait)

    with mock.patch.object(Queues, "_put", broken):
        yield


@contextmanager
def close_with_a_word():
    with mock.patch.object(Machine, "_close_session", lambda *args: (close(*args)[0], "bye")):
        yield
"""


@pytest.fixture
def patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the file of patches; the folder is in `sys.path` no longer than the test."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "patches_of_this_test.py"
    file.write_text(PATCHES)
    return file


def _stored(tmp_path: Path, one: Scenario) -> str:
    file = tmp_path / "scenario.json"
    file.write_bytes(encode(one))
    return str(file)


def _words(text: str) -> str:
    """Return a text in one line: what is printed may be wrapped."""
    return " ".join(text.split())


class TestUsage:
    """What cannot be right is refused in one line."""

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ([], "choose one of"),
            (["--seed", "1", "--seeds", "2"], "choose one of"),
            (["--seed", "1", "--scenario", __file__], "choose one of"),
            (["--seeds", "0"], "--seeds"),
            (["--seed", "one"], "--seed"),
            (["--seeds", "1", "--jobs", "0"], "--jobs"),
            (["--seeds", "1", "--also", "none.txt"], "none.txt"),
            (["--scenario", "none.json"], "none.json"),
            (["--scenario", __file__], "object"),
            (["--seed", "1", "--patch", "none.py:broken"], "none.py"),
            (["--seed", "1", "--patch", __file__ + ":none"], "none"),
            (["--nonsense"], "--nonsense"),
            (["1"], "1"),
        ],
    )
    def test_in_one_line(self, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(arguments) == Exit.USAGE
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.count("\n") == 1
        assert text in output.err

    @pytest.mark.parametrize("what", ["fault", "call", "moment"])
    def test_a_scenario_of_what_there_is_not(
        self, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one = scenario(fault("crash_at", "anyone", moment="journal_sync"))
        name = {"fault": b"crash_at", "call": b"compare_and_set", "moment": b"journal_sync"}[what]
        file = tmp_path / "scenario.json"
        file.write_bytes(encode(one).replace(name, b"nonsense"))
        assert run(["--scenario", str(file)]) == Exit.USAGE
        error = capsys.readouterr().err
        assert "nonsense" in error
        assert error.count("\n") == 1

    def test_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["--help"]) == Exit.OK
        text = capsys.readouterr().out
        for option in ("--seeds", "--first-seed", "--also", "--jobs", "--seed", "--scenario", "--trace"):
            assert option in text
        assert "Exit codes" in text


class TestPromisesHeld:
    """Runs in which nothing is broken."""

    def test_one_seed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["--seed", str(SEED)]) == Exit.OK
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"seed {SEED}: ")
        assert lines[0].endswith(" s")
        assert lines[1].startswith(f"hash {simulate(SEED).hash}, ")
        assert lines[-1] == "no promise broken"

    def test_a_scenario(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        one = scenario(fault("crash"), clients=1)
        assert run(["--scenario", _stored(tmp_path, one)]) == Exit.OK
        assert str(simulate(one).hash) in capsys.readouterr().out

    def test_every_event(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        one = scenario(fault("crash"), clients=1)
        assert run(["--scenario", _stored(tmp_path, one), "--trace"]) == Exit.OK
        lines = capsys.readouterr().out.splitlines()
        events = [line for line in lines if re.match(r" +\d+\.\d{6}  ", line)]
        assert len(events) > 200
        times = [float(line.split()[0]) for line in events]
        assert times == sorted(times)
        assert any("Fault(" in line for line in events)
        assert any("append_entries" in line for line in events)
        assert str(simulate(one).hash) in lines[-2]

    def test_seeds(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["--seeds", "2", "--first-seed", str(SEEDS[0]), "--jobs", "1"]) == Exit.OK
        text = _words(capsys.readouterr().out)
        assert f"seeds {SEEDS[0]} … {SEEDS[1]}" in text
        assert "2 seeds, no promise broken: " in text

    def test_further_seeds(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "seeds.txt"
        file.write_text(f"# found before\n\n{SEED}  a comment\n  # none\n")
        arguments = ["--seeds", "1", "--first-seed", str(SEED), "--also", str(file), "--jobs", "1"]
        assert run(arguments) == Exit.OK
        assert "2 seeds, no promise broken" in _words(capsys.readouterr().out)


class TestPromisesBroken:
    """Runs of code that a patch has broken."""

    def _check_report(self, text: str, option: str, patch: str) -> None:
        assert "broken: machine\n" in text
        assert re.search(r"^at step \d+, \d+\.\d{6} s; seed \d+: ", text, re.MULTILINE)
        replay = re.search(r"^replay: raftcoord-sim (.*)", text, re.MULTILINE)
        assert replay is not None
        assert replay[1] == f"{option} --patch {patch} --trace"

    def test_a_scenario(self, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file, patch = _stored(tmp_path, scenario(fault("crash"))), f"{patches}:put_twice"
        assert run(["--scenario", file, "--patch", patch]) == Exit.NO
        text = capsys.readouterr().out
        self._check_report(text, f"--scenario {file}", patch)
        assert len(re.findall(r"^ +\d+\.\d{6}  ", text, re.MULTILINE)) > 20  # the end of the trace
        assert run(["--scenario", file]) == Exit.OK

    def test_a_seed(self, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
        patch = f"{patches}:close_with_a_word"
        assert run(["--seed", str(SEED), "--patch", patch]) == Exit.NO
        text = capsys.readouterr().out
        self._check_report(text, f"--seed {SEED}", patch)
        step = re.search(r"at step (\d+)", text)
        assert step is not None
        assert run(["--seed", str(SEED), "--patch", patch, "--trace"]) == Exit.NO
        assert f"at step {step[1]}," in capsys.readouterr().out

    def test_seeds(self, patches: Path, capsys: pytest.CaptureFixture[str]) -> None:
        patch = f"{patches}:close_with_a_word"
        arguments = ["--seeds", "2", "--first-seed", str(SEED), "--jobs", "1", "--patch", patch]
        assert run(arguments) == Exit.NO
        self._check_report(capsys.readouterr().out, f"--seed {SEED}", patch)

    def test_the_smallest_scenario_still_fails(
        self, patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one = scenario(fault("crash"), fault("pause"), heal_ms=400)
        patch = f"{patches}:put_twice"
        arguments = ["--scenario", _stored(tmp_path, one), "--patch", patch, "--shrink"]
        assert run(arguments) == Exit.NO
        output = capsys.readouterr()
        text = re.search(r"^\{\n.*?^\}\n", output.out, re.MULTILINE | re.DOTALL)
        assert text is not None
        smallest = decode(text[0])
        assert smallest.faults == ()
        calls = [step.kind for plan in smallest.clients for thread in plan.threads for step in thread]
        assert len(calls) == 1
        assert calls[0] in ("put", "put_many")
        assert "still fails: " in output.err
        file = _stored(tmp_path, smallest)
        assert run(["--scenario", file, "--patch", patch]) == Exit.NO
        self._check_report(capsys.readouterr().out, f"--scenario {file}", patch)
