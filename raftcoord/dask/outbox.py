"""Messages on their way to a topic: put without waiting, published in order and in batches.

Invariants:
  1. The messages of a process on a topic are published in the order in which they were put.
  2. A subscription of this process that was begun before a message was put begins before that message.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import threading
import weakref
from collections import deque
from typing import Any, Final

from raftcoord import aio
from raftcoord.client import forking
from raftcoord.client.loop_thread import call, submit
from raftcoord.protocol.errors import ClientClosed, NotApplied, Overloaded, RaftcoordError
from raftcoord.protocol.operations import Operation

_log = logging.getLogger(__name__)

_PUBLISH: Final = int(Operation.TOPIC_PUBLISH)

BATCH_MESSAGES: Final = 1000
BATCH_BYTES: Final = 2 * 1024 * 1024
OUTBOX_MESSAGES_MAX: Final = 100_000
RETRY_AFTER_S: Final = 0.1
FLUSH_AT_EXIT_S: Final = 5.0


class StoredPub(aio.Pub):
    """A publisher of blobs."""

    async def publish(self, blobs: list[bytes]) -> None:
        await self._call(_PUBLISH, None, self._retention, blobs)


class Outbox:
    """The unpublished messages of this process on one topic; safe from any thread."""

    def __init__(self, topic: StoredPub) -> None:
        self._topic = topic
        self._lock = threading.Lock()
        self._blobs: deque[bytes] = deque()
        self._publishing = False
        self._subscribing: set[concurrent.futures.Future[None]] = set()
        self._waiters: list[asyncio.Future[None]] = []  # of the loop thread

    def __repr__(self) -> str:
        return f"<Outbox of {self._topic!r} unpublished={len(self._blobs)}>"

    @property
    def is_full(self) -> bool:
        return len(self._blobs) >= OUTBOX_MESSAGES_MAX

    def add(self, blob: bytes) -> None:
        """Take a message, to be published soon.

        Raises:
            Overloaded: 100 000 messages wait already.
        """
        if self.is_full:
            raise Overloaded(
                f"{OUTBOX_MESSAGES_MAX} messages of {self._topic!r} wait to be published already"
            )
        with self._lock:
            self._blobs.append(blob)
            if self._publishing:
                return
            self._publishing = True
        submit(self._publish())

    def subscribing(self, subscribed: concurrent.futures.Future[None]) -> None:
        """Publish nothing that is put from now on before a subscription has begun."""
        with self._lock:
            self._subscribing.add(subscribed)
        subscribed.add_done_callback(self._forget)

    def _forget(self, subscribed: concurrent.futures.Future[None]) -> None:
        with self._lock:
            self._subscribing.discard(subscribed)

    async def _publish(self) -> None:
        while True:
            with self._lock:
                batch = self._next_batch()
                subscribing = list(self._subscribing)
                if not batch:
                    self._publishing = False
                    break
            for subscribed in subscribing:
                with contextlib.suppress(RaftcoordError, asyncio.CancelledError):
                    await asyncio.wrap_future(subscribed)
            await self._publish_batch(batch)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._blobs and len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
            batch.append(self._blobs.popleft())
            size += len(batch[-1])
        return batch

    async def _publish_batch(self, batch: list[bytes]) -> None:
        while True:
            try:
                await self._topic.publish(batch)
                return
            except ClientClosed as error:
                failure: RaftcoordError = error
            except NotApplied as error:
                _log.info("publish_delayed topic=%r error=%r", self._topic.name, error)
                await asyncio.sleep(RETRY_AFTER_S)
                continue
            except RaftcoordError as error:  # published or not, to do it again might double the messages
                failure = error
            _log.error("messages_lost topic=%r count=%d error=%r", self._topic.name, len(batch), failure)
            return

    async def drained(self) -> None:
        """Return once everything is published that was put; on the loop thread."""
        while self._publishing:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


class _Outboxes:
    """The outboxes of this process."""

    def __init__(self) -> None:
        self.start_over()
        forking.call_in_child(self.start_over)
        atexit.register(self.flush, FLUSH_AT_EXIT_S)

    def start_over(self) -> None:
        self._lock = threading.Lock()
        self._found: weakref.WeakValueDictionary[tuple[aio.Client, bytes], Outbox] = (
            weakref.WeakValueDictionary()
        )

    def of(self, topic: StoredPub) -> Outbox:
        """Return the one outbox for a topic."""
        with self._lock:
            key = (topic.client, topic._key)
            outbox = self._found.get(key)
            if outbox is None:
                outbox = self._found[key] = Outbox(topic)
            return outbox

    async def drained(self, limit_s: float) -> None:
        """Return once all is published, or the time (seconds) is over; on the loop thread."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                for outbox in self._all():
                    await outbox.drained()

    def flush(self, limit_s: float) -> None:
        if any(outbox._publishing for outbox in self._all()):
            call(self.drained(limit_s))

    def _all(self) -> list[Any]:
        with self._lock:
            return list(self._found.values())


outboxes: Final = _Outboxes()
