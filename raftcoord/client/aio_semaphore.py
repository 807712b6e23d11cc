"""A semaphore among all clients, for asyncio."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, ClassVar, Final, NamedTuple

from raftcoord.client.aio_client import Client
from raftcoord.client.errors import InconsistentMaxLeases, SemaphoreClosed
from raftcoord.client.handle import Errors
from raftcoord.client.lease_handle import LeaseBlock
from raftcoord.client.leases import Hold
from raftcoord.client.ownership import for_its_caller
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.errors import Code, LockLost, NotHolder, OutcomeUnknown
from raftcoord.protocol.operations import LEASES_MAX, Operation
from raftcoord.protocol.values import Name

_ACQUIRE: Final = int(Operation.SEMAPHORE_ACQUIRE)
_RELEASE: Final = int(Operation.SEMAPHORE_RELEASE)
_STATUS: Final = int(Operation.SEMAPHORE_STATUS)
_CLOSE: Final = int(Operation.SEMAPHORE_CLOSE)


class SemaphoreStatus(NamedTuple):
    """How many leases there are, how many of them are held, and how many calls wait for one."""

    max_leases: int
    leases: int
    waiting: int


class Semaphore(LeaseBlock):
    """A semaphore of which at most `max_leases` leases are held at a time, by all clients together.

    It is never overbooked: a lease is tied to the client's session, and when that is lost, this side knows of
    it (`on_lost`, `LockLost`) no later than the replicas hand it on. A handle may hold several leases. Those
    who wait are served in the order of their calls.

    Args:
        max_leases: how many leases there are. The first acquire decides, and others must agree with it.
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments, when leases are lost while they are held; it must not block.
    """

    KIND: ClassVar[str] = "semaphore"
    ERRORS: ClassVar[Errors] = {
        Code.CONFLICT: (InconsistentMaxLeases, "it exists with another max_leases"),
        Code.CLOSED: (SemaphoreClosed, "it was closed"),
        Code.NOT_HOLDER: (SemaphoreClosed, "it was closed, and its leases are void"),
    }

    def __init__(
        self,
        max_leases: int = 1,
        name: Name | None = None,
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        self._max_leases = check_max_leases(max_leases)
        super().__init__(name, client, on_lost=on_lost)
        self._is_closed = False
        self._closes_under_way = 0

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "max_leases": self._max_leases}

    @property
    def max_leases(self) -> int:
        return self._max_leases

    @for_its_caller
    async def acquire(self, timeout: Timeout = None) -> bool:
        """Take a lease; tell whether that worked.

        Args:
            timeout: None waits for ever, 0 does not wait.

        Raises:
            InconsistentMaxLeases: the semaphore exists with another `max_leases` (a ValueError).
            SemaphoreClosed: this handle closed it, or it was closed while the call waited (a RuntimeError).
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        if self._is_over:
            raise SemaphoreClosed(f"{self._what} is closed")
        try:
            fence = await self._ask(_ACQUIRE, (self._key, self._max_leases), True, timeout)
        except SemaphoreClosed:
            self._is_closed = True
            raise
        if fence is None:
            return False
        hold = self._remember(fence)
        if self._is_closed:
            # It may be a lease of a new semaphore: sent before the close, and taken in after it.
            with contextlib.suppress(OutcomeUnknown, LockLost):
                await self._release(hold, None)
            raise SemaphoreClosed(f"{self._what} is closed")
        return True

    @for_its_caller
    async def release(self, timeout: Timeout = None) -> bool:
        """Give back a lease, of several the one that this task took last.

        Returns:
            Whether that was answered in time. If not, it is repeated in the background; it must not be called
            again for the same lease.

        Raises:
            NotHolder: this task holds no lease through this handle (a RuntimeError).
            LockLost: it held one, and lost it; somebody else may have it.
            SemaphoreClosed: somebody else closed the semaphore meanwhile.
        """
        try:
            await self._release(None, timeout)
        except OutcomeUnknown:
            return False
        return True

    async def get_value(self, timeout: Timeout = None) -> int:
        """Return how many leases are held, by all clients together."""
        status = await self.status(timeout)
        return 0 if status is None else status.leases

    async def status(self, timeout: Timeout = None) -> SemaphoreStatus | None:
        """Return how the semaphore stands; None before its first acquire, and once it is closed."""
        status = await self._call(_STATUS, timeout)
        return None if status is None else SemaphoreStatus(*status)

    async def close(self, timeout: Timeout = None) -> None:
        """Remove the semaphore. Its leases are void, and calls that wait for one end with `SemaphoreClosed`.

        This handle, and those that were told, are not used any more; a new handle of the same name starts a
        new semaphore.
        """
        self._closes_under_way += 1  # nothing may be acquired that this close does not know of
        try:
            await self._call(_CLOSE, timeout)
            self._is_closed = True
            self._holdings.forget_all()
        finally:
            self._closes_under_way -= 1

    @property
    def _is_over(self) -> bool:
        return self._is_closed or self._closes_under_way > 0

    async def _acquire_until(self, timeout: Timeout) -> bool:
        return await self.acquire(timeout)

    async def _release(self, hold: Hold | None, timeout: Timeout) -> None:
        try:
            await self._give_back(hold, _RELEASE, (self._key,), timeout)
        except NotHolder:
            if not self._is_closed:
                raise
        except SemaphoreClosed:
            if not self._is_over:
                self._is_closed = True
                raise


def check_max_leases(max_leases: int) -> int:
    """Return a semaphore's bound. Raises TypeError or ValueError."""
    if type(max_leases) is not int:
        raise TypeError(f"max_leases is an int, not {type(max_leases).__qualname__}")
    if not 1 <= max_leases <= LEASES_MAX:
        raise ValueError(f"max_leases must be between 1 and {LEASES_MAX}, not {max_leases}")
    return max_leases
