"""Real clusters for the tests of `raftcoord.dask`: Dask worker processes, and three raftcoord replicas.

A plugin that test modules name in `pytest_plugins`. It is no conftest.py: another folder has one, and two
modules of one name are one too many for mypy.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from dask_world import start_dask
from distributed import Client
from distributed import LocalCluster as DaskCluster

from raftcoord.dask import RaftcoordPlugin
from raftcoord.testing.local_cluster import LocalCluster

SESSION_TTL = "2s"


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
