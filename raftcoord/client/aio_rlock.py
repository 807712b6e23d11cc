"""A re-entrant lock among all clients, for asyncio."""

from __future__ import annotations

from collections.abc import Callable

from raftcoord.client.aio_client import Client
from raftcoord.client.aio_lock import Lock
from raftcoord.client.leases import Hold
from raftcoord.client.ownership import current_owner, for_its_caller
from raftcoord.client.timeouts import Timeout, parse_timeout
from raftcoord.protocol.errors import NotHolder
from raftcoord.protocol.values import Name


class RLock(Lock):
    """A lock that the task which holds it may acquire again; it is free after as many releases.

    In the store it is one lock, the same that a `Lock` of this name is. The inner levels ask nobody. It is
    re-entrant through one handle and in one task (in the synchronous flavour: thread); other tasks, and
    other handles, wait.

    When it is lost, each level raises `LockLost`: an inner acquire too, so that no block begins without it.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments, when the lock is lost while it is held; it must not block.
    """

    def __init__(
        self,
        name: Name | None = None,
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(name, client, on_lost=on_lost)
        self._depth_by_hold: dict[Hold, int] = {}

    @for_its_caller
    async def acquire(self, blocking: bool = True, timeout: Timeout = None) -> bool:
        """Take the lock, or go one level deeper when this task has it; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.

        Raises:
            LockLost: this task has it on an outer level, and lost it.
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        hold = self._holdings.newest_of(current_owner())
        if hold is None:
            if not await super().acquire(blocking, timeout):
                return False
            hold = self._own_hold()
            self._depth_by_hold = {
                known: depth for known, depth in self._depth_by_hold.items() if known in self._holdings
            }
        elif not hold.is_alive():
            raise self._holdings.lost_error(hold)
        self._depth_by_hold[hold] = self._depth_by_hold.get(hold, 0) + 1
        return True

    @for_its_caller
    async def release(self, timeout: Timeout = None) -> None:
        """Go one level up; on the outermost one, give the lock up as `Lock.release` does.

        Raises:
            NotHolder: this task does not hold the lock through this handle.
            LockLost: it held it, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time.
        """
        await self._release(None, timeout)

    @property
    def fence(self) -> int:
        """The number of the grant, the same on all levels: larger than that of every earlier holder.

        Raises:
            NotHolder: this task does not hold the lock through this handle.
            LockLost: it did, and lost it.
        """
        hold = self._own_hold()
        if not hold.is_alive():
            raise self._holdings.lost_error(hold)
        return hold.fence

    async def _release(self, hold: Hold | None, timeout: Timeout) -> None:
        parse_timeout(timeout)  # a wrong one must not cost a level
        hold = self._own_hold()
        depth = self._depth_by_hold.pop(hold) - 1
        if depth == 0:
            await super()._release(hold, timeout)
            return
        self._depth_by_hold[hold] = depth
        if not hold.is_alive():
            raise self._holdings.lost_error(hold)

    def _own_hold(self) -> Hold:
        hold = self._holdings.newest_of(current_owner())
        if hold is None:
            raise NotHolder(f"{self._what} is not held by this task or thread through this handle")
        return hold
