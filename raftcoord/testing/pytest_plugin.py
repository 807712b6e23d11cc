"""Fixtures for users' tests; pytest loads this in every run in which raftcoord is installed.

So nothing is imported here but pytest, which is there already, and nothing happens before a test asks for
a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from raftcoord import Client
    from raftcoord.testing.local_cluster import LocalCluster


@pytest.fixture(scope="session")
def raftcoord_cluster() -> Iterator[LocalCluster]:
    """Three replica processes on loopback, one cluster for the whole test run."""
    from raftcoord.testing.local_cluster import LocalCluster

    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def raftcoord_client(raftcoord_cluster: LocalCluster) -> Iterator[Client]:
    """A client of its own for each test; replicas that an earlier test took down are back up."""
    from raftcoord import Client

    raftcoord_cluster.heal()
    with Client(raftcoord_cluster.address) as client:
        yield client
