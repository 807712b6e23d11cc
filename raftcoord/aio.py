"""The objects of raftcoord for asyncio. The same names without `aio` are their synchronous facades."""

from raftcoord.client.aio_client import Client, get_client
from raftcoord.client.aio_lock import Lock
from raftcoord.client.aio_queue import Queue
from raftcoord.client.aio_variable import UNSET, Variable, Versioned
from raftcoord.client.states import ClientState

__all__ = ["UNSET", "Client", "ClientState", "Lock", "Queue", "Variable", "Versioned", "get_client"]
