"""What the tests of `raftcoord.dask` do with real Dask clusters: start them, kill workers, wait."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

from distributed import Client
from distributed import LocalCluster as DaskCluster


def start_dask(workers: int = 2, **options: Any) -> DaskCluster:
    """Start a Dask cluster, on any free ports."""
    return DaskCluster(n_workers=workers, threads_per_worker=4, dashboard_address=":0", **options)


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
