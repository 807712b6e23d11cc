"""The whole coordination tutorial on Dask workers, with the leader of raftcoord killed in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import drained_queue
import error_messages
import global_variable
import lost_updates
import publish_subscribe
import pytest
import scattered_array
from both_clusters import connected, workers
from distributed import Client

from raftcoord.dask import Event
from raftcoord.testing.local_cluster import LocalCluster

POWERS_OF_FIVE = [1, 32, 243, 1024, 3125, 7776, 16807, 32768, 59049, 100000]


@dataclass(slots=True)
class Killer:
    """Kills the leader when called, and knows that it did."""

    replicas: LocalCluster
    killed: list[int] = field(default_factory=list)

    def __call__(self) -> None:
        leader = self.replicas.leader()
        self.replicas.kill(leader)
        self.killed.append(leader)


@pytest.fixture(scope="module")
def replicas() -> Iterator[LocalCluster]:
    with LocalCluster() as replicas:
        yield replicas


@pytest.fixture(scope="module")
def client(replicas: LocalCluster) -> Iterator[Client]:
    with workers() as cluster, connected(cluster, replicas.address) as client:
        yield client


@pytest.fixture
def killer(replicas: LocalCluster) -> Iterator[Killer]:
    """The leader must have been killed once, and another one have taken over."""
    replicas.heal()
    killer = Killer(replicas)
    yield killer
    assert len(killer.killed) == 1
    assert replicas.leader() != killer.killed[0]


def meet(number: int) -> None:
    """Let the first two tasks read before either of them writes."""
    if number in (0, 1):
        Event(f"read {number}").set()
        assert Event(f"read {1 - number}").wait(60)


def test_ten_tasks_read_a_global_variable(client: Client, killer: Killer) -> None:
    assert global_variable.powers(client, killer) == POWERS_OF_FIVE


def test_ten_tasks_read_an_array_through_a_variable(client: Client, killer: Killer) -> None:
    assert scattered_array.all_doubled(client, killer) == [*range(2, 21, 2)]


def test_error_messages_come_through_a_queue(client: Client, killer: Killer) -> None:
    results, messages = error_messages.failures(client, killer)
    assert results == [x**3 if x % 2 else None for x in range(1, 11)]
    assert messages == [
        f"{x} ** '3' failed: unsupported operand type(s) for ** or pow(): 'int' and 'str'"
        for x in range(2, 11, 2)
    ]


def test_updates_are_lost_without_a_lock(client: Client, killer: Killer) -> None:
    *values, last = lost_updates.values_without_lock(client, killer, meet)
    assert len(values) == 10
    assert last in values
    assert last < 11


def test_under_the_lock_ten_tasks_write_ten_values(client: Client, killer: Killer) -> None:
    *values, last = lost_updates.values_under_lock(client, killer, lambda _: None)
    assert sorted(values) == [*range(2, 12)]
    assert last == 11


@pytest.mark.parametrize("drained", [drained_queue.drained_without_lock, drained_queue.drained_under_lock])
def test_a_queue_hands_out_each_item_once(
    client: Client, killer: Killer, drained: Callable[[Client, Killer], list[list[int]]]
) -> None:
    shares = drained(client, killer)
    assert sorted(item for share in shares for item in share) == [*range(drained_queue.ITEMS)]
    assert all(share == sorted(share) for share in shares), "nobody may get a later item first"


def test_both_subscribers_get_all_messages_in_order(client: Client, killer: Killer) -> None:
    messages = [f"message {number}" for number in range(10)]
    assert publish_subscribe.received(client, killer) == [messages, messages]
