"""A queue shared by all clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from raftcoord.client import aio_queue
from raftcoord.client.handle import Handle
from raftcoord.client.sync_claim import Claim
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
        deliveries_max: how often `claim` hands out one item at most; 0 for no bound.
        dead_letter: name of the queue to which an item goes that was handed out so often and never
            acknowledged; None drops it.
    """

    AIO: ClassVar[type[Handle]] = aio_queue.Queue

    def __init__(
        self,
        name: Name | None = None,
        maxsize: int = 0,
        client: Client | None = None,
        *,
        deliveries_max: int = 0,
        dead_letter: Name | None = None,
    ) -> None:
        super().__init__(
            client, name=name, maxsize=maxsize, deliveries_max=deliveries_max, dead_letter=dead_letter
        )

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
                True: return a list of what is there now, without waiting; the timeout bounds the call, and
                None takes the client's own. More than 10 000 items or about 3 MiB are taken in several parts:
                when the time is over, the parts that came are returned; a call that is cancelled loses them.

        Raises:
            CallTimeout: there were too few items for that long; nothing is taken.
            QueueClosed: the queue was closed while the call waited.
        """
        return self._client.run(self._aio.get(timeout, batch))

    def claim(self, timeout: Timeout = None, *, on_lost: Callable[[], object] | None = None) -> Claim:
        """Take the first item for as long as it is worked on: `with queue.claim() as claim: …`.

        A block that ends normally acknowledges the item; one that ends by an exception puts it back at the
        head of the queue, and so does the end of the client's session. It may therefore be handed out more
        than once: see `Claim.deliveries`, and `deliveries_max`.

        Args:
            timeout: None waits for ever, 0 does not wait.
            on_lost: called, without arguments and on a thread of its own, when the claim is lost.

        Raises:
            CallTimeout: there was no item for that long.
            QueueClosed: the queue was closed while the call waited.
        """
        return Claim(self._client, self.name, self._aio._claim_limits, timeout, on_lost)

    def qsize(self, timeout: Timeout = None) -> int:
        """Return how many items are in the queue."""
        return self._client.run(self._aio.qsize(timeout))

    def close(self, timeout: Timeout = None) -> None:
        """Remove the queue with its items. Calls that wait on it end with `QueueClosed`.

        A later operation on the same name starts a new, empty queue.
        """
        self._client.run(self._aio.close(timeout))
