"""The code behind the published figures runs, and handles cost no connection and no thread."""

from __future__ import annotations

import dask
import pytest
from distributed import Client

from benchmarks.dask import handles, objects
from raftcoord.testing.local_cluster import LocalCluster

pytest_plugins = ["dask_fixtures"]

HANDLES = 2000
CALLS = {
    f"{call}, {where}"
    for call in ("Variable.set", "Variable.get", "Queue.put", "Queue.get", "Lock.acquire", "Lock.release")
    for where in ("client", "task")
}


@pytest.mark.parametrize("system", ["raftcoord", "dask"])
def test_each_call_is_measured_here_and_in_a_task(
    client: Client, raftcoord_cluster: LocalCluster, system: str
) -> None:
    with dask.config.set({"raftcoord.addresses": raftcoord_cluster.address}):
        times_ms = objects.measure(client, system, count=3)
    assert times_ms.keys() == CALLS
    assert all(len(times) == 3 and min(times) > 0 for times in times_ms.values())


def test_thousands_of_handles_share_one_connection(client: Client, raftcoord_cluster: LocalCluster) -> None:
    with dask.config.set({"raftcoord.addresses": raftcoord_cluster.address}):
        found = handles.measure(client, "raftcoord", HANDLES)
    assert found["handles, connections"] == [1]
    assert found["handles, more threads"] == [0]
