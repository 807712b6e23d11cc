"""The calls of simulated clients on all kinds of objects, and what is checked while they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from broken import VARIANTS
from little_scenarios import OTHER_CALLS, after_run, calling, steps

from raftcoord import aio
from raftcoord.machine import Machine
from raftcoord.protocol.errors import CallTimeout, NotHolder
from raftcoord.protocol.operations import Operation
from raftcoord.testing.simulation.clients import ClientHost
from raftcoord.testing.simulation.objects import Belief, Objects
from raftcoord.testing.simulation.records import Outcome
from raftcoord.testing.simulation.scenario import ClientPlan, Fault, Scenario, Step
from raftcoord.testing.simulation.simulation import simulate
from raftcoord.testing.simulation.world import World

SLOW: dict[str, int] = {"election_timeout_ms": 3000, "heartbeat_ms": 500}  # so that waiting costs little

HELD = (
    ("lock", "l1", "lock 'l1'"),
    ("rlock", "l1", "lock 'l1'"),
    ("multilock", "m1+m2", "multilock ('m1', 'm2')"),
    ("read_lock", "r1", "rwlock 'r1'"),
    ("write_lock", "r1", "rwlock 'r1'"),
    ("semaphore", "s1", "semaphore 's1'"),
    ("claim_ack", "q1", "queue 'q1'"),
)


def _broken(one: Scenario, invariant: str) -> str:
    violation = simulate(one).violation
    assert violation is not None
    assert violation.invariant == invariant, violation
    return violation.text


def test_all_kinds_of_calls_work() -> None:
    def look(world: World) -> None:
        succeeded = {
            record.kind for record in world.records if record.outcome is Outcome.OK and record.result
        }
        assert succeeded >= {
            "event_set",
            "event_wait",
            "acquire_lease",
            "acquire_many",
            "multilock_holders",
            "acquire",
            "acquire_read",
            "acquire_write",
            "publish",
            "read_topic",
            "topic_status",
            "update",
            "get",
            "claim",
        }

    after_run(calling(*OTHER_CALLS, clients=3), look)


@pytest.mark.parametrize(("kind", "name", "what"), HELD)
def test_what_a_client_believes_to_hold(
    kind: str, name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    believed = ClientHost.beliefs
    seen: set[str] = set()

    def beliefs(client: ClientHost) -> Iterator[Belief]:
        for belief in believed(client):
            seen.add(belief.what)
            yield belief

    monkeypatch.setattr(ClientHost, "beliefs", beliefs)
    holds = Step(kind=kind, name=name, hold_ms=500)
    plan = ClientPlan(threads=((*steps(("put", "q1")), holds), steps(*[("semaphore", "s9")] * 10)))
    one = msgspec.structs.replace(calling(**SLOW), clients=(plan,))
    assert simulate(one).violation is None
    assert seen - {"semaphore 's9'"} == {what}


@pytest.mark.parametrize(("kind", "name", "what"), HELD)
@pytest.mark.parametrize(
    ("fault", "variant"),
    [("cut_client", "session_believed_beyond_ttl"), ("pause_client", "session_believed_until_told")],
)
def test_who_believes_too_long_is_seen(
    kind: str, name: str, what: str, fault: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = Step(kind=kind, name=name, hold_ms=4000)
    plan = ClientPlan(ttl_ms=1000, threads=((*steps(("put", "q1")), holds),))
    one = msgspec.structs.replace(
        calling(),
        clients=(plan,),
        faults=(Fault(at_ms=800, kind=fault, target="c1", last_ms=3000),),
        heal_ms=5000,
    )
    assert simulate(one).violation is None
    with VARIANTS[variant].apply():
        assert "believes in session" in _broken(one, "known when it ends")
        monkeypatch.setattr(
            World, "_on_expired", lambda world, session: None
        )  # and what it holds is seen as well
        assert f"takes itself for a holder of {what}" in _broken(one, "one holder")


@pytest.mark.parametrize("kind", ["lock", "semaphore", "multilock", "read_lock", "write_lock", "claim_ack"])
def test_who_was_told_of_a_loss_cannot_give_back(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = {"semaphore": "s2", "claim_ack": "q1"}.get(kind, "x")
    one = calling(("put", "q1"), (kind, name), **SLOW)
    assert simulate(one).violation is None
    monkeypatch.setattr(Objects, "was_told_of_loss", lambda objects, handle: True)
    _broken(one, "one holder")


@pytest.mark.parametrize(
    ("kind", "handle"),
    [
        ("semaphore", aio.Semaphore),
        ("multilock", aio.MultiLock),
        ("read_lock", aio.RWLock),
        ("rlock", aio.RLock),
    ],
)
def test_what_is_held_can_be_given_back(
    kind: str, handle: type[aio.Lock], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def release(held: Any) -> None:
        raise NotHolder("no")

    monkeypatch.setattr(handle, "release", release)
    _broken(calling((kind, "s2"), **SLOW), "locks")


def test_inner_levels_have_the_fence_of_the_outermost(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))
    assert simulate(calling(("rlock", "l1"), **SLOW)).violation is None
    monkeypatch.setattr(aio.RLock, "fence", property(lambda lock: next(numbers)))
    _broken(calling(("rlock", "l1"), **SLOW), "locks")


def test_a_subscription_stands_still_without_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async def get(subscription: Any, timeout: float | None) -> None:
        subscription._missed += 1
        raise CallTimeout("nothing")

    assert simulate(calling(("read_topic", "t1"), **SLOW)).violation is None
    monkeypatch.setattr(aio.Sub, "get", get)
    assert "moved the subscription" in _broken(calling(("read_topic", "t1"), **SLOW), "topics")


def test_who_reads_a_topic_goes_on_after_a_restart() -> None:
    calls = [("publish_many", "t1"), ("read_topic", "t1"), ("put", "q1"), ("claim_abandon", "q1")]
    one = calling(*calls * 2, **SLOW)
    step = one.clients[0].threads[0][3]
    plan = msgspec.structs.replace(
        one.clients[0],
        threads=(
            tuple(
                msgspec.structs.replace(s, count=1) if s.kind == step.kind else s
                for s in one.clients[0].threads[0]
            ),
        ),
    )

    def look(world: World) -> None:
        reads = [record for record in world.records if record.kind == "read_topic"]
        assert [record.incarnation for record in reads] == [1, 1, 2, 2]
        offsets = [record.result[0] for record in reads]
        assert offsets == list(range(offsets[0], offsets[0] + 4))

    after_run(msgspec.structs.replace(one, clients=(plan,)), look)


def test_replicas_end_as_the_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    query = Machine.query

    def broken(machine: Machine, operation: int, arguments: list[Any]) -> Any:
        answer = query(machine, operation, arguments)
        return (0, [2, 1, 0]) if operation == Operation.SEMAPHORE_STATUS else answer

    one = calling(("semaphore", "s2"), **SLOW)
    assert simulate(one).violation is None
    monkeypatch.setattr(Machine, "query", broken)
    assert "in the end" in _broken(one, "machine")
