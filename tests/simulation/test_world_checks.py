"""What a whole run is judged by: broken on purpose, each promise is missed under its own name."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from little_scenarios import after_run, calling, fault, scenario

from raftcoord import aio
from raftcoord.consensus.interface import FatalError
from raftcoord.machine import Machine
from raftcoord.protocol.errors import NotHolder
from raftcoord.server.replica import ReplicaServer
from raftcoord.testing.simulation import nemesis, world
from raftcoord.testing.simulation.bit_rot import Rot
from raftcoord.testing.simulation.clients import ClientHost
from raftcoord.testing.simulation.faulty_disk import FaultyDisk, Inode
from raftcoord.testing.simulation.hosts import ReplicaHost
from raftcoord.testing.simulation.objects import Belief
from raftcoord.testing.simulation.scenario import Scenario
from raftcoord.testing.simulation.simulation import simulate
from raftcoord.testing.simulation.world import World

SLOW: dict[str, int] = {"election_timeout_ms": 3000, "heartbeat_ms": 500}  # so that waiting costs little


def _broken(one: Scenario, invariant: str) -> str:
    violation = simulate(one).violation
    assert violation is not None
    assert violation.invariant == invariant, violation
    return violation.text


def test_replicas_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(server: ReplicaServer) -> None:
        raise FatalError("cannot go on")

    monkeypatch.setattr(ReplicaServer, "start", start)
    assert "r1 stopped: cannot go on" in _broken(scenario(), "replicas run on")


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_keeps_nothing_of_its_world_alive(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(server: ReplicaServer) -> None:
        raise FatalError("cannot go on")

    if fails:
        monkeypatch.setattr(ReplicaServer, "start", start)
    before = {id(each) for each in gc.get_objects()}
    result = simulate(scenario())
    assert (result.violation is not None) == fails
    left = [each for each in gc.get_objects() if isinstance(each, World | ReplicaHost | ClientHost)]
    assert [each for each in left if id(each) not in before] == []


def test_replicas_may_stop_when_their_disk_fails() -> None:
    one = scenario(fault("fail_disk", moment="journal_sync"))
    assert after_run(one, lambda world: sum(host.stopped_by_itself for host in world.replicas.values())) == 1


def test_damage_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    unnoticed = Rot("/data/unnoticed", 0, 0, 1)

    def find_rot(disk: FaultyDisk, *_: Any) -> Rot:
        disk.files[unnoticed.path] = Inode(unnoticed.path, bytearray(1), bytearray(1))
        return unnoticed

    assert simulate(scenario(fault("rot"))).violation is None
    monkeypatch.setattr(nemesis, "find_rot", find_rot)
    assert "serves from" in _broken(scenario(fault("rot", last_ms=900)), "damage is refused")


def test_one_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClientHost, "beliefs", lambda client: [Belief("lock 'l1'", 1)])
    assert "takes itself for a holder of lock 'l1' with fence=1" in _broken(scenario(), "one holder")
    assert simulate(scenario(fair_clocks=False)).violation is None


def test_a_lock_that_is_held_can_be_released(monkeypatch: pytest.MonkeyPatch) -> None:
    async def release(lock: aio.Lock) -> None:
        raise NotHolder("no")

    monkeypatch.setattr(aio.Lock, "release", release)
    _broken(scenario(**SLOW), "locks")


def test_no_call_is_refused_without_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def add(variable: aio.Variable, number: int) -> int:
        raise NotHolder("no")

    monkeypatch.setattr(aio.Variable, "add", add)
    _broken(scenario(), "no call is refused without reason")


def test_clients_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClientHost, "start", lambda client: None)
    assert "are not done" in _broken(scenario(**SLOW), "liveness")


def test_replicas_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    start = ReplicaHost.start

    def start_once(host: ReplicaHost) -> None:
        if host.incarnation == 0:
            start(host)

    monkeypatch.setattr(ReplicaHost, "start", start_once)
    assert simulate(scenario()).violation is None
    assert "<ReplicaHost r3#1 None> None" in _broken(scenario(fault("crash", "r3"), **SLOW), "liveness")


def test_the_dead_hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Machine.counts
    monkeypatch.setattr(Machine, "counts", lambda machine: {**counts(machine), "waiters": 1})
    assert "r1 still has {'waiters': 1}" in _broken(scenario(), "the dead hold nothing")


def test_state_is_the_same_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))

    def begin_snapshot(machine: Machine) -> Iterator[bytes]:
        yield b"%d" % next(numbers)

    monkeypatch.setattr(Machine, "begin_snapshot", begin_snapshot)
    _broken(scenario(), "same log, same state")


def test_what_nobody_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    async def get(variable: aio.Variable, timeout: float | None) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(aio.Variable, "get_versioned", get)
    assert "KeyError('bug')" in _broken(scenario(**SLOW), "no unhandled exception")


def test_a_run_that_goes_round_in_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftcoord.testing.simulation.scheduler.STEPS_MAX", 500)
    _broken(scenario(), "progress")


def test_a_crash_that_does_nothing_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplicaHost, "crash", lambda host, *, power, down_s: None)
    _broken(scenario(fault("rot")), "simulation")


def test_only_the_bound_of_the_client_itself_must_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "ANSWERED_S", -100.0)
    far = {"latency_ms": 70, "election_timeout_ms": 1500, "heartbeat_ms": 300}
    calls = [(kind, name) for kind, name in (("update", "n1"), ("set", "v1")) for _ in range(8)]
    one = calling(*calls, **far)
    assert simulate(one).violation is None  # the updates have half a second, which is too short
    plan = msgspec.structs.replace(one.clients[0], timeout_ms=150)
    text = _broken(msgspec.structs.replace(one, clients=(plan,)), "liveness")
    assert "gives <Call VARIABLE_" in text
