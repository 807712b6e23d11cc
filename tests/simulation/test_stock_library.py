"""The simulator finds the stock library unsafe, and finds nothing where the library does well.

`stock_engine.py` says how kind its surroundings are to it. What our engine does under the same scenarios is
tested elsewhere, but for the one of the stale read.

Invariants:
  1. A violation counts here only if a promise to a caller or between replicas was broken: a cluster that
     merely stands still, or a replica that stops, proves nothing.
"""

from __future__ import annotations

import contextlib

import pysyncobj.syncobj as syncobj
import pytest
from stock_engine import StockView, stock_library

from raftcoord.server import replica
from raftcoord.testing.simulation import world
from raftcoord.testing.simulation.probe import EngineView
from raftcoord.testing.simulation.scenario import ClientPlan, Fault, Scenario, Settings, Step
from raftcoord.testing.simulation.simulation import Result, simulate

SEEDS = 60
SAFETY = frozenset(
    {
        "election safety",
        "leader completeness",
        "committed is for ever",
        "applied once and in order",
        "same log, same state",
        "acknowledged, so committed",
        "once",
        "real time",
        "linearizable reads",
        "one holder",
    }
)


def _light_load(seed: int) -> Scenario:
    steps = [
        Step(kind=kind, name="v1", think_ms=30, timeout_ms=1000) for _ in range(10) for kind in ("set", "get")
    ]
    return Scenario(
        seed=seed, settings=Settings(), clients=(ClientPlan(threads=(tuple(steps),)),), heal_ms=3000
    )


def _deposed_leader(seed: int) -> Scenario:
    """The leader is cut off from the others and not from the clients; one of them comes again, elsewhere."""
    reads = [Step(kind="get", name="v1", think_ms=20, timeout_ms=0)] * 150
    writes = [Step(kind="set", name="v1", think_ms=30)] * 80
    return Scenario(
        seed=seed,
        settings=Settings(election_timeout_ms=200, heartbeat_ms=40),
        clients=(
            ClientPlan(ttl_ms=3000, timeout_ms=4000, threads=(tuple(reads),)),
            ClientPlan(ttl_ms=1000, timeout_ms=1000, threads=(tuple(writes),)),
        ),
        faults=(
            Fault(at_ms=800, kind="partition", target="leader", last_ms=3000, options={"shape": "isolate"}),
            *(Fault(at_ms=at_ms, kind="kill_client", target="c2") for at_ms in (1500, 2000, 2500)),
        ),
        heal_ms=5000,
    )


def _simulate_stock(scenario: Scenario | int) -> Result:
    with stock_library():
        return simulate(scenario)


def test_stock_library_is_found_unsafe() -> None:
    for seed in range(SEEDS):
        violation = _simulate_stock(seed).violation
        assert violation is None or violation.invariant != "no unhandled exception", violation
        if violation is not None and violation.invariant in SAFETY:
            return
    pytest.fail(f"nothing was found in {SEEDS} seeds")


def test_stale_read_of_a_deposed_leader_is_found() -> None:
    violation = _simulate_stock(_deposed_leader(1)).violation
    assert violation is not None
    assert violation.invariant == "linearizable reads"


def test_our_deposed_leader_answers_no_stale_read() -> None:
    result = simulate(_deposed_leader(1))
    assert result.violation is None
    assert result.terms >= 2


@pytest.mark.parametrize("seed", range(5))
def test_stock_library_passes_without_faults_and_load(seed: int) -> None:
    result = _simulate_stock(_light_load(seed))
    assert result.violation is None
    assert result.calls == 20
    assert result.entries > 10


def test_stock_library_replays() -> None:
    first, second = _simulate_stock(_deposed_leader(2)), _simulate_stock(_deposed_leader(2))
    assert (first.hash, first.steps, str(first.violation)) == (
        second.hash,
        second.steps,
        str(second.violation),
    )


def test_everything_is_as_before_afterwards() -> None:
    scenario = _light_load(1)
    before = simulate(scenario)
    patched = [(replica, "RaftEngine"), (world, "watch_engine"), (syncobj, "random")]
    originals = [getattr(module, name) for module, name in patched]
    with contextlib.suppress(RuntimeError), stock_library():
        inside = [getattr(module, name) for module, name in patched]
        raise RuntimeError
    assert not any(one is other for one, other in zip(inside, originals, strict=True))
    assert all(getattr(module, name) is one for (module, name), one in zip(patched, originals, strict=True))
    after = simulate(scenario)
    assert (before.hash, before.violation) == (after.hash, after.violation)


def test_view_has_what_the_simulation_reads() -> None:
    def names(view: type) -> set[str]:
        return {name for name in vars(view) if not name.startswith("_")}

    assert names(EngineView) <= names(StockView)
