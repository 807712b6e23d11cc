"""Where addresses come from, one connection per process, and what is left when workers stop."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import dask.config
import psutil
import pytest
from dask_world import eventually, start_dask, worker_pids
from distributed import Client

from raftcoord.client.loop_thread import stop_loop_thread
from raftcoord.dask import Event, Lock, MultiLock, Queue, RaftcoordPlugin, Semaphore, Variable
from raftcoord.testing.local_cluster import LocalCluster

pytest_plugins = ["dask_fixtures"]


def connections_of(pid: int, cluster: LocalCluster) -> int:
    """Count the connections of a process to the replicas."""
    ports = {int(address.rpartition(":")[2]) for address in cluster.addresses}
    found = psutil.Process(pid).net_connections(kind="tcp")
    return sum(1 for one in found if one.raddr and one.raddr.port in ports and one.status == "ESTABLISHED")


def use_many(names: list[str]) -> tuple[int, int]:
    for name in names:
        Variable(name).set(1)
        with Lock(name):
            Queue(name).put(1)
    return os.getpid(), threading.active_count()


def test_a_process_has_one_connection_for_all_its_objects(
    client: Client, raftcoord_cluster: LocalCluster, name: str
) -> None:
    few, many = [f"{name}-{n}" for n in range(3)], [f"{name}-{n}" for n in range(60)]
    addresses = list(client.scheduler_info()["workers"])
    for address in addresses:
        pid, threads_before = client.submit(use_many, few, workers=[address], pure=False).result()
        tasks = [client.submit(use_many, many, workers=[address], pure=False) for _ in range(4)]
        threads = [count for _, count in client.gather(tasks)]
        assert connections_of(pid, raftcoord_cluster) == 1
        assert max(threads) <= threads_before + 3  # the worker's own pool of four fills up
    assert all(connections_of(pid, raftcoord_cluster) == 1 for pid in worker_pids(client).values())


def take_handles(*handles: Any) -> int:
    return len(handles)


def test_handles_as_arguments_cost_the_scheduler_nothing(client: Client, name: str) -> None:
    def clients_of_workers() -> int:
        found: int = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.clients))
        return found

    before = clients_of_workers()
    handles = [kind(f"{name}-{n}") for n in range(100) for kind in (Variable, Queue, Event, Lock)]
    assert client.submit(take_handles, *handles).result() == 400
    assert clients_of_workers() == before


def test_waking_up_handles_opens_nothing(name: str) -> None:
    handles: list[Any] = [Variable(f"{name}-{n}") for n in range(5000)]
    handles += [Semaphore(2, name), MultiLock([name]), Queue(name, maxsize=3), Event(name), Lock(name)]
    script = (
        "import pickle, sys, threading\n"
        "handles = pickle.load(sys.stdin.buffer)\n"
        "print(len(handles), threading.active_count(), handles[-5].max_leases, handles[-3].maxsize)\n"
    )
    environment = {**os.environ, "DASK_RAFTCOORD__ADDRESSES": "127.0.0.1:9"}
    said = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(handles),
        capture_output=True,
        timeout=60,
        check=True,
        env=environment,
    ).stdout
    assert said.split() == [b"5005", b"1", b"2", b"3"]


def test_the_environment_of_dask_is_enough(raftcoord_cluster: LocalCluster, name: str) -> None:
    script = "import sys; from raftcoord.dask import Queue; Queue(sys.argv[1]).put('from the environment')"
    environment = {**os.environ, "DASK_RAFTCOORD__ADDRESSES": raftcoord_cluster.address}
    subprocess.run([sys.executable, "-c", script, name], check=True, timeout=60, env=environment)
    assert Queue(name, address=raftcoord_cluster.address).get(timeout=5) == "from the environment"


def test_the_configuration_of_dask_is_used(raftcoord_cluster: LocalCluster, name: str) -> None:
    with dask.config.set({"raftcoord.addresses": raftcoord_cluster.addresses}):
        assert RaftcoordPlugin().addresses == tuple(raftcoord_cluster.addresses)
        variable = Variable(name)
        variable.set(1)
    with dask.config.set({"raftcoord.addresses": "127.0.0.1:9"}):
        assert variable.get() == 1, "a handle in use stays where it is"
        with pytest.raises(TimeoutError):
            Variable(name).get(timeout="200ms")


@pytest.mark.parametrize("addresses", [None, "", "no port:x"])
def test_a_plugin_needs_addresses(addresses: Any) -> None:
    with pytest.raises(ValueError):
        RaftcoordPlugin(addresses)


def test_without_an_address_the_error_says_what_to_do(name: str) -> None:
    script = (
        "from raftcoord.dask import Lock\n"
        "try: Lock('x').acquire(timeout=1)\n"
        "except RuntimeError as error: print(error)\n"
    )
    environment = {key: value for key, value in os.environ.items() if "RAFTCOORD" not in key}
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, capture_output=True, timeout=60, check=True, env=environment, text=True)
    assert "DASK_RAFTCOORD__ADDRESSES" in said.stdout


def test_nothing_else_of_raftcoord_imports_dask() -> None:
    script = (
        "import sys, raftcoord, raftcoord.aio, raftcoord.cli.app, raftcoord.testing\n"
        "print(*{'dask', 'distributed'} & sys.modules.keys())\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, timeout=60).stdout
    assert said.split() == []


def hold(name: str) -> None:
    for lock in (Lock(name), Semaphore(1, name)):
        assert lock.acquire()
    Event((name, "held")).set()


def test_a_worker_that_is_stopped_frees_what_its_tasks_held_at_once(
    raftcoord_cluster: LocalCluster, name: str
) -> None:
    with start_dask(workers=1, processes=True) as cluster, Client(cluster) as client:
        client.register_plugin(RaftcoordPlugin(raftcoord_cluster.address, session_ttl="10m"))
        client.submit(hold, name).result()
        lock, seat = Lock(name), Semaphore(1, name)
        assert lock.acquire(timeout=0) is False
        (pid,) = worker_pids(client).values()
        client.retire_workers()
        assert lock.acquire(timeout=20)
        assert seat.acquire(timeout=20)
        lock.release()
        seat.release()
        assert eventually(lambda: not psutil.pid_exists(pid))


def test_the_last_worker_of_a_process_leaves_nothing_behind(
    raftcoord_cluster: LocalCluster, name: str
) -> None:
    stop_loop_thread()
    before = {thread.name for thread in threading.enumerate()}
    connected = connections_of(os.getpid(), raftcoord_cluster)
    with start_dask(workers=2, processes=False) as cluster, Client(cluster) as client:
        client.register_plugin(RaftcoordPlugin([*reversed(raftcoord_cluster.addresses)]))
        tasks = [client.submit(use_many, [f"{name}-{n}"], pure=False) for n in range(4)]
        client.gather(tasks)
        assert connections_of(os.getpid(), raftcoord_cluster) == connected + 1
    assert eventually(lambda: connections_of(os.getpid(), raftcoord_cluster) == connected)
    if "raftcoord-loop" not in before:
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith("raftcoord")]


def test_a_plugin_does_not_keep_workers_from_starting(name: str) -> None:
    with start_dask(workers=1, processes=False) as cluster, Client(cluster) as client:
        started = time.monotonic()
        client.register_plugin(RaftcoordPlugin("127.0.0.1:9"))
        assert client.submit(sum, [1, 2]).result() == 3
        assert time.monotonic() - started < 15
