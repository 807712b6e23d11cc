"""A semaphore among all clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from raftcoord.client import aio_semaphore
from raftcoord.client.aio_semaphore import SemaphoreStatus
from raftcoord.client.handle import Handle
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_lease_handle import SyncLeaseBlock
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.values import Name


class Semaphore(SyncLeaseBlock[aio_semaphore.Semaphore]):
    """A semaphore of which at most `max_leases` leases are held at a time, by all clients together.

    It is never overbooked: a lease is tied to the client's session, and when that is lost, this side knows of
    it (`on_lost`, `LockLost`) no later than the replicas hand it on. A handle may hold several leases. Those
    who wait are served in the order of their calls.

    Args:
        max_leases: how many leases there are. The first acquire decides, and others must agree with it.
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments and on a thread of its own, when leases are lost while they are
            held.
    """

    AIO: ClassVar[type[Handle]] = aio_semaphore.Semaphore

    def __init__(
        self,
        max_leases: int = 1,
        name: Name | None = None,
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(client, on_lost, max_leases=max_leases, name=name)

    @property
    def max_leases(self) -> int:
        return self._aio.max_leases

    def acquire(self, timeout: Timeout = None) -> bool:
        """Take a lease; tell whether that worked.

        Args:
            timeout: None waits for ever, 0 does not wait.

        Raises:
            InconsistentMaxLeases: the semaphore exists with another `max_leases` (a ValueError).
            SemaphoreClosed: this handle closed it, or it was closed while the call waited (a RuntimeError).
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        return self._client.run(self._aio.acquire(timeout))

    def release(self, timeout: Timeout = None) -> bool:
        """Give back a lease, of several the one that this thread took last.

        Returns:
            Whether that was answered in time. If not, it is repeated in the background; it must not be called
            again for the same lease.

        Raises:
            NotHolder: this thread holds no lease through this handle (a RuntimeError).
            LockLost: it held one, and lost it; somebody else may have it.
            SemaphoreClosed: somebody else closed the semaphore meanwhile.
        """
        return self._client.run(self._aio.release(timeout))

    def get_value(self, timeout: Timeout = None) -> int:
        """Return how many leases are held, by all clients together."""
        return self._client.run(self._aio.get_value(timeout))

    def status(self, timeout: Timeout = None) -> SemaphoreStatus | None:
        """Return how the semaphore stands; None before its first acquire, and once it is closed."""
        return self._client.run(self._aio.status(timeout))

    def close(self, timeout: Timeout = None) -> None:
        """Remove the semaphore. Its leases are void, and calls that wait for one end with `SemaphoreClosed`.

        This handle, and those that were told, are not used any more; a new handle of the same name starts a
        new semaphore.
        """
        self._client.run(self._aio.close(timeout))
