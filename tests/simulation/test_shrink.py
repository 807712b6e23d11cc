"""Shrinking: to the smallest scenario that still fails, in a bounded number of runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest
from little_scenarios import fault, scenario, steps

from raftcoord.machine.variable import Variables
from raftcoord.testing.simulation import shrink
from raftcoord.testing.simulation.generate import generate
from raftcoord.testing.simulation.scenario import ClientPlan, Scenario
from raftcoord.testing.simulation.shrink import Shrinker
from raftcoord.testing.simulation.simulation import Result, simulate
from raftcoord.testing.simulation.violation import Violation

Fails = Callable[[Scenario], bool]


def _kinds(one: Scenario) -> list[str]:
    calls = [step.kind for plan in one.clients for step in itertools.chain(*plan.threads)]
    return [each.kind for each in one.faults] + calls


def _size(one: Scenario) -> int:
    return len(_kinds(one)) + len(one.clients) + sum(len(plan.threads) for plan in one.clients)


class StandIn:
    """Takes the place of `simulate`: says at once whether a scenario fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Fails) -> None:
        self.fails = fails
        self.tried: list[Scenario] = []
        monkeypatch.setattr(shrink, "simulate", self)

    def __call__(self, one: Scenario) -> Result:
        self.tried.append(one)
        violation = Violation("name", "text") if self.fails(one) else None
        return Result(one.seed, violation, 0, 0, 1.0, 1.0, 1.0, 0, 0, 0)


def test_what_is_not_needed_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {"crash", "rot", "add", "lock"}
    StandIn(monkeypatch, lambda one: needed <= set(_kinds(one)))
    faults = [fault(kind) for kind in ("crash", "stop", "pause", "rot", "reset", "stall", "crash")]
    smallest = Shrinker(scenario(*faults, clients=3, rounds=3), runs_max=2000).run()
    assert sorted(_kinds(smallest)) == ["add", "crash", "lock", "rot"]
    assert _size(smallest) <= 4 + 2 + 2
    assert smallest.settings == scenario().settings


def test_nothing_at_all_may_be_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    StandIn(monkeypatch, lambda one: True)
    smallest = Shrinker(generate(3)).run()
    assert (smallest.faults, smallest.clients) == ((), ())


def test_the_result_cannot_be_cut_down_further(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(one: Scenario) -> bool:
        kinds = _kinds(one)
        return kinds.count("set") >= 3 or (kinds.count("put") >= 2 and "take" in kinds)

    stand_in = StandIn(monkeypatch, fails)
    smallest = Shrinker(scenario(fault("crash"), clients=3, rounds=2), runs_max=5000).run()
    assert sorted(_kinds(smallest)) in (["set"] * 3, ["put", "put", "take"])
    stand_in.tried.clear()
    assert Shrinker(smallest).run() == smallest
    assert all(not fails(one) and _size(one) < _size(smallest) for one in stand_in.tried)


def test_every_smaller_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(monkeypatch, lambda one: "add" in _kinds(one))
    told: list[Scenario] = []
    first = scenario(fault("crash"), rounds=2)
    shrinker = Shrinker(first, tell=lambda one, result: told.append(one))
    smallest = shrinker.run()
    sizes = [_size(one) for one in (first, *told)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert all("add" in _kinds(one) for one in told)
    assert told[-1] == smallest == shrinker.scenario
    assert shrinker.runs == len(stand_in.tried)


@pytest.mark.parametrize("runs_max", [0, 1, 7, 50])
def test_runs_are_bounded(runs_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(monkeypatch, lambda one: _kinds(one).count("add") >= 4)
    smallest = Shrinker(scenario(clients=3, rounds=5), runs_max=runs_max).run()
    assert len(stand_in.tried) == runs_max
    assert _kinds(smallest).count("add") >= 4


def test_a_scenario_that_does_not_fail_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(monkeypatch, lambda one: False)
    one = scenario(fault("crash"))
    assert Shrinker(one).run() == one
    assert stand_in.tried


@pytest.mark.parametrize("kind", ["kill_client", "pause_client", "cut_client", "jump_clock"])
def test_a_fault_may_outlive_its_client(kind: str) -> None:
    one = scenario(fault(kind, "c2", at_ms=50, last_ms=50), clients=1, heal_ms=300)
    assert simulate(one).violation is None


def test_a_client_without_calls_comes_to_its_end() -> None:
    one = msgspec.structs.replace(scenario(), clients=(ClientPlan(), ClientPlan(threads=((), ()))))
    assert simulate(one).violation is None


def test_a_real_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    delete = Variables._delete
    monkeypatch.setattr(Variables, "_delete", lambda *arguments: (delete(*arguments)[0], False))
    calls = (("set", "v1"), ("get", "v1"), ("delete", "v1"), ("set", "v2"), ("delete", "v2"))
    plan = ClientPlan(threads=(steps(*calls),))
    one = msgspec.structs.replace(scenario(fault("crash"), heal_ms=400), clients=(plan, plan))
    smallest = Shrinker(one).run()
    violation = simulate(smallest).violation
    assert violation is not None
    assert violation.invariant == "machine"
    assert _kinds(smallest) in (["set", "delete"], ["delete", "set"])
