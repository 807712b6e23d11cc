"""Futures in Variable and Queue: how long their results live, and what a reader gets."""

from __future__ import annotations

import operator
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from dask_world import eventually, in_async_client, start_dask
from distributed import CancelledError, Client, wait, worker_client
from distributed import LocalCluster as DaskCluster

from raftcoord.dask import Event, Queue, RaftcoordPlugin, Variable, records
from raftcoord.testing.local_cluster import LocalCluster

pytest_plugins = ["dask_fixtures"]


def known_to_scheduler(client: Client, key: Any) -> bool:
    found: bool = client.run_on_scheduler(lambda dask_scheduler: key in dask_scheduler.tasks)
    return found


def is_let_go(client: Client, key: Any) -> bool:
    """Tell whether the scheduler forgets a key within a bound."""
    return eventually(lambda: not known_to_scheduler(client, key))


def holders(client: Client) -> list[str]:
    """Return the names under which the scheduler holds results for raftcoord."""
    found: list[str] = client.run_on_scheduler(
        lambda dask_scheduler: [name for name in dask_scheduler.clients if "raftcoord" in name]
    )
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(dask_cluster: DaskCluster) -> Iterator[None]:
    yield
    with Client(dask_cluster, set_as_default=False) as client:
        assert eventually(lambda: not holders(client)), holders(client)


# The scheduler, which runs in this process, warns when a client is told of a key that is gone.
GONE_IS_FINE = pytest.mark.filterwarnings("ignore:Client .* but key is unknown:UserWarning")


def submit_one(client: Client, name: str, number: int = 1) -> Any:
    return client.submit(operator.add, number, 1, key=(name, number))


def test_a_variable_hands_out_live_futures_and_keeps_its_own(client: Client, name: str) -> None:
    variable = Variable(name)
    future = submit_one(client, name)
    key = future.key
    variable.set(future)
    wait(future)
    assert variable.get().status == "finished"
    assert variable.get().key == key
    del future
    assert variable.get().result() == 2
    assert known_to_scheduler(client, key)
    variable.set("something else")
    assert is_let_go(client, key)
    assert not holders(client)


@pytest.mark.parametrize("end", ["set", "future", "delete"])
def test_a_result_is_let_go_when_the_variable_does_not_hold_it(client: Client, name: str, end: str) -> None:
    Variable(name).set(submit_one(client, name))
    Variable((name, "other")).set(submit_one(client, name, 5))
    assert known_to_scheduler(client, (name, 1))
    if end == "set":
        Variable(name).set(None)
    elif end == "delete":
        Variable(name).delete()
    else:
        Variable(name).set(Variable((name, "other")).get())
    assert is_let_go(client, (name, 1))
    Variable(name).delete()
    assert Variable((name, "other")).get().result() == 6
    Variable((name, "other")).delete()
    assert is_let_go(client, (name, 5))
    assert not holders(client)


def test_a_result_outlives_the_client_that_made_it(
    client: Client, dask_cluster: DaskCluster, name: str
) -> None:
    with Client(dask_cluster, set_as_default=False) as maker:
        Variable(name, client=maker).set(submit_one(maker, name))
        Queue(name, client=maker).put(submit_one(maker, name, 5))
    assert Variable(name).get().result() == 2
    assert Queue(name).get().result() == 6
    Variable(name).delete()
    assert is_let_go(client, (name, 1))
    assert is_let_go(client, (name, 5))


def test_a_handle_outlives_its_dask_client(client: Client, dask_cluster: DaskCluster, name: str) -> None:
    with Client(dask_cluster, set_as_default=False) as other:
        variable = Variable(name, client=other)
        variable.set(submit_one(other, name))
    assert variable.get().result() == 2
    variable.set("plain")
    assert variable.get() == "plain"
    assert is_let_go(client, (name, 1))


def test_a_future_stays_in_a_queue_whose_dask_client_was_closed(dask_cluster: DaskCluster, name: str) -> None:
    with Client(dask_cluster, set_as_default=False) as maker:
        queue = Queue(name, client=maker)
        queue.put(submit_one(maker, name))
    with pytest.raises(RuntimeError, match="Future"):
        queue.get(timeout=5)
    assert queue.qsize() == 1
    with Client(dask_cluster):
        assert queue.get(timeout=5).result() == 2


def test_a_queue_holds_a_result_until_it_is_handed_out(client: Client, name: str) -> None:
    queue = Queue(name)
    future = submit_one(client, name)
    for _ in range(2):
        queue.put(future)
    queue.put("plain")
    del future
    first = queue.get()
    assert first.result() == 2
    del first
    assert known_to_scheduler(client, (name, 1))
    second, plain = queue.get(batch=2)
    assert (second.result(), plain) == (2, "plain")
    del second
    assert is_let_go(client, (name, 1))
    assert not holders(client)


def test_closing_a_queue_lets_go_of_the_results_in_it(client: Client, name: str) -> None:
    queue = Queue(name)
    queue.put(submit_one(client, name))
    queue.put("plain")
    assert known_to_scheduler(client, (name, 1))
    queue.close()
    assert is_let_go(client, (name, 1))


def test_an_error_comes_with_the_future(client: Client, name: str) -> None:
    future = client.submit(operator.truediv, 1, 0, key=(name, 1))
    wait(future)
    Variable(name).set(future)
    Queue(name).put(future)
    del future
    for found in (Variable(name).get(), Queue(name).get()):
        assert found.status == "error"
        with pytest.raises(ZeroDivisionError):
            found.result()
        assert isinstance(found.exception(), ZeroDivisionError)
    Variable(name).delete()


def test_a_future_that_is_not_done_yet_can_be_read(client: Client, name: str) -> None:
    event = Event(name)
    Variable(name).set(client.submit(event.wait, key=(name, 1)))
    found = Variable(name).get()
    assert found.status == "pending"
    event.set()
    assert found.result(timeout=20) is True
    Variable(name).delete()


def raises_at_once(future: Any) -> bool:
    """Tell whether a Future is cancelled, and says so without waiting."""
    started = time.monotonic()
    with pytest.raises(CancelledError):
        future.result(timeout=20)
    return bool(future.status == "cancelled" and time.monotonic() - started < 5)


@GONE_IS_FINE
def test_a_cancelled_future_says_so(client: Client, name: str) -> None:
    future = client.submit(Event(name).wait, key=(name, 1))
    Variable(name).set(future)
    Queue(name).put(future)
    client.cancel([future], force=True)
    assert raises_at_once(Variable(name).get())
    assert raises_at_once(Queue(name).get())
    with pytest.raises((TimeoutError, CancelledError)):
        Variable(name).set(future, timeout="1s")
    Event(name).set()
    Variable(name).delete()


def test_a_lost_future_says_so(raftcoord_cluster: LocalCluster, name: str) -> None:
    options: dict[str, Any] = {"workers": 1, "processes": False}
    with start_dask(**options) as cluster, Client(cluster) as client:
        client.register_plugin(RaftcoordPlugin(raftcoord_cluster.address))
        Variable(name).set(submit_one(client, name))
        Queue(name).put(submit_one(client, name))
        Variable((name, "plain")).set([1])
    with start_dask(**options) as cluster, Client(cluster):
        started = time.monotonic()
        assert raises_at_once(Variable(name).get())
        assert raises_at_once(Queue(name).get())
        assert Variable((name, "plain")).get() == [1]
        assert time.monotonic() - started < 10
        Variable(name).set("new")
        assert Variable(name).get() == "new"


@GONE_IS_FINE
def test_a_restart_of_the_workers_loses_results_and_says_so(
    raftcoord_cluster: LocalCluster, name: str
) -> None:
    with start_dask(workers=1, processes=True) as cluster, Client(cluster) as client:
        client.register_plugin(RaftcoordPlugin(raftcoord_cluster.address))
        future = submit_one(client, name)
        wait(future)
        Variable(name).set(future)
        client.restart()
        assert raises_at_once(Variable(name).get())


def read_in_a_task(variable: Variable, queue: Queue) -> list[Any]:
    return [variable.get().result(), queue.get(timeout=20).result()]


def test_futures_are_read_in_tasks(client: Client, name: str) -> None:
    (future,) = client.scatter([[1, 2, 3]], hash=False)
    variable, queue = Variable(name), Queue(name)
    variable.set(future)
    for _ in range(10):
        queue.put(future)
    tasks = [client.submit(read_in_a_task, variable, queue, pure=False) for _ in range(10)]
    assert client.gather(tasks) == [[[1, 2, 3]] * 2] * 10
    variable.delete()


def replace_in_a_task(name: str) -> None:
    with worker_client() as client:
        Variable(name).set(submit_one(client, name))


def test_a_result_is_let_go_by_one_who_saw_the_variable_without_it(client: Client, name: str) -> None:
    Variable(name).set("plain")
    client.submit(replace_in_a_task, name).result()
    assert known_to_scheduler(client, (name, 1))
    Variable(name).set("plain again")
    assert is_let_go(client, (name, 1))


def test_futures_in_async_clients(
    dask_cluster: DaskCluster, raftcoord_cluster: LocalCluster, name: str
) -> None:
    raftcoord_cluster.heal()

    async def body(client: Client) -> None:
        future = client.submit(operator.add, 1, 1, key=(name, 1))
        variable, queue = Variable(name), await Queue(name)
        assert variable.client is client
        await variable.set(future)
        await queue.put(future)
        await queue.put(3)
        del future
        assert await (await variable.get()).result() == 2
        found, three = await queue.get(batch=2)
        assert (await found.result(), three) == (2, 3)
        variable.delete()
        with pytest.raises(TimeoutError):
            await variable.get(timeout="50ms")

    in_async_client(dask_cluster, body)


def test_a_future_that_the_scheduler_does_not_know_is_refused(client: Client, name: str) -> None:
    from distributed import Future

    unknown = Future((name, "unknown"), client)
    with pytest.raises(TimeoutError):
        Variable(name).set(unknown, timeout="300ms")
    with pytest.raises(TimeoutError):
        Variable(name).get(timeout=0)
    assert not holders(client)


def test_a_future_inside_a_value_is_refused(client: Client, name: str) -> None:
    with pytest.raises(TypeError):
        Variable(name).set([submit_one(client, name)])


WITHOUT_DASK = """
import sys
from raftcoord.dask import Queue, Variable
name, address = sys.argv[1:]
for get in (Variable(name, address=address).get, Queue(name, address=address).get):
    try:
        get(timeout=20)
    except RuntimeError as error:
        print(type(error).__name__)
print(Queue(name, address=address).qsize())
"""


def test_a_future_needs_a_dask_client_and_stays_where_there_is_none(
    client: Client, raftcoord_cluster: LocalCluster, name: str
) -> None:
    Variable(name).set(submit_one(client, name))
    Queue(name).put(submit_one(client, name))
    command = [sys.executable, "-c", WITHOUT_DASK, name, raftcoord_cluster.address]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said.split() == ["RuntimeError", "RuntimeError", "1"]
    assert Queue(name).get(timeout=20).result() == 2
    Variable(name).delete()


def test_a_plain_value_that_looks_like_a_record_is_not_one() -> None:
    record = records.Record("key", "holder")
    looks_alike = ("\0raftcoord.dask", "future", "key", "holder")
    assert records.decode(records.encode(record)) == record
    assert type(records.decode(records.encode(looks_alike))) is tuple
    assert records.decode(records.encode(looks_alike)) == looks_alike
