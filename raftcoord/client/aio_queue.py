"""A queue shared by all clients, for asyncio."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from raftcoord.client.aio_claim import Claim
from raftcoord.client.aio_client import Client
from raftcoord.client.handle import Handle
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.errors import RaftcoordError, ValueTooLarge
from raftcoord.protocol.frames import FRAME_BYTES_MAX
from raftcoord.protocol.operations import (
    BATCH_ITEMS_MAX,
    DELIVERIES_MAX,
    DRAIN_BYTES_MAX,
    QUEUE_MAXSIZE_MAX,
    Operation,
)
from raftcoord.protocol.values import VALUE_BYTES_MAX, Name, pack_name, pack_value, unpack_value

_log = logging.getLogger(__name__)

_PUT: Final = int(Operation.QUEUE_PUT)
_GET: Final = int(Operation.QUEUE_GET)
_SIZE: Final = int(Operation.QUEUE_SIZE)
_CLOSE: Final = int(Operation.QUEUE_CLOSE)

_DRAIN: Final = -1
# Less than this, and one more item of the largest size would have fitted.
_DRAIN_BYTES_PART: Final = DRAIN_BYTES_MAX - VALUE_BYTES_MAX
_ENVELOPE_BYTES: Final = 64 * 1024  # sequence, acked, name and the lengths of the items
_ITEM_HEADER_BYTES: Final = 5


class Queue(Handle):
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

    KIND: ClassVar[str] = "queue"

    def __init__(
        self,
        name: Name | None = None,
        maxsize: int = 0,
        client: Client | None = None,
        *,
        deliveries_max: int = 0,
        dead_letter: Name | None = None,
    ) -> None:
        self._maxsize = check_maxsize(maxsize)
        self._limits = check_limits(deliveries_max, dead_letter)
        self._dead_letter = dead_letter
        super().__init__(name, client)
        if self._limits[1] == self._key:
            raise ValueError("a queue cannot be its own dead-letter queue")

    def _options(self) -> dict[str, Any]:
        return {
            **super()._options(),
            "maxsize": self._maxsize,
            "deliveries_max": self._limits[0],
            "dead_letter": self._dead_letter,
        }

    @property
    def _claim_limits(self) -> tuple[int, list[Any]]:
        return self._maxsize, self._limits

    @property
    def maxsize(self) -> int:
        return self._maxsize

    async def put(self, value: Any, timeout: Timeout = None) -> None:
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
        await self._wait(_PUT, timeout, self._maxsize, [pack_value(value)])

    async def put_many(self, values: Iterable[Any], timeout: Timeout = None) -> None:
        """Append several items, all or none, without anything in between. Otherwise like `put`.

        Raises:
            ValueTooLarge: more than 10 000 items, more than fit into the queue, or 8 MiB together.
        """
        blobs = pack_items(values, self._maxsize)
        if blobs:
            await self._wait(_PUT, timeout, self._maxsize, blobs)

    async def get(self, timeout: Timeout = None, batch: bool | int = False) -> Any:
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
        count = item_count(batch)
        if count == _DRAIN:
            return await self._drain(timeout)
        blobs = await self._wait(_GET, timeout, self._maxsize, count)
        if batch is False:
            return unpack_value(blobs[0])
        return [unpack_value(blob) for blob in blobs]

    async def _drain(self, timeout: Timeout) -> list[Any]:
        """Take what is there, in as many steps as it needs; each takes a bounded part."""
        deadline = self._deadline(timeout)
        items: list[Any] = []
        while True:
            try:
                blobs = await self._call(_GET, deadline.left_s(), self._maxsize, _DRAIN, False)
            except RaftcoordError as error:
                if not items:
                    raise
                _log.warning("drain_incomplete queue=%r items=%d error=%r", self._name, len(items), error)
                return items  # they are taken, and would be lost with an exception
            items += [unpack_value(blob) for blob in blobs]
            if len(blobs) < BATCH_ITEMS_MAX and sum(map(len, blobs)) < _DRAIN_BYTES_PART:
                return items

    def claim(self, timeout: Timeout = None, *, on_lost: Callable[[], object] | None = None) -> Claim:
        """Take the first item for as long as it is worked on: `async with queue.claim() as claim: …`.

        A block that ends normally acknowledges the item; one that ends by an exception puts it back at the
        head of the queue, and so does the end of the client's session. It may therefore be handed out more
        than once: see `Claim.deliveries`, and `deliveries_max`. `await queue.claim()` does without a block.

        Args:
            timeout: None waits for ever, 0 does not wait.
            on_lost: called, without arguments, when the claim is lost; it must not block.

        Raises, when it is awaited or entered:
            CallTimeout: there was no item for that long.
            QueueClosed: the queue was closed while the call waited.
        """
        return Claim(self._client, self._name, self._claim_limits, timeout, on_lost)

    async def qsize(self, timeout: Timeout = None) -> int:
        """Return how many items are in the queue."""
        size = await self._call(_SIZE, timeout)
        return int(size)

    async def close(self, timeout: Timeout = None) -> None:
        """Remove the queue with its items. Calls that wait on it end with `QueueClosed`.

        A later operation on the same name starts a new, empty queue.
        """
        await self._call(_CLOSE, timeout)


def check_maxsize(maxsize: int) -> int:
    """Return a queue's bound. Raises TypeError or ValueError."""
    if type(maxsize) is not int:
        raise TypeError(f"maxsize is an int, not {type(maxsize).__qualname__}")
    if not 0 <= maxsize <= QUEUE_MAXSIZE_MAX:
        raise ValueError(f"maxsize must be between 0 and {QUEUE_MAXSIZE_MAX}, not {maxsize}")
    return maxsize


def check_limits(deliveries_max: int, dead_letter: Name | None) -> list[Any]:
    """Return the wire form of what becomes of items that nobody acknowledges.

    Raises:
        TypeError, ValueError: it cannot be.
    """
    if type(deliveries_max) is not int:
        raise TypeError(f"deliveries_max is an int, not {type(deliveries_max).__qualname__}")
    if not 0 <= deliveries_max <= DELIVERIES_MAX:
        raise ValueError(f"deliveries_max must be between 0 and {DELIVERIES_MAX}, not {deliveries_max}")
    if dead_letter is not None and not deliveries_max:
        raise ValueError("a dead-letter queue needs deliveries_max")
    return [deliveries_max, b"" if dead_letter is None else pack_name(dead_letter)]


def item_count(batch: bool | int) -> int:
    """Return how many items a `get` asks for; -1 for what is there. Raises TypeError or ValueError."""
    if type(batch) is bool:
        return _DRAIN if batch else 1
    if type(batch) is not int:
        raise TypeError(f"batch is a bool or an int, not {type(batch).__qualname__}")
    if not 1 <= batch <= BATCH_ITEMS_MAX:
        raise ValueError(f"batch must be between 1 and {BATCH_ITEMS_MAX}, not {batch}")
    return batch


def pack_items(values: Iterable[Any], maxsize: int) -> list[bytes]:
    """Return the items of one put as blobs. Raises TypeError, or ValueTooLarge before anything is sent."""
    blobs: list[bytes] = []
    bytes_left = FRAME_BYTES_MAX - _ENVELOPE_BYTES
    items_max = min(maxsize or BATCH_ITEMS_MAX, BATCH_ITEMS_MAX)
    for value in values:
        blob = pack_value(value)
        bytes_left -= len(blob) + _ITEM_HEADER_BYTES
        if len(blobs) == items_max:
            raise ValueTooLarge(f"more than {items_max} items cannot be put at once")
        if bytes_left < 0:
            raise ValueTooLarge(f"the items are together over the limit of {FRAME_BYTES_MAX} bytes")
        blobs.append(blob)
    return blobs
