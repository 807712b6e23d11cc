"""The objects of raftcoord for asyncio. The same names without `aio` are their synchronous facades."""

from raftcoord.client.aio_claim import Claim
from raftcoord.client.aio_client import Client, get_client
from raftcoord.client.aio_event import Event
from raftcoord.client.aio_lock import Lock
from raftcoord.client.aio_multilock import MultiLock
from raftcoord.client.aio_queue import Queue
from raftcoord.client.aio_rlock import RLock
from raftcoord.client.aio_rwlock import RWLock, RWLockStatus
from raftcoord.client.aio_semaphore import Semaphore, SemaphoreStatus
from raftcoord.client.aio_topic import Pub, Sub, TopicStatus
from raftcoord.client.aio_variable import UNSET, Variable, Versioned
from raftcoord.client.client_info import ClientInfo
from raftcoord.client.states import ClientState

__all__ = [
    "UNSET",
    "Claim",
    "Client",
    "ClientInfo",
    "ClientState",
    "Event",
    "Lock",
    "MultiLock",
    "Pub",
    "Queue",
    "RLock",
    "RWLock",
    "RWLockStatus",
    "Semaphore",
    "SemaphoreStatus",
    "Sub",
    "TopicStatus",
    "Variable",
    "Versioned",
    "get_client",
]
