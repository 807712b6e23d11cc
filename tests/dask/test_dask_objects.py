"""Variable, Queue, Event and topics as Dask documents them: from clients, tasks, threads and without Dask."""

from __future__ import annotations

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from dask_world import eventually, kill_worker
from distributed import Client, worker_client

from raftcoord import aio
from raftcoord.dask import Event, Lock, MultiLock, Pub, Queue, Semaphore, Sub, Variable
from raftcoord.protocol.errors import QueueClosed
from raftcoord.protocol.operations import Operation
from raftcoord.testing.local_cluster import LocalCluster

pytest_plugins = ["dask_fixtures"]

VALUES: list[Any] = [
    *(None, True, 0, 1.5, "text", b"bytes", [1, [2]], (1, (2,)), {"a": [1]}, timedelta(1)),
    ("\0raftcoord.dask", "future", "key", "holder"),
]


def test_values_come_back_as_they_were(client: Client, name: str) -> None:
    variable, queue = Variable(name), Queue(name)
    for value in VALUES:
        variable.set(value)
        queue.put(value)
        assert variable.get() == value
        assert type(variable.get()) is type(value)
    assert queue.get(batch=True) == VALUES


def test_values_from_plain_types_are_made_plain(client: Client, name: str) -> None:
    class Words(str):
        pass

    class Numbers(list[int]):
        pass

    variable = Variable(name)
    variable.set([Words("a"), Numbers([1]), bytearray(b"b")])
    found = variable.get()
    assert found == ["a", [1], b"b"]
    assert [type(item) for item in found] == [str, list, bytes]


@pytest.mark.parametrize("value", [object(), {1, 2}, [object()], 2**70, "x" * 2_000_000, {(1, 2): 3}])
def test_what_cannot_be_stored_is_refused_before_anything_happens(
    client: Client, name: str, value: Any
) -> None:
    variable, queue, sub = Variable(name), Queue(name), Sub(name)
    variable.set("kept")
    for put in (variable.set, queue.put, Pub(name).put):
        with pytest.raises((TypeError, ValueError)):
            put(value)
    assert variable.get() == "kept"
    assert queue.qsize() == 0
    with pytest.raises(TimeoutError):
        sub.get(timeout=0)


@pytest.mark.parametrize("kind", [Variable, Queue, Lock, Event, Pub, lambda name: Semaphore(1, name)])
@pytest.mark.parametrize("bad", [object(), {1}, ("a", object()), "x" * 600, 2**70])
def test_names_that_cannot_be_stored_are_refused(kind: Any, bad: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        kind(bad)


def test_names_are_those_that_dask_takes(client: Client, name: str) -> None:
    names: list[Any] = [name, (name, 1), (name, None, ("x", b"y")), (name, 1.5), (name, "")]
    for number, one in enumerate(names):
        Variable(one).set(number)
    assert [Variable(one).get() for one in names] == list(range(len(names)))
    assert Variable([name, 1]).get() == Variable((name, True)).get() == Variable((name, 1.0)).get() == 1
    assert Variable().name != Variable().name
    assert Variable("").name.startswith("variable-")
    assert Variable((name, 1)).name == (name, 1)


def test_variable(client: Client, name: str) -> None:
    variable = Variable(name)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        variable.get(timeout="200ms")
    assert 0.1 < time.monotonic() - started < 5
    assert variable.set(1) is None
    assert variable.set(2, timeout=timedelta(seconds=5)) is None
    assert Variable(name, client=client).get() == 2
    assert variable.client is client
    assert variable.delete() is None
    with pytest.raises(TimeoutError):
        variable.get(timeout=0)


def test_a_reader_waits_for_the_first_value(client: Client, name: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(Variable(name).get, timeout="20s")
        Variable(name).set("there")
        assert reading.result() == "there"


def test_setters_do_not_lose_a_set_that_another_one_made(client: Client, name: str) -> None:
    def last_of(start: int) -> int:
        variable = Variable(name)
        for value in range(start, start + 20):
            variable.set(value)
        return start + 19

    with ThreadPoolExecutor(4) as pool:
        last = list(pool.map(last_of, range(0, 400, 100)))
    assert Variable(name).get() in last


def test_a_set_is_one_call_once_the_process_has_seen_the_variable(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    request = aio.Client.request

    async def noted(self: aio.Client, operation: int, *args: Any, **options: Any) -> tuple[int, Any]:
        calls.append(operation)
        return await request(self, operation, *args, **options)

    monkeypatch.setattr(aio.Client, "request", noted)
    Variable(name).set(0)
    assert calls == [Operation.VARIABLE_GET, Operation.VARIABLE_COMPARE_AND_SET]
    calls.clear()
    for value in range(3):
        Variable(name).set(value)  # as tasks do, which make a handle each
    assert calls == [Operation.VARIABLE_COMPARE_AND_SET] * 3
    Variable(name).delete()
    calls.clear()
    Variable(name).set(3)
    assert calls == [Operation.VARIABLE_COMPARE_AND_SET]
    assert Variable(name).get() == 3


def test_queue(client: Client, name: str) -> None:
    queue = Queue(name, maxsize=3)
    for item in ("a", "b", "c"):
        assert queue.put(item) is None
    assert queue.qsize() == 3
    with pytest.raises(TimeoutError):
        queue.put("d", timeout="100ms")
    assert Queue(name).get() == "a"
    assert queue.get(batch=2) == ["b", "c"]
    assert queue.get(batch=True) == []
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        queue.get(timeout=timedelta(milliseconds=200))
    assert 0.1 < time.monotonic() - started < 5


def test_a_batch_with_a_timeout_takes_all_or_nothing(client: Client, name: str) -> None:
    queue = Queue(name)
    queue.put([1])
    with pytest.raises(TimeoutError):
        queue.get(timeout="100ms", batch=2)
    queue.put((2,))
    assert queue.get(timeout=5, batch=2) == [[1], (2,)]


def test_closing_a_queue_removes_it(client: Client, name: str) -> None:
    queue = Queue(name)
    queue.put(1)
    assert queue.close() is None
    assert queue.qsize() == 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Queue(name).get, timeout=20)
        assert eventually(lambda: bool(close_until(queue, waiting)))
        with pytest.raises(QueueClosed):
            waiting.result()


def close_until(queue: Queue, waiting: Any) -> bool:
    """Close until the getter, which may not wait yet, was told."""
    queue.close()
    return bool(waiting.done())


def test_event(client: Client, name: str) -> None:
    event = Event(name)
    assert event.is_set() is False
    assert event.wait(timeout="100ms") is False
    assert event.set() is None
    assert Event(name).wait() is True
    assert event.is_set() is True
    assert event.clear() is None
    assert event.wait(timeout=0) is False


def test_pub_and_sub(client: Client, name: str) -> None:
    Pub(name).put("before")
    first, second = Sub(name), Sub(name)
    pub = Pub(name)
    for number in range(10):
        pub.put(number)
    assert [first.get() for _ in range(10)] == list(range(10))
    assert [next(second) for _ in range(10)] == list(range(10))
    with pytest.raises(TimeoutError):
        first.get(timeout="100ms")
    assert first.missed == 0


def test_many_messages_arrive_once_and_in_order(client: Client, name: str) -> None:
    sub, pub = Sub(name), Pub(name)
    for number in range(5000):
        pub.put(number)
    pub.flush(timeout=30)
    assert [sub.get(timeout=0) for _ in range(5000)] == list(range(5000))


def test_a_pickled_subscription_goes_on_where_it_stands(client: Client, name: str) -> None:
    sub, pub = Sub(name), Pub(name)
    pub.put(1)
    pub.put(2)
    assert sub.get() == 1
    assert pickle.loads(pickle.dumps(sub)).get(timeout=5) == 2  # noqa: S301  # ours


def in_a_task(variable: Variable, queue: Queue, lock: Lock, event: Event, number: int) -> int:
    assert event.wait(timeout=20)
    with lock:
        variable.set(variable.get() + 1)
        queue.put(number)
    return threading.get_ident()


def test_handles_work_in_tasks(client: Client, name: str) -> None:
    variable, queue, lock, event = Variable(name), Queue(name), Lock(name), Event(name)
    variable.set(1)
    tasks = [client.submit(in_a_task, variable, queue, lock, event, number) for number in range(10)]
    event.set()
    client.gather(tasks)
    assert variable.get() == 11
    assert sorted(queue.get(batch=10)) == list(range(10))


def subscribe_in_a_task(name: str, read_from_followers: bool) -> list[int]:
    sub = Sub(name, read_from_followers=read_from_followers)
    sub = pickle.loads(pickle.dumps(sub))  # noqa: S301  # ours
    Queue(name).put("subscribed")
    return [sub.get(timeout=20) for _ in range(10)]


def test_every_subscriber_in_a_task_gets_all_messages(client: Client, name: str) -> None:
    subscribers = [client.submit(subscribe_in_a_task, name, followers) for followers in (False, True)]
    assert Queue(name).get(timeout=20, batch=2) == ["subscribed"] * 2
    pub = Pub(name)
    for number in range(10):
        pub.put(number)
    assert client.gather(subscribers) == [list(range(10))] * 2


async def in_an_async_task(name: str) -> Any:
    queue = await Queue(name)
    await queue.put("from the event loop of the worker")
    async with Lock(name) as lock, Semaphore(2, name), MultiLock([name, "other"]):
        return [await queue.get(), await lock.locked(), await Event(name).wait(timeout="50ms")]


def test_handles_work_in_async_tasks(client: Client, name: str) -> None:
    found = client.submit(in_an_async_task, name).result()
    assert found == ["from the event loop of the worker", True, False]


def from_a_worker_client(name: str) -> Any:
    with worker_client() as client:
        return client.submit(lambda queue: queue.get(timeout=20), Queue(name, client=client)).result()


def test_handles_work_with_a_worker_client(client: Client, name: str) -> None:
    Queue(name).put(7)
    assert client.submit(from_a_worker_client, name).result() == 7


def test_handles_work_with_nothing_but_an_address(raftcoord_cluster: LocalCluster, name: str) -> None:
    queue = Queue(name, address=raftcoord_cluster.address)
    queue.put(1)
    assert pickle.loads(pickle.dumps(queue)).get() == 1  # noqa: S301  # ours
    assert queue.client is None


def block_on_a_queue(name: str) -> Any:
    Event((name, "blocks")).set()
    return Queue(name).get()


def test_a_getter_that_dies_while_it_waits_eats_no_item(client: Client, name: str) -> None:
    address = next(iter(client.scheduler_info()["workers"]))
    future = client.submit(block_on_a_queue, name, workers=[address], allow_other_workers=False)
    assert Event((name, "blocks")).wait(timeout=20)
    kill_worker(client, address)
    future.cancel()
    queue = Queue(name)
    queue.put("item")
    assert queue.get(timeout=20) == "item"


@pytest.mark.parametrize("callback_timeout", [None, "300ms"])
def test_timeouts_hold_without_a_server(name: str, callback_timeout: str | None) -> None:
    nowhere = "127.0.0.1:9"
    timeout = None if callback_timeout else 0.3
    started = time.monotonic()
    for get in (Variable(name, address=nowhere).get, Queue(name, address=nowhere).get):
        with pytest.raises(TimeoutError):
            get(timeout=timeout, callback_timeout=callback_timeout)
    with pytest.raises(TimeoutError):
        Variable(name, address=nowhere).set(1, timeout="300ms")
    assert Event(name, address=nowhere).wait(timeout="300ms") is False
    for lock in (
        Lock(name, address=nowhere),
        Semaphore(1, name, address=nowhere),
        MultiLock([name], address=nowhere),
    ):
        assert lock.acquire(timeout="300ms") is False
    assert time.monotonic() - started < 10
