"""An event that all clients see, for asyncio."""

from __future__ import annotations

from typing import ClassVar, Final

from raftcoord.client.handle import Handle
from raftcoord.client.timeouts import Timeout, parse_timeout
from raftcoord.protocol.errors import CallTimeout, SessionLost
from raftcoord.protocol.operations import Operation

_SET: Final = int(Operation.EVENT_SET)
_CLEAR: Final = int(Operation.EVENT_CLEAR)
_WAIT: Final = int(Operation.EVENT_WAIT)
_IS_SET: Final = int(Operation.EVENT_IS_SET)


class Event(Handle):
    """A flag that is clear until somebody sets it, and that any number of clients wait for.

    It outlives whoever set it. Who waits when it is set is woken, also if it is cleared at once.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
    """

    KIND: ClassVar[str] = "event"

    async def wait(self, timeout: Timeout = None) -> bool:
        """Wait until the event is set; tell whether it was in time.

        Args:
            timeout: None waits for ever, 0 does not wait.

        Raises:
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        if parse_timeout(timeout) == 0:
            return await self.is_set()
        deadline = self._deadline(timeout)
        while True:
            try:
                await self._wait(_WAIT, deadline.left_s())
            except CallTimeout:
                return False
            except SessionLost:
                if self._client.closed:
                    raise
                continue  # waiting takes nothing, so it simply goes on in the next session
            return True

    async def set(self, timeout: Timeout = None) -> bool:
        """Set the event; tell whether it was clear.

        Args:
            timeout: bound on the call; None takes the client's own.

        Raises:
            CallTimeout: not done in time, and certainly not done.
            OutcomeUnknown: sent, and not answered in time.
        """
        was_clear = await self._call(_SET, timeout)
        return bool(was_clear)

    async def clear(self, timeout: Timeout = None) -> bool:
        """Clear the event; tell whether it was set. Raises: as `set`."""
        was_set = await self._call(_CLEAR, timeout)
        return bool(was_set)

    async def is_set(self, timeout: Timeout = None) -> bool:
        """Tell whether the event is set."""
        is_set = await self._call(_IS_SET, timeout)
        return bool(is_set)
