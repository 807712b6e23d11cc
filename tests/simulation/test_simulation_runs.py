"""Whole runs: that they end well, that they are the same every time, and that every fault is survived."""

from __future__ import annotations

import gc
import logging
import re
import sys
from typing import Any

import pytest
from little_scenarios import after_run, fault, scenario

from raftcoord.testing.simulation.disk import MOMENTS
from raftcoord.testing.simulation.generate import generate
from raftcoord.testing.simulation.nemesis import FAULTS, MESSAGE_MOMENTS
from raftcoord.testing.simulation.records import Outcome
from raftcoord.testing.simulation.scenario import Fault, Scenario
from raftcoord.testing.simulation.simulation import Result, simulate
from raftcoord.testing.simulation.steps import STEPS
from raftcoord.testing.simulation.trace import KEPT_LINES, Trace
from raftcoord.testing.simulation.world import World

COMPACTING: dict[str, Any] = {
    "snapshot_log_entries": 8,
    "trailing_log_bytes": 0,
    "segment_bytes": 8192,
    "snapshot_chunk_bytes": 100,
}


def _held(one: Scenario) -> Result:
    """Run a scenario in which no promise may be broken."""
    result = simulate(one)
    if result.violation is not None:
        raise result.violation
    return result


class TestQuiet:
    """Nothing goes wrong."""

    @pytest.mark.parametrize("replicas", [1, 2, 3, 5])
    def test_all_replicas_end_at_one_point(self, replicas: int) -> None:
        def look(world: World) -> None:
            views = [host.view for host in world.replicas.values() if host.view is not None]
            assert len(views) == replicas
            assert len({(view.term, view.commit_index, view.applied_index) for view in views}) == 1
            assert views[0].commit_index == world.raft_checks.commit_index == world.oracle.index
            assert [view.is_leader for view in views].count(True) == 1
            assert world.oracle.model.sessions == {}
            assert len(world.records) == 2 * (11 + 11)  # a held lock is two calls
            assert {record.outcome for record in world.records} <= {Outcome.OK, Outcome.FAILED}
            assert all(client.is_done for client in world.clients.values())

        after_run(scenario(replicas=replicas), look)

    def test_nothing_happens_without_clients(self) -> None:
        result = _held(scenario(clients=0))
        assert (result.calls, result.terms) == (0, 1)

    def test_results_carry_counts(self) -> None:
        result = _held(scenario(fault("crash"), fault("crash", at_ms=900), seed=7))
        assert (result.seed, result.happened) == (7, {"crash": 2})
        assert result.calls >= 40
        assert result.entries >= 40
        assert result.terms >= 2
        assert result.steps > 1000
        assert result.simulated_s >= 1
        assert result.real_s > 0
        assert result.speed > 0

    def test_every_kind_of_call_is_made(self) -> None:
        kinds = after_run(scenario(), lambda world: {record.kind for record in world.records})
        assert kinds >= {"set", "add", "put", "acquire", "release", "get", "take", "drain", "locked"}
        assert kinds <= (set(STEPS) - {"lock", "put_many"}) | {"acquire", "release"}


class TestRepetition:
    """A scenario decides everything."""

    FAULTS = (fault("crash", power=True), fault("partition", at_ms=700, shape="isolate"))

    def test_the_same_again_is_the_same(self) -> None:
        first, second = (simulate(scenario(*self.FAULTS)) for _ in range(2))
        assert (first.hash, first.steps, first.simulated_s) == (second.hash, second.steps, second.simulated_s)

    def test_another_seed_is_another_run(self) -> None:
        hashes = {simulate(scenario(*self.FAULTS, seed=seed, clients=1)).hash for seed in range(3)}
        assert len(hashes) == 3

    def test_a_number_is_the_scenario_of_that_seed(self) -> None:
        assert simulate(14).hash == simulate(generate(14)).hash

    def test_a_reader_changes_nothing(self) -> None:
        lines: list[str] = []
        trace = Trace()
        one = scenario(*self.FAULTS, rounds=4)
        hashes = {
            simulate(one).hash,
            simulate(one, trace.tell).hash,
            simulate(one, Trace(lines.append).tell).hash,
        }
        assert len(hashes) == 1
        assert len(lines) > KEPT_LINES == len(trace.lines())
        assert lines[-5:] == trace.lines(5)
        text = "\n".join(lines)
        for what in (
            "append_entries term=",
            "request_vote",
            "fault",
            "crash",
            "nemesis",
            "heal",
            "c1#1.0 set",
        ):
            assert what in text, what

    def test_a_run_leaves_everything_as_it_was(self) -> None:
        hook, level = sys.unraisablehook, logging.root.manager.disable
        simulate(scenario(*self.FAULTS))
        assert sys.unraisablehook is hook
        assert logging.root.manager.disable == level
        assert gc.isenabled()


ONE_FAULT: dict[str, Fault] = {
    "crash": fault("crash"),
    "crash_many": fault("crash_many", "majority", power=True),
    "crash_at": fault("crash_at", "anyone", moment="journal_sync", nth=2, power=True),
    "stop": fault("stop"),
    "pause": fault("pause"),
    "partition": fault("partition", shape="isolate", reset=True),
    "lure": fault("lure", cut_ms=700, after_ms=5),
    "stall": fault("stall"),
    "slow_links": fault("slow_links", factor=30),
    "reset": fault("reset"),
    "slow_disk": fault("slow_disk", factor=100),
    "fail_disk": fault("fail_disk", moment="journal_write"),
    "fill_disk": fault("fill_disk", left_bytes=0),
    "rot": fault("rot", "follower", what="journal"),
    "jump_clock": fault("jump_clock", "c1", last_ms=2000),
    "transfer": fault("transfer"),
    "snapshot": fault("snapshot"),
    "cut_client": fault("cut_client", "c1"),
    "fade_client": fault("fade_client", "c1", factor=100),
    "kill_client": fault("kill_client", "c1"),
    "pause_client": fault("pause_client", "c1"),
}


class TestFaults:
    """Each of them alone breaks no promise."""

    def test_all_kinds_are_tried(self) -> None:
        assert set(ONE_FAULT) == set(FAULTS)

    @pytest.mark.parametrize("kind", FAULTS)
    def test_one_kind_alone(self, kind: str) -> None:
        result = _held(scenario(ONE_FAULT[kind]))
        assert result.happened[kind] == 1

    @pytest.mark.parametrize("shape", ["isolate", "halves", "bridge", "ring", "deaf", "mute"])
    def test_every_shape_of_partition(self, shape: str) -> None:
        one = fault("partition", shape=shape, clients="all", last_ms=600)
        _held(scenario(one, replicas=5, clients=1))

    def test_a_replica_whose_only_disk_fails_is_back_in_the_end(self) -> None:
        _held(scenario(fault("fail_disk", moment="journal_sync"), fault("rot", at_ms=900), replicas=1))

    def test_faults_that_last_end_when_all_is_healed(self) -> None:
        faults = [
            fault(kind, each.target, at_ms=1400, last_ms=100_000, **each.options)
            for kind, each in ONE_FAULT.items()
        ]
        result = _held(scenario(*faults))
        assert set(ONE_FAULT) <= set(result.happened)
        assert result.simulated_s < 30

    def test_a_power_failure_of_all_while_all_work(self) -> None:
        result = _held(
            scenario(fault("crash_many", "all", power=True), fault("crash_many", "all", at_ms=1000))
        )
        assert result.terms >= 2


def test_all_moments_to_die_at_occur_in_a_run_with_snapshots() -> None:
    faults = [
        fault("crash", "follower", at_ms=200, last_ms=900),
        fault("transfer", at_ms=1300),
        fault("crash", at_ms=1600),
    ]
    sent: set[str] = set()

    def tell(_time_s: float, _who: str, what: Any) -> None:
        if isinstance(what, dict):
            sent.add(f"send:{what['body']['type']}")

    def operations(world: World) -> set[tuple[str, str]]:
        return {each for host in world.replicas.values() for each in host.disk.store.operations}

    done = after_run(scenario(*faults, rounds=4, heal_ms=2000, **COMPACTING), operations, tell)
    on_disk = {
        moment
        for moment, (kind, path) in MOMENTS.items()
        if any(one[0] == kind and re.search(path, one[1]) for one in done)
    }
    assert set(MOMENTS) - on_disk == set()
    assert set(MESSAGE_MOMENTS) - sent == set()
