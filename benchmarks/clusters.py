"""Three raftcoord replicas on a chosen disk, and ways to fill them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import uvloop

from raftcoord import aio
from raftcoord.testing.local_cluster import LocalCluster

REPLICAS: Final = 3
FILL_CLIENTS: Final = 4
FILL_IN_FLIGHT: Final = 100  # per client


class RaftcoordCluster:
    """A LocalCluster together with what the measurements ask of every cluster."""

    def __init__(self, local: LocalCluster) -> None:
        self.local = local

    def __repr__(self) -> str:
        return f"<RaftcoordCluster {self.local!r}>"

    @property
    def address(self) -> str:
        return self.local.address

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that run."""
        pids = [self.local.pid(index) for index in range(self.local.replicas)]
        return [pid for pid in pids if pid is not None]

    def pid(self, index: int) -> int:
        """Return the process id of a replica that runs."""
        pid = self.local.pid(index)
        if pid is None:
            raise RuntimeError(f"replica {index} is down")
        return pid


@contextlib.contextmanager
def raftcoord_cluster(folder: Path, **options: Any) -> Iterator[RaftcoordCluster]:
    """Run a new cluster with empty data in `folder`; `options` are settings of the server."""
    data = Path(tempfile.mkdtemp(prefix="raftcoord-", dir=folder))
    try:
        with LocalCluster(REPLICAS, data, **options) as local:
            yield RaftcoordCluster(local)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def fill(address: str, count: int, name: Callable[[int], str], value: Callable[[int], object]) -> None:
    """Set `count` variables, many at a time."""
    uvloop.run(_fill(address, count, name, value))


async def _fill(address: str, count: int, name: Callable[[int], str], value: Callable[[int], object]) -> None:
    numbers = iter(range(count))

    async def set_next_ones(client: aio.Client) -> None:
        for number in numbers:  # shared by all: each takes the next one that nobody has taken
            await aio.Variable(name(number), client=client).set(value(number))

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(aio.Client(address)) for _ in range(FILL_CLIENTS)]
        await asyncio.gather(*(set_next_ones(client) for client in clients for _ in range(FILL_IN_FLIGHT)))
