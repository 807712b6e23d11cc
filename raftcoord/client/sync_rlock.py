"""A re-entrant lock among all clients."""

from __future__ import annotations

from typing import ClassVar

from raftcoord.client import aio_rlock
from raftcoord.client.handle import Handle
from raftcoord.client.ownership import on_behalf_of_this_thread
from raftcoord.client.sync_lock import Lock
from raftcoord.client.timeouts import Timeout


class RLock(Lock):
    """A lock that the thread which holds it may acquire again; it is free after as many releases.

    In the store it is one lock, the same that a `Lock` of this name is. The inner levels ask nobody. It is
    re-entrant through one handle and in one thread; other threads, and other handles, wait.

    When it is lost, each level raises `LockLost`: an inner acquire too, so that no block begins without it.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments and on a thread of its own, when the lock is lost while it is held.
    """

    AIO: ClassVar[type[Handle]] = aio_rlock.RLock

    def acquire(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock, or go one level deeper when this thread has it; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.

        Raises:
            LockLost: this thread has it on an outer level, and lost it.
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        return super().acquire(blocking, timeout)

    def release(self, timeout: Timeout = None) -> None:
        """Go one level up; on the outermost one, give the lock up as `Lock.release` does.

        Raises:
            NotHolder: this thread does not hold the lock through this handle.
            LockLost: it held it, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time.
        """
        super().release(timeout)

    @property
    def fence(self) -> int:
        """The number of the grant, the same on all levels: larger than that of every earlier holder.

        Raises:
            NotHolder: this thread does not hold the lock through this handle.
            LockLost: it did, and lost it.
        """
        with on_behalf_of_this_thread():
            return self._aio.fence
