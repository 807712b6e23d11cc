"""Scenarios that are small enough to be run in a test by the dozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from raftcoord.testing.simulation.scenario import ClientPlan, Fault, Scenario, Settings, Step
from raftcoord.testing.simulation.simulation import _undisturbed
from raftcoord.testing.simulation.world import World

_T = TypeVar("_T")

CALLS = (
    ("set", "v1"),
    ("add", "n1"),
    ("put", "q1"),
    ("lock", "l1"),
    ("get", "v1"),
    ("take", "q1"),
    ("compare_and_set", "v1"),
    ("put_many", "bounded3"),
    ("drain", "bounded3"),
    ("locked", "l1"),
)

OTHER_CALLS = (
    ("event_set", "e1"),
    ("event_wait", "e1"),
    ("event_clear", "e1"),
    ("event_is_set", "e1"),
    ("semaphore", "s2"),
    ("semaphore_value", "s2"),
    ("multilock", "m1+m2+m3"),
    ("multilock_holders", "m1+m2+m3"),
    ("rlock", "l1"),
    ("lock_holder", "l1"),
    ("lock_waiters", "l1"),
    ("read_lock", "r1"),
    ("write_lock", "r1"),
    ("rwlock_status", "r1"),
    ("publish", "last4"),
    ("publish_many", "last4"),
    ("read_topic", "last4"),
    ("topic_status", "last4"),
    ("update", "n1"),
    ("set_for_a_while", "w1"),
    ("set_ephemeral", "w2"),
    ("get_mortal", "w2"),
    ("put_much_work", "work2"),
    ("claim_ack", "work2"),
    ("claim_nack", "work2"),
    ("claim_abandon", "work2"),
    ("take_dead", "work2"),
)


def calling(*calls: tuple[str, str], clients: int = 1, **settings: Any) -> Scenario:
    """Return a run without faults in which clients make these calls, one after the other."""
    plan = ClientPlan(ttl_ms=1000, timeout_ms=4000, threads=(steps(*calls),))
    return Scenario(
        seed=1,
        settings=Settings(**{"election_timeout_ms": 150, "heartbeat_ms": 30, **settings}),
        clients=(plan,) * clients,
        heal_ms=2000,
    )


def steps(*calls: tuple[str, str], think_ms: int = 20) -> tuple[Step, ...]:
    """Return calls (kind, name) of one thread."""
    return tuple(
        Step(kind=kind, name=name, think_ms=think_ms, timeout_ms=500, count=2, hold_ms=10)
        for kind, name in calls
    )


def scenario(
    *faults: Fault, seed: int = 1, clients: int = 2, rounds: int = 1, heal_ms: int = 1000, **settings: Any
) -> Scenario:
    """Return a run of some clients that all make the same calls, a few times over."""
    plan = ClientPlan(ttl_ms=1000, timeout_ms=4000, threads=(steps(*CALLS * rounds), steps(*CALLS)))
    return Scenario(
        seed=seed,
        settings=Settings(**{"election_timeout_ms": 150, "heartbeat_ms": 30, **settings}),
        clients=(plan,) * clients,
        faults=faults,
        heal_ms=heal_ms,
    )


def fault(
    kind: str, target: str = "leader", *, at_ms: int = 300, last_ms: int = 300, **options: Any
) -> Fault:
    """Return a fault in the middle of such a run."""
    return Fault(at_ms=at_ms, kind=kind, target=target, last_ms=last_ms, options=options)


@contextmanager
def a_world(one: Scenario, tell: Callable[[float, str, Any], None] | None = None) -> Iterator[World]:
    """Make a world of which nothing is left afterwards: what is freed later may complain of its end."""
    with _undisturbed():
        world = World(one, tell)
        try:
            yield world
        finally:
            world.close()
            world.__dict__.clear()


def after_run(
    one: Scenario, look: Callable[[World], _T], tell: Callable[[float, str, Any], None] | None = None
) -> _T:
    """Run a scenario to its end, and return what somebody sees who looks at the world then."""
    with a_world(one, tell) as world:
        world.run()
        return look(world)
