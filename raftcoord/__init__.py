"""raftcoord: shared variables, queues and locks that survive the crash of any minority of their replicas.

The public names, and nothing else. `raftcoord.aio` has the same objects for asyncio.
"""

from typing import TYPE_CHECKING, Any

from raftcoord import aio
from raftcoord.client.aio_variable import UNSET, Versioned
from raftcoord.client.states import ClientState
from raftcoord.client.sync_client import Client, get_client
from raftcoord.client.sync_lock import Lock
from raftcoord.client.sync_queue import Queue
from raftcoord.client.sync_variable import Variable
from raftcoord.protocol.errors import (
    AuthenticationFailed,
    BadRequest,
    CallTimeout,
    ClientClosed,
    Conflict,
    Indeterminate,
    LimitReached,
    LockLost,
    NotApplied,
    NotConnected,
    NotHolder,
    NumberOverflow,
    OutcomeUnknown,
    Overloaded,
    QueueClosed,
    RaftcoordError,
    Rejected,
    SessionLost,
    UnsupportedVersion,
    ValueTooLarge,
    WrongType,
)
from raftcoord.version import __version__

if TYPE_CHECKING:
    from raftcoord.testing.local_cluster import LocalCluster

__all__ = [
    "UNSET",
    "AuthenticationFailed",
    "BadRequest",
    "CallTimeout",
    "Client",
    "ClientClosed",
    "ClientState",
    "Conflict",
    "Indeterminate",
    "LimitReached",
    "LocalCluster",
    "Lock",
    "LockLost",
    "NotApplied",
    "NotConnected",
    "NotHolder",
    "NumberOverflow",
    "OutcomeUnknown",
    "Overloaded",
    "Queue",
    "QueueClosed",
    "RaftcoordError",
    "Rejected",
    "SessionLost",
    "UnsupportedVersion",
    "ValueTooLarge",
    "Variable",
    "Versioned",
    "WrongType",
    "__version__",
    "aio",
    "get_client",
]


def __getattr__(name: str) -> Any:
    """Import `LocalCluster` when it is first asked for: only tests, demos and embedded clusters need it."""
    if name == "LocalCluster":
        from raftcoord.testing.local_cluster import LocalCluster

        return LocalCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
