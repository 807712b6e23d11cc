"""Dask's Pub, which Dask itself has up to release 2025.3."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar

from distributed import Client

from raftcoord.client.sync_client import Client as StoreClient
from raftcoord.client.timeouts import Timeout
from raftcoord.dask import bridge
from raftcoord.dask.handle import DaskHandle
from raftcoord.dask.names import seconds
from raftcoord.dask.outbox import Outbox, StoredPub, outboxes
from raftcoord.dask.records import encode
from raftcoord.protocol.errors import CallTimeout


class Pub(DaskHandle[StoredPub]):
    """Publishes messages on a topic, each of which every subscription gets, in the same order.

    Args:
        name: of the topic.
        worker: taken for Dask's sake.
        client: a Dask client; None takes that of the task or process.
        address: of the replicas; None takes what plugin or configuration say.
    """

    KIND: ClassVar[str] = "topic"

    def __init__(
        self,
        name: Any,
        worker: Any = None,
        client: Client | None = None,
        *,
        address: str | Iterable[str] | None = None,
    ) -> None:
        super().__init__(name, client, address)
        self._outbox: Outbox | None = None

    def _make(self, client: StoreClient) -> StoredPub:
        topic = StoredPub(self._store_name, client.aio)
        self._outbox = outboxes.of(topic)
        return topic

    @property
    def _out(self) -> Outbox:
        _ = self._object
        assert self._outbox is not None
        return self._outbox

    def put(self, msg: Any) -> None:
        """Publish a message. Returns at once, also on an event loop; it is published in the background.

        Raises:
            TypeError, ValueError: such a message cannot be stored.
            Overloaded: on an event loop, when 100 000 messages wait already. Elsewhere that is waited for.
        """
        blob = encode(msg)
        outbox = self._out
        if outbox.is_full and not self._asynchronous:
            bridge.call(outbox.drained())
        outbox.add(blob)

    def flush(self, timeout: Timeout = None) -> Any:
        """Return once all messages that this process put on the topic are published, or given up.

        Raises:
            TimeoutError: that took longer.
        """
        return self._run(_drained(self._out, seconds(timeout)))


async def _drained(outbox: Outbox, timeout_s: float | None) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await outbox.drained()
    except TimeoutError:
        raise CallTimeout(f"{outbox!r} was not empty in time") from None
