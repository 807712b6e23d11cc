"""The coordination objects of `dask.distributed`, kept by raftcoord instead of the Dask scheduler.

    from raftcoord.dask import Variable, Queue, Lock, Event, Semaphore, MultiLock, Pub, Sub

They take the arguments and return the values of Dask's own, synchronously and under asynchronous clients, in
tasks and outside. What is kept in them outlives the scheduler. `RaftcoordPlugin` tells the workers where the
replicas are.
"""

from raftcoord.dask.event import Event
from raftcoord.dask.lock import Lock
from raftcoord.dask.multilock import MultiLock
from raftcoord.dask.plugin import RaftcoordPlugin
from raftcoord.dask.pub import Pub
from raftcoord.dask.queue import Queue
from raftcoord.dask.semaphore import Semaphore
from raftcoord.dask.sub import Sub
from raftcoord.dask.variable import Variable

__all__ = ["Event", "Lock", "MultiLock", "Pub", "Queue", "RaftcoordPlugin", "Semaphore", "Sub", "Variable"]
