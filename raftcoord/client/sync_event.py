"""An event that all clients see."""

from __future__ import annotations

from typing import ClassVar

from raftcoord.client import aio_event
from raftcoord.client.handle import Handle
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_handle import SyncHandle
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.values import Name


class Event(SyncHandle[aio_event.Event]):
    """A flag that is clear until somebody sets it, and that any number of clients wait for.

    It outlives whoever set it. Who waits when it is set is woken, also if it is cleared at once.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
    """

    AIO: ClassVar[type[Handle]] = aio_event.Event

    def __init__(self, name: Name | None = None, client: Client | None = None) -> None:
        super().__init__(client, name=name)

    def wait(self, timeout: Timeout = None) -> bool:
        """Wait until the event is set; tell whether it was in time.

        Args:
            timeout: None waits for ever, 0 does not wait.

        Raises:
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        return self._client.run(self._aio.wait(timeout))

    def set(self, timeout: Timeout = None) -> bool:
        """Set the event; tell whether it was clear.

        Args:
            timeout: bound on the call; None takes the client's own.

        Raises:
            CallTimeout: not done in time, and certainly not done.
            OutcomeUnknown: sent, and not answered in time.
        """
        return self._client.run(self._aio.set(timeout))

    def clear(self, timeout: Timeout = None) -> bool:
        """Clear the event; tell whether it was set. Raises: as `set`."""
        return self._client.run(self._aio.clear(timeout))

    def is_set(self, timeout: Timeout = None) -> bool:
        """Tell whether the event is set."""
        return self._client.run(self._aio.is_set(timeout))
