"""Real clusters for the tests of `raftcoord.dask`: Dask worker processes, and three raftcoord replicas."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from distributed import Client
from distributed import LocalCluster as DaskCluster

from raftcoord.dask import RaftcoordPlugin
from raftcoord.testing.local_cluster import LocalCluster

SESSION_TTL = "2s"


def start_dask(workers: int = 2, **options: Any) -> DaskCluster:
    """Start a Dask cluster, on any free ports."""
    return DaskCluster(n_workers=workers, threads_per_worker=4, dashboard_address=":0", **options)


@pytest.fixture(scope="session")
def dask_cluster(raftcoord_cluster: LocalCluster) -> Iterator[DaskCluster]:
    """Two Dask worker processes, connected with the replicas, for the whole test run."""
    with start_dask(processes=True) as cluster:
        with Client(cluster) as client:
            client.register_plugin(RaftcoordPlugin(raftcoord_cluster.address, session_ttl=SESSION_TTL))
        yield cluster


@pytest.fixture
def client(dask_cluster: DaskCluster) -> Iterator[Client]:
    """A Dask client of its own for each test, with two workers."""
    with Client(dask_cluster) as client:
        client.wait_for_workers(2, timeout=20)
        yield client


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


def in_async_client(
    cluster: DaskCluster, body: Callable[[Client], Awaitable[None]], within_s: float = 30
) -> None:
    """Run a coroutine function with an asynchronous Dask client."""

    async def run() -> None:
        async with Client(cluster.scheduler_address, asynchronous=True) as client:
            await asyncio.wait_for(body(client), within_s)

    asyncio.run(run())


def eventually(holds: Callable[[], bool], within_s: float = 15.0) -> bool:
    """Wait until something holds; tell whether it did in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def worker_pids(client: Client) -> dict[str, int]:
    """Return the process of each worker by its address."""
    pids: dict[str, int] = client.run(os.getpid)
    return pids


def kill_worker(client: Client, address: str) -> None:
    """End a worker process without giving it a chance to say so; its nanny starts another one."""
    os.kill(worker_pids(client)[address], signal.SIGKILL)
