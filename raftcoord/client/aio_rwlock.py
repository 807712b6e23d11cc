"""A lock that many readers or one writer hold, for asyncio."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Final, NamedTuple

from raftcoord.client.lease_handle import Guard, LeaseHandle
from raftcoord.client.leases import Hold
from raftcoord.client.ownership import for_its_caller
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.errors import CallTimeout
from raftcoord.protocol.operations import Operation

_ACQUIRE: Final = int(Operation.RWLOCK_ACQUIRE)
_RELEASE: Final = int(Operation.RWLOCK_RELEASE)
_STATUS: Final = int(Operation.RWLOCK_STATUS)


class RWLockStatus(NamedTuple):
    """How an RWLock is held by all clients together: at most one of the first two is not 0."""

    writers: int
    readers: int
    waiting: int


class RWLock(LeaseHandle):
    """A lock that any number of readers hold together, or one writer alone.

    It is fair: who asks first is served first, and readers that stand next to each other in the line are
    served together, so that neither side starves. Not re-entrant: a task that reads and asks for writing, or
    for reading while a writer waits, waits for itself. A handle may be used by many tasks at a time.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments, when the lock is lost while it is held; it must not block.
    """

    KIND: ClassVar[str] = "rwlock"

    @for_its_caller
    async def acquire_read(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock together with other readers; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.

        Raises:
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        return await self._acquire(True, blocking, timeout) is not None

    @for_its_caller
    async def acquire_write(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock alone; otherwise like `acquire_read`."""
        return await self._acquire(False, blocking, timeout) is not None

    @for_its_caller
    async def release(self, timeout: Timeout = None) -> None:
        """Give back what this task acquired last, for reading or for writing.

        Raises:
            NotHolder: this task does not hold the lock through this handle.
            LockLost: it held it, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time; it is repeated in the background.
        """
        await self._release(None, timeout)

    def read(self, timeout: Timeout = None) -> AbstractAsyncContextManager[RWLock]:
        """Return what holds the lock for reading during a block.

        Args:
            timeout: how long to wait for it.

        Raises:
            CallTimeout: on entering: it was not to be had in time.
            LockLost: at the end of the block: it was lost inside.
        """
        return self._block(True, timeout)

    def write(self, timeout: Timeout = None) -> AbstractAsyncContextManager[RWLock]:
        """Return what holds the lock for writing during a block; otherwise like `read`."""
        return self._block(False, timeout)

    def guard_read(self, timeout: Timeout = None) -> Guard[RWLock]:
        """Like `read`, for a block that is to stop as soon as the lock is lost.

        The task inside the block is cancelled at the moment of the loss; the block then raises `LockLost`.
        """
        return Guard(self, lambda: self._enter(True, timeout))

    def guard_write(self, timeout: Timeout = None) -> Guard[RWLock]:
        """Like `write`, for a block that is to stop as soon as the lock is lost; see `guard_read`."""
        return Guard(self, lambda: self._enter(False, timeout))

    async def locked(self, timeout: Timeout = None) -> bool:
        """Tell whether anybody holds the lock, for reading or for writing."""
        status = await self.status(timeout)
        return status.writers + status.readers > 0

    async def status(self, timeout: Timeout = None) -> RWLockStatus:
        """Return how many hold the lock, and how many wait for it."""
        status = await self._call(_STATUS, timeout)
        if status is None:
            return RWLockStatus(0, 0, 0)
        writer, readers, waiting = status
        return RWLockStatus(int(writer is not None), len(readers), waiting)

    @contextlib.asynccontextmanager
    async def _block(self, shared: bool, timeout: Timeout) -> AsyncIterator[RWLock]:
        hold = await self._enter(shared, timeout)
        try:
            yield self
        except BaseException as error:
            await self._leave(hold, error)
            raise
        await self._leave(hold, None)

    async def _enter(self, shared: bool, timeout: Timeout) -> Hold:
        hold = await self._acquire(shared, True, timeout)
        if hold is None:
            raise CallTimeout(f"{self._what}: it was not to be had in time")
        return hold

    async def _acquire(self, shared: bool, blocking: bool, timeout: Timeout) -> Hold | None:
        fence = await self._ask(_ACQUIRE, (self._key, shared), blocking, timeout)
        return None if fence is None else self._remember(fence)

    async def _release(self, hold: Hold | None, timeout: Timeout) -> None:
        await self._give_back(hold, _RELEASE, (self._key,), timeout)
