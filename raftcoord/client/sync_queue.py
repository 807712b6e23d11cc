"""A queue shared by all clients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from raftcoord.client import aio_queue
from raftcoord.client.handle import Handle
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_handle import SyncHandle
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.values import Name


class Queue(SyncHandle[aio_queue.Queue]):
    """A first-in-first-out queue. Each item is handed to one getter, and getters are served in turn.

    An item that was handed to a client which died before it could confirm it returns to the head.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        maxsize: how many items fit; 0 for no bound. The first operation on a queue decides.
        client: the client to use; None takes the current one.
    """

    AIO: ClassVar[type[Handle]] = aio_queue.Queue

    def __init__(self, name: Name | None = None, maxsize: int = 0, client: Client | None = None) -> None:
        super().__init__(name, client, maxsize=maxsize)

    def _options(self) -> dict[str, Any]:
        return {"maxsize": self.maxsize}

    @property
    def maxsize(self) -> int:
        return self._aio.maxsize

    def put(self, value: Any, timeout: Timeout = None) -> None:
        """Append an item; wait while the queue is full.

        Args:
            timeout: None waits for ever, 0 does not wait.

        Raises:
            TypeError: a value of this type cannot be stored.
            ValueTooLarge: it is over 1 MiB.
            CallTimeout: the queue was full for that long; the item is not in it.
            OutcomeUnknown: sent, and nobody answered; the item may be in the queue.
            QueueClosed: the queue was closed while the call waited.
        """
        self._client.run(self._aio.put(value, timeout))

    def put_many(self, values: Iterable[Any], timeout: Timeout = None) -> None:
        """Append several items, all or none, without anything in between. Otherwise like `put`.

        Raises:
            ValueTooLarge: more than 10 000 items, more than fit into the queue, or 8 MiB together.
        """
        # Drawn here: an iterable of the user's may block, and must not run on the loop thread.
        self._client.run(self._aio.put_many(list(values), timeout))

    def get(self, timeout: Timeout = None, batch: bool | int = False) -> Any:
        """Take the first item; wait until there is one.

        Args:
            timeout: None waits for ever, 0 does not wait.
            batch: False for one item. A number n: wait until n items are there, return them as a list.
                True: return a list of what is there now, without waiting.

        Raises:
            CallTimeout: there were too few items for that long; nothing is taken.
            QueueClosed: the queue was closed while the call waited.
        """
        return self._client.run(self._aio.get(timeout, batch))

    def qsize(self, timeout: Timeout = None) -> int:
        """Return how many items are in the queue."""
        return self._client.run(self._aio.qsize(timeout))

    def close(self, timeout: Timeout = None) -> None:
        """Remove the queue with its items. Calls that wait on it end with `QueueClosed`.

        A later operation on the same name starts a new, empty queue.
        """
        self._client.run(self._aio.close(timeout))
