"""For tests, demos and embedding: a whole cluster of real processes, and pytest fixtures.

Nothing is imported before it is used, since the pytest plugin is loaded in every pytest run of a user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raftcoord.testing.local_cluster import LocalCluster, LocalClusterError

__all__ = ["LocalCluster", "LocalClusterError"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from raftcoord.testing import local_cluster

    return getattr(local_cluster, name)
