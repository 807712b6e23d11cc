"""Dask's Sub, which Dask itself has up to release 2025.3."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from distributed import Client

from raftcoord import aio
from raftcoord.client.addresses import Addresses
from raftcoord.client.aio_topic import check_from_offset
from raftcoord.client.deadline import Deadline
from raftcoord.client.sync_client import Client as StoreClient
from raftcoord.client.timeouts import Timeout
from raftcoord.dask import bridge
from raftcoord.dask.handle import DaskHandle
from raftcoord.dask.names import seconds
from raftcoord.dask.outbox import StoredPub, outboxes
from raftcoord.dask.records import decode

PREFETCH: Final = 1000


class StoredSub(aio.Sub):
    """A subscription that lays out what it has fetched for callers in other threads."""

    ready: deque[bytes]

    async def fill(self, timeout_s: float | None) -> None:
        """Return once there are messages in `ready`."""
        deadline = Deadline(timeout_s, asyncio.get_running_loop().time, self._what)
        await self._begin(deadline)
        while not self.ready:
            if not self._messages:
                await self._fetch(deadline.left_s())
            assert self._offset is not None
            self._offset += len(self._messages)
            self.ready.extend(self._messages)
            self._messages.clear()

    @property
    def position(self) -> int | None:
        """The offset of the next message that a caller gets, if it is known."""
        return None if self._offset is None else self._offset - len(self.ready)


class Sub(DaskHandle[StoredSub]):
    """Reads the messages of a topic, from those on that are put after it was made.

    A pickled one goes on where this one stands. For a topic's retention see `raftcoord.Pub`; messages that
    were dropped before they were read here are counted in `missed`.

    Args:
        name: of the topic.
        worker: taken for Dask's sake.
        client: a Dask client; None takes that of the task or process.
        from_offset: where to begin: "start" with the oldest message that is retained, or an offset.
        read_from_followers: as for `raftcoord.Sub`.
        address: of the replicas; None takes what plugin or configuration say.

    Raises:
        TimeoutError: no replica answered within the bound `raftcoord.timeout`; not on an event loop.
    """

    KIND: ClassVar[str] = "topic"

    def __init__(
        self,
        name: Any,
        worker: Any = None,
        client: Client | None = None,
        *,
        from_offset: int | str | None = None,
        read_from_followers: bool = False,
        address: str | Iterable[str] | None = None,
    ) -> None:
        super().__init__(name, client, address)
        self._read_from_followers = read_from_followers
        self._from_offset = check_from_offset(from_offset)
        self._subscribe()

    def _make(self, client: StoreClient) -> StoredSub:
        sub = StoredSub(
            self._store_name,
            self._from_offset,
            client=client.aio,
            prefetch=PREFETCH,
            read_from_followers=self._read_from_followers,
        )
        sub.ready = deque()
        return sub

    def _subscribe(self) -> None:
        """Fix where this begins, now."""
        sub = self._object
        outbox = outboxes.of(StoredPub(self._store_name, sub.client))
        if self._asynchronous:
            outbox.subscribing(bridge.start(sub.subscribe()))
            self._outbox = outbox  # which waits for that
        else:
            bridge.call(_subscribe_after(outbox.drained(), sub))

    def __reduce__(self) -> tuple[Any, ...]:
        position = None if self._store is None else self._store[1].position
        where = self._from_offset if position is None else position
        carried = self._known_addresses()
        return _wake, (self.name, where, self._read_from_followers, self._address, carried)

    @property
    def missed(self) -> int:
        """How many messages the topic had dropped before they were read here."""
        return 0 if self._store is None else self._store[1].missed

    def get(self, timeout: Timeout = None) -> Any:
        """Return the next message; wait until there is one.

        Args:
            timeout: seconds, "200ms" or a timedelta; None waits for ever, 0 does not wait.

        Raises:
            TimeoutError: there was none for that long.
            TopicDeleted: the topic was deleted while the call waited.
        """
        timeout_s = seconds(timeout)
        if self._asynchronous:
            return self._get_async(timeout_s)
        sub = self._object
        deadline: Deadline | None = None
        while True:
            try:
                return decode(sub.ready.popleft())
            except IndexError:
                deadline = deadline or Deadline(timeout_s, time.monotonic, repr(self))
                bridge.call(sub.fill(deadline.left_s()))

    async def _get_async(self, timeout_s: float | None) -> Any:
        sub = self._object
        deadline = Deadline(timeout_s, time.monotonic, repr(self))
        while True:
            try:
                return decode(sub.ready.popleft())
            except IndexError:
                await bridge.call_async(sub.fill(deadline.left_s()))

    next = __next__ = get

    def __iter__(self) -> Sub:
        return self

    def __aiter__(self) -> Sub:
        return self

    async def __anext__(self) -> Any:
        return await self._get_async(None)


async def _subscribe_after(drained: Any, sub: StoredSub) -> None:
    await drained  # what this process put before is not for this subscription
    await sub.subscribe()


def _wake(
    name: Any,
    from_offset: int | str | None,
    read_from_followers: bool,
    address: Addresses | None,
    carried: Addresses | None,
) -> Sub:
    sub: Sub = Sub.__new__(Sub)
    DaskHandle.__init__(sub, name, None, address)
    sub._from_offset = from_offset
    sub._read_from_followers = read_from_followers
    sub._carried = carried
    return sub
