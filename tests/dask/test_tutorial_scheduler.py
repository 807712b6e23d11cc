"""The tutorial's variable, queue and lock over the end of the Dask scheduler: what they held is there.

The scheduler is killed (SIGKILL) and started again with new workers, which is where Dask's own objects are
empty: they lived in the old one. The first half of each part runs before that, the second half after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dask
import error_messages
import global_variable
import lost_updates
import pytest
from distributed import Client

from benchmarks.dask.processes import START_WAIT_S, DaskProcesses
from raftcoord.dask import Event, Lock, Queue, Variable
from raftcoord.testing.local_cluster import LocalCluster

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
ITEMS = 10


@dataclass(frozen=True, slots=True)
class Before:
    """What came out of the first halves, and the lock that this process has held since then."""

    powers: list[int]
    taken: list[int]
    values: list[int]
    lock: Lock


def set_y(value: int) -> None:
    Variable("y").set(value)
    Event("y is set").set()


def take(_: int) -> int:
    return int(Queue("numbers").get(timeout=5))


def try_lock(name: str) -> bool:
    return bool(Lock(name).acquire(blocking=False))


def first_halves(client: Client) -> Before:
    """Do what must still be there later: from tasks, since their workers end with the scheduler."""
    client.submit(set_y, 5).result()
    powers = client.gather(client.map(global_variable.power, range(1, 6)))
    client.gather(client.map(error_messages.power, range(1, 6), ["2"] * 5))
    for number in range(ITEMS):
        Queue("numbers").put(number)
    taken = client.gather(client.map(take, range(ITEMS // 2)))
    Variable("counter").set(1)
    values = client.gather(client.map(lost_updates.add_under_lock, range(5), pure=False))
    assert client.submit(try_lock, "of a worker", pure=False).result()
    lock = Lock("counter")
    assert lock.acquire()
    return Before(powers, taken, values, lock)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with LocalCluster() as replicas, dask.config.set({"raftcoord.addresses": replicas.address}):
        folder = tmp_path_factory.mktemp("dask")
        variables = {"DASK_RAFTCOORD__ADDRESSES": replicas.address}
        with DaskProcesses(folder, path=[EXAMPLES, HERE], environment=variables) as processes:
            yield processes


@pytest.fixture(scope="module")
def before(processes: DaskProcesses) -> Before:
    with Client(processes.address, timeout=START_WAIT_S) as client:
        client.wait_for_workers(processes.workers, timeout=START_WAIT_S)
        before = first_halves(client)
        processes.kill_scheduler()
    return before


@pytest.fixture(scope="module")
def client(before: Before, processes: DaskProcesses) -> Iterator[Client]:
    """A client of the next scheduler, with none of the workers that there were."""
    processes.start()
    with Client(processes.address, timeout=START_WAIT_S) as client:
        client.wait_for_workers(processes.workers, timeout=START_WAIT_S)
        yield client


def test_a_variable_and_an_event_keep_what_a_task_set(before: Before, client: Client) -> None:
    assert Event("y is set").is_set()
    powers = client.gather(client.map(global_variable.power, range(6, 11)))
    assert before.powers + powers == [x**5 for x in range(1, 11)]


def test_a_queue_keeps_its_items_and_their_order(before: Before, client: Client) -> None:
    assert sorted(before.taken) == [0, 1, 2, 3, 4]
    assert Queue("numbers").qsize() == 5
    taken = client.gather(client.map(take, range(ITEMS // 2)))
    assert sorted(taken) == [5, 6, 7, 8, 9]
    messages = Queue("errors").get(batch=True)
    assert sorted(message.split()[0] for message in messages) == ["1", "2", "3", "4", "5"]


def test_a_lock_stays_with_its_holder_and_leaves_a_dead_worker(before: Before, client: Client) -> None:
    assert not client.submit(try_lock, "counter", pure=False).result(), "this process holds it"
    with Lock("of a worker"):
        pass  # its holder is dead
    tasks = client.map(lost_updates.add_under_lock, range(5), pure=False)
    before.lock.release()
    values = before.values + client.gather(tasks)
    assert sorted(values) == [*range(2, 12)]
    assert Variable("counter").get() == 11
