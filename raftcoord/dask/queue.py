"""Dask's Queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, Final, TypeAlias

from distributed import Client, Future

from raftcoord import aio
from raftcoord.client.aio_queue import check_maxsize, item_count
from raftcoord.client.hand_over import handed_over_by
from raftcoord.client.sync_client import Client as StoreClient
from raftcoord.client.timeouts import Timeout
from raftcoord.dask import bridge, futures
from raftcoord.dask.handle import DaskHandle
from raftcoord.dask.names import seconds, shorter
from raftcoord.dask.records import Record, decode, encode
from raftcoord.protocol.operations import BATCH_ITEMS_MAX, DRAIN_BYTES_MAX, Operation
from raftcoord.protocol.values import VALUE_BYTES_MAX

_GET: Final = int(Operation.QUEUE_GET)
_PUT: Final = int(Operation.QUEUE_PUT)
_DRAIN: Final = -1
# Less than this, and one more item of the largest size would have fitted.
_DRAIN_BYTES_PART: Final = DRAIN_BYTES_MAX - VALUE_BYTES_MAX

_Take: TypeAlias = Callable[[], Coroutine[Any, Any, list[bytes]]]
_Check: TypeAlias = Callable[[list[bytes]], None]


class StoredQueue(aio.Queue):
    """A queue of blobs."""

    _removing: asyncio.Task[Any] | None = None  # which may not have been awaited, as in Dask

    async def put_blob(self, blob: bytes, timeout_s: float | None) -> None:
        await self._wait(_PUT, timeout_s, self._maxsize, [blob])

    async def take(self, count: int, timeout_s: float | None) -> list[bytes]:
        """Take items, all or none; for `_DRAIN` what is there, up to a bound."""
        blobs: list[bytes] = await self._wait(_GET, 0 if count == _DRAIN else timeout_s, self._maxsize, count)
        return blobs

    async def remove(self) -> list[Record]:
        """Remove the queue; return the Futures that were in it."""
        self._removing = asyncio.current_task()
        records: list[Record] = []
        while True:
            blobs = await self.take(_DRAIN, 0)
            records += [value for value in map(decode, blobs) if isinstance(value, Record)]
            if not _is_part(blobs):
                break
        await self.close()
        return records

    async def size(self, timeout_s: float | None) -> int:
        if self._removing is not None and not self._removing.done():
            await asyncio.wait([self._removing], timeout=timeout_s)
        return await self.qsize(timeout_s)


class Queue(DaskHandle[StoredQueue]):
    """A queue of plain data and Futures among all processes.

    Args:
        name: None makes a random one.
        client: a Dask client; None takes that of the task or process, where a Future needs one.
        maxsize: how many items it takes; 0 for no bound. The first operation on the queue decides.
        address: of the replicas; None takes what plugin or configuration say.
    """

    KIND: ClassVar[str] = "queue"

    def __init__(
        self,
        name: Any = None,
        client: Client | None = None,
        maxsize: int = 0,
        *,
        address: str | Iterable[str] | None = None,
    ) -> None:
        self.maxsize = check_maxsize(maxsize)
        super().__init__(name, client, address)

    def _options(self) -> dict[str, Any]:
        return {"name": self.name, "maxsize": self.maxsize}

    def _make(self, client: StoreClient) -> StoredQueue:
        return StoredQueue(self._store_name, client=client.aio, maxsize=self.maxsize)

    def put(
        self,
        value: Any,
        timeout: Timeout = None,
        *,
        asynchronous: bool | None = None,
        callback_timeout: Timeout = None,
    ) -> Any:
        """Append an item; wait while the queue is full.

        Args:
            value: a Future, or plain data as a `Variable` takes it.
            timeout: seconds, "200ms" or a timedelta; None waits for ever, 0 does not wait.

        Raises:
            TypeError, ValueError: such a value cannot be stored.
            TimeoutError: the queue was full for that long, or the Dask scheduler does not know the Future.
            QueueClosed: the queue was closed while the call waited.
        """
        timeout_s = shorter(seconds(timeout), seconds(callback_timeout))
        is_async = self._asynchronous if asynchronous is None else asynchronous
        if isinstance(value, Future):
            client = value.client or bridge.dask_client(self._dask_client)
            if is_async:
                return self._put_future(client, value, timeout_s)
            return client.sync(self._put_future, client, value, timeout_s)
        return self._run(self._object.put_blob(encode(value), timeout_s), is_async)

    async def _put_future(self, client: Client, future: Future, timeout_s: float | None) -> None:
        queue = self._object
        async with futures.held(client, future, timeout_s) as (record, left_s):
            await bridge.call_async(queue.put_blob(encode(record), left_s))

    def get(
        self,
        timeout: Timeout = None,
        batch: bool | int = False,
        *,
        asynchronous: bool | None = None,
        callback_timeout: Timeout = None,
    ) -> Any:
        """Take the first item; wait until there is one.

        Args:
            timeout: seconds, "200ms" or a timedelta; None waits for ever, 0 does not wait.
            batch: a number n waits until n items are there, and returns a list of them. True returns a list
                of what is there now.

        Raises:
            TimeoutError: there were too few items for that long; none is taken.
            QueueClosed: the queue was closed while the call waited.
            RuntimeError: the item is a Future, and there is no Dask client here to make one with; it stays.
        """
        count = item_count(batch)
        queue = self._object
        timeout_s = shorter(seconds(timeout), seconds(callback_timeout))
        take = bridge.bounded(timeout_s, repr(self), lambda left_s: queue.take(count, left_s))
        check = None if self._can_receive() else self._refuse_futures
        if self._asynchronous if asynchronous is None else asynchronous:
            return self._get_async(take, check, batch)
        blobs = bridge.call(bridge.repeated(_checked(take, check)))
        if batch is True:
            more = blobs
            while _is_part(more):
                more = bridge.call(bridge.repeated(_checked(take, check)))
                blobs += more
        values = [decode(blob) for blob in blobs]
        if any(isinstance(value, Record) for value in values):
            client = bridge.dask_client(self._dask_client)
            values = client.sync(_live, client, values)
        return values[0] if batch is False else values

    async def _get_async(self, take: _Take, check: _Check | None, batch: bool | int) -> Any:
        values: list[Any] = []
        while True:
            granted, result = await bridge.call_granting(take, check)
            blobs = result or [] if granted is None else granted
            values += [decode(blob) for blob in blobs]
            if batch is not True or not _is_part(blobs):
                break
        if any(isinstance(value, Record) for value in values):
            values = await _live(bridge.dask_client(self._dask_client), values)
        return values[0] if batch is False else values

    def _can_receive(self) -> bool:
        return bool(bridge.is_open(self._dask_client) or bridge.current_worker() or bridge.known_client())

    def _refuse_futures(self, blobs: list[bytes]) -> None:
        if any(isinstance(decode(blob), Record) for blob in blobs):
            raise RuntimeError(f"{self!r} has a Future next, and there is no Dask client here to get it with")

    def qsize(self, *, asynchronous: bool | None = None, callback_timeout: Timeout = None) -> Any:
        """Return how many items are in the queue."""
        return self._run(self._object.size(seconds(callback_timeout)), asynchronous)

    def close(self) -> Any:
        """Remove the queue with its items, for everybody. On an event loop it need not be awaited.

        Who waits on it gets `QueueClosed`; a later operation on the same name starts a new queue.

        Raises:
            TimeoutError: no replica answered within the bound `raftcoord.timeout`.
        """
        removing = bridge.start_now(self._object.remove(), self._asynchronous)
        if isinstance(removing, asyncio.Future):
            return asyncio.ensure_future(self._let_go_after(removing))
        futures.let_go(self._dask_client, *removing)
        return None

    async def _let_go_after(self, removing: asyncio.Future[list[Record]]) -> None:
        futures.let_go(self._dask_client, *await removing)


def _checked(take: _Take, check: _Check | None) -> _Take:
    """Return `take`, such that what `check` raises for stays in the queue."""
    if check is None:
        return take

    async def accept(payload: Any) -> None:
        check(payload)

    async def checked() -> list[bytes]:
        with handed_over_by(accept):
            return await take()

    return checked


def _is_part(blobs: list[bytes]) -> bool:
    """Tell whether there may be more than what a drain returned."""
    return len(blobs) >= BATCH_ITEMS_MAX or sum(map(len, blobs)) >= _DRAIN_BYTES_PART


async def _live(client: Client, values: list[Any]) -> list[Any]:
    """Return values with Futures in place of records, which the scheduler need not hold any longer."""
    return [await _live_one(client, value) if isinstance(value, Record) else value for value in values]


async def _live_one(client: Client, record: Record) -> Future:
    future = await futures.receive(client, record) or futures.lost(client, record)
    futures.let_go(client, record)
    return future
