"""Fixtures of these tests; what they do is in `dask_world`."""

from dask_world import client, dask_cluster, name  # noqa: F401
