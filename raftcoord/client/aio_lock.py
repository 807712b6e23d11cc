"""A lock among all clients, for asyncio."""

from __future__ import annotations

from typing import ClassVar, Final

from raftcoord.client.client_info import ClientInfo, client_infos
from raftcoord.client.lease_handle import LeaseBlock
from raftcoord.client.leases import Hold
from raftcoord.client.ownership import current_owner, for_its_caller
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.operations import Operation

_ACQUIRE: Final = int(Operation.LOCK_ACQUIRE)
_RELEASE: Final = int(Operation.LOCK_RELEASE)
_STATUS: Final = int(Operation.LOCK_STATUS)
_WAITERS: Final = int(Operation.LOCK_WAITERS)


class Lock(LeaseBlock):
    """A lock that one client at a time holds. Waiters are served in the order of their calls.

    The lock is tied to the client's session: when the client dies or is cut off for longer than the
    session's time to live, the lock passes on, and this side knows of it no later (`on_lost`, `LockLost`).
    Not re-entrant (see `RLock`), and handles of one client exclude each other like those of different ones.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments, when the lock is lost while it is held; it must not block.
    """

    KIND: ClassVar[str] = "lock"

    @for_its_caller
    async def acquire(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.

        Raises:
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        fence = await self._ask(_ACQUIRE, (self._key,), blocking, timeout)
        if fence is None:
            return False
        self._holdings.forget_lost(current_owner())
        self._remember(fence)
        return True

    @for_its_caller
    async def release(self, timeout: Timeout = None) -> None:
        """Give the lock up. Once this is called the handle does not hold the lock any more; a release that
        is not answered in time is repeated in the background.

        Raises:
            NotHolder: this task does not hold the lock through this handle.
            LockLost: it held it, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time.
        """
        await self._release(None, timeout)

    async def locked(self, timeout: Timeout = None) -> bool:
        """Tell whether anybody holds the lock."""
        return await self._call(_STATUS, timeout) is not None

    async def holder(self, timeout: Timeout = None) -> ClientInfo | None:
        """Return who holds the lock; None when nobody does."""
        deadline = self._deadline(timeout)
        status = await self._call(_STATUS, deadline.left_s())
        if status is None:
            return None
        return (await client_infos(self._client, status[:1], deadline))[0]

    async def waiters(self, timeout: Timeout = None) -> list[ClientInfo]:
        """Return who waits for the lock, the next one first; a client comes once for each call that waits."""
        deadline = self._deadline(timeout)
        return await client_infos(self._client, await self._call(_WAITERS, deadline.left_s()), deadline)

    async def _acquire_until(self, timeout: Timeout) -> bool:
        return await self.acquire(timeout=timeout)

    async def _release(self, hold: Hold | None, timeout: Timeout) -> None:
        await self._give_back(hold, _RELEASE, (self._key,), timeout)

    @property
    def _hold(self) -> Hold | None:
        """The last grant that was not given back, for those who watch a handle from outside."""
        return next(reversed(tuple(self._holdings)), None)
