"""raftcoord: shared variables, queues, locks … that survive the crash of any minority of their replicas.

The public names, and nothing else. `raftcoord.aio` has the same objects for asyncio.

What needs more than the standard library is imported when it is first asked for: every pytest run of a user
imports this package, because it brings a plugin.
"""

import importlib
from typing import TYPE_CHECKING, Any

from raftcoord.client.errors import InconsistentMaxLeases, SemaphoreClosed, TopicDeleted
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
    from raftcoord import aio
    from raftcoord.client.aio_rwlock import RWLockStatus
    from raftcoord.client.aio_semaphore import SemaphoreStatus
    from raftcoord.client.aio_topic import TopicStatus
    from raftcoord.client.aio_variable import UNSET, Versioned
    from raftcoord.client.client_info import ClientInfo
    from raftcoord.client.states import ClientState
    from raftcoord.client.sync_claim import Claim
    from raftcoord.client.sync_client import Client, get_client
    from raftcoord.client.sync_event import Event
    from raftcoord.client.sync_lock import Lock
    from raftcoord.client.sync_multilock import MultiLock
    from raftcoord.client.sync_queue import Queue
    from raftcoord.client.sync_rlock import RLock
    from raftcoord.client.sync_rwlock import RWLock
    from raftcoord.client.sync_semaphore import Semaphore
    from raftcoord.client.sync_topic import Pub, Sub
    from raftcoord.client.sync_variable import Variable
    from raftcoord.testing.local_cluster import LocalCluster

__all__ = [
    "UNSET",
    "AuthenticationFailed",
    "BadRequest",
    "CallTimeout",
    "Claim",
    "Client",
    "ClientClosed",
    "ClientInfo",
    "ClientState",
    "Conflict",
    "Event",
    "InconsistentMaxLeases",
    "Indeterminate",
    "LimitReached",
    "LocalCluster",
    "Lock",
    "LockLost",
    "MultiLock",
    "NotApplied",
    "NotConnected",
    "NotHolder",
    "NumberOverflow",
    "OutcomeUnknown",
    "Overloaded",
    "Pub",
    "Queue",
    "QueueClosed",
    "RLock",
    "RWLock",
    "RWLockStatus",
    "RaftcoordError",
    "Rejected",
    "Semaphore",
    "SemaphoreClosed",
    "SemaphoreStatus",
    "SessionLost",
    "Sub",
    "TopicDeleted",
    "TopicStatus",
    "UnsupportedVersion",
    "ValueTooLarge",
    "Variable",
    "Versioned",
    "WrongType",
    "__version__",
    "aio",
    "get_client",
]


_HOMES = {
    "Claim": "client.sync_claim",
    "Client": "client.sync_client",
    "ClientInfo": "client.client_info",
    "ClientState": "client.states",
    "Event": "client.sync_event",
    "LocalCluster": "testing.local_cluster",
    "Lock": "client.sync_lock",
    "MultiLock": "client.sync_multilock",
    "Pub": "client.sync_topic",
    "Queue": "client.sync_queue",
    "RLock": "client.sync_rlock",
    "RWLock": "client.sync_rwlock",
    "RWLockStatus": "client.aio_rwlock",
    "Semaphore": "client.sync_semaphore",
    "SemaphoreStatus": "client.aio_semaphore",
    "Sub": "client.sync_topic",
    "TopicStatus": "client.aio_topic",
    "UNSET": "client.aio_variable",
    "Variable": "client.sync_variable",
    "Versioned": "client.aio_variable",
    "get_client": "client.sync_client",
}


if not TYPE_CHECKING:  # a checker would take any name for one of these

    def __getattr__(name: str) -> Any:
        """Import a public name from its home, once."""
        if name == "aio":
            return importlib.import_module("raftcoord.aio")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"raftcoord.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
