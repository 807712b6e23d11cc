"""A lock among all clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from raftcoord.client import aio_lock
from raftcoord.client.client_info import ClientInfo
from raftcoord.client.handle import Handle
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_lease_handle import SyncLeaseBlock
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.values import Name


class Lock(SyncLeaseBlock[aio_lock.Lock]):
    """A lock that one client at a time holds. Waiters are served in the order of their calls.

    The lock is tied to the client's session: when the client dies or is cut off for longer than the
    session's time to live, the lock passes on, and this side knows of it no later (`on_lost`, `LockLost`).
    Not re-entrant (see `RLock`), and handles of one client exclude each other like those of different ones.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments and on a thread of its own, when the lock is lost while it is held.
    """

    AIO: ClassVar[type[Handle]] = aio_lock.Lock

    def __init__(
        self,
        name: Name | None = None,
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(client, on_lost, name=name)

    def acquire(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.

        Raises:
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        return self._client.run(self._aio.acquire(blocking, timeout))

    def release(self, timeout: Timeout = None) -> None:
        """Give the lock up. Once this is called the handle does not hold the lock any more; a release that
        is not answered in time is repeated in the background.

        Raises:
            NotHolder: this thread does not hold the lock through this handle.
            LockLost: it held it, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time.
        """
        self._client.run(self._aio.release(timeout))

    def locked(self, timeout: Timeout = None) -> bool:
        """Tell whether anybody holds the lock."""
        return self._client.run(self._aio.locked(timeout))

    def holder(self, timeout: Timeout = None) -> ClientInfo | None:
        """Return who holds the lock; None when nobody does."""
        return self._client.run(self._aio.holder(timeout))

    def waiters(self, timeout: Timeout = None) -> list[ClientInfo]:
        """Return who waits for the lock, the next one first; a client comes once for each call that waits."""
        return self._client.run(self._aio.waiters(timeout))
