"""A lock that many readers or one writer hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import ClassVar

from raftcoord.client import aio_rwlock
from raftcoord.client.aio_rwlock import RWLockStatus
from raftcoord.client.handle import Handle
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_lease_handle import SyncLeaseHandle
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.values import Name


class RWLock(SyncLeaseHandle[aio_rwlock.RWLock]):
    """A lock that any number of readers hold together, or one writer alone.

    It is fair: who asks first is served first, and readers that stand next to each other in the line are
    served together, so that neither side starves. Not re-entrant: a thread that reads and asks for writing,
    or for reading while a writer waits, waits for itself. A handle may be used by many threads at a time.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments and on a thread of its own, when the lock is lost while it is held.
    """

    AIO: ClassVar[type[Handle]] = aio_rwlock.RWLock

    def __init__(
        self,
        name: Name | None = None,
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(client, on_lost, name=name)

    def acquire_read(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock together with other readers; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.

        Raises:
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        return self._client.run(self._aio.acquire_read(blocking, timeout))

    def acquire_write(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock alone; otherwise like `acquire_read`."""
        return self._client.run(self._aio.acquire_write(blocking, timeout))

    def release(self, timeout: Timeout = None) -> None:
        """Give back what this thread acquired last, for reading or for writing.

        Raises:
            NotHolder: this thread does not hold the lock through this handle.
            LockLost: it held it, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time; it is repeated in the background.
        """
        self._client.run(self._aio.release(timeout))

    def read(self, timeout: Timeout = None) -> AbstractContextManager[RWLock]:
        """Return what holds the lock for reading during a block.

        Args:
            timeout: how long to wait for it.

        Raises:
            CallTimeout: on entering: it was not to be had in time.
            LockLost: at the end of the block: it was lost inside.
        """
        return self._block(True, timeout)

    def write(self, timeout: Timeout = None) -> AbstractContextManager[RWLock]:
        """Return what holds the lock for writing during a block; otherwise like `read`."""
        return self._block(False, timeout)

    def locked(self, timeout: Timeout = None) -> bool:
        """Tell whether anybody holds the lock, for reading or for writing."""
        return self._client.run(self._aio.locked(timeout))

    def status(self, timeout: Timeout = None) -> RWLockStatus:
        """Return how many hold the lock, and how many wait for it."""
        return self._client.run(self._aio.status(timeout))

    @contextlib.contextmanager
    def _block(self, shared: bool, timeout: Timeout) -> Iterator[RWLock]:
        hold = self._client.run(self._aio._enter(shared, timeout))
        try:
            yield self
        except BaseException as error:
            self._client.run(self._aio._leave(hold, error))
            raise
        self._client.run(self._aio._leave(hold, None))
