"""Messages that any number of subscribers read, each at its own pace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from raftcoord.client import aio_topic
from raftcoord.client.aio_topic import PREFETCH, RETENTION_BYTES, RETENTION_COUNT, TopicStatus
from raftcoord.client.handle import Handle
from raftcoord.client.loop_thread import loop_thread
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_handle import SyncHandle
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.values import Name


class Pub(SyncHandle[aio_topic.Pub]):
    """Publishes messages on a topic, which retains them for subscribers as long as it is told to.

    A message is dropped when one of the bounds requires it; those of the newest publish count.

    Args:
        name: of the topic: a str, int, bytes or tuple of these.
        client: the client to use; None takes the current one.
        retention_count: how many messages the topic retains.
        retention_bytes: how many bytes they have together, packed.
        retention_age: how long they are retained; None for ever.
    """

    AIO: ClassVar[type[Handle]] = aio_topic.Pub

    def __init__(
        self,
        name: Name,
        client: Client | None = None,
        *,
        retention_count: int = RETENTION_COUNT,
        retention_bytes: int = RETENTION_BYTES,
        retention_age: Timeout = None,
    ) -> None:
        super().__init__(
            client,
            name=name,
            retention_count=retention_count,
            retention_bytes=retention_bytes,
            retention_age=retention_age,
        )

    def put(self, message: Any, timeout: Timeout = None) -> int:
        """Publish a message and return its offset.

        Args:
            timeout: bound on the call; None takes the client's own.

        Raises:
            TypeError: a message of this type cannot be stored.
            ValueTooLarge: it is over 1 MiB.
            CallTimeout: not done in time, and certainly not done.
            OutcomeUnknown: sent, and not answered in time.
        """
        return self._client.run(self._aio.put(message, timeout))

    def put_many(self, messages: Iterable[Any], timeout: Timeout = None) -> range:
        """Publish several messages, all or none, next to each other; return their offsets.

        Raises, besides what `put` does:
            ValueTooLarge: more than 10 000 messages, or 8 MiB together.
        """
        # Drawn here: an iterable of the user's may block, and must not run on the loop thread.
        return self._client.run(self._aio.put_many(list(messages), timeout))

    def status(self, timeout: Timeout = None) -> TopicStatus:
        """Return what the topic retains."""
        return self._client.run(self._aio.status(timeout))

    def delete(self, timeout: Timeout = None) -> bool:
        """Remove the topic with its messages; tell whether there was one.

        Subscriptions that wait for a message end with `TopicDeleted`. Raises: as `put`.
        """
        return self._client.run(self._aio.delete(timeout))


class Sub(SyncHandle[aio_topic.Sub]):
    """Reads the messages of a topic in order, independently of other subscriptions.

    Where it begins is known once it is made: from then on nothing that is published is missed, whatever fails
    over, except what the topic did not retain until it was read (`missed`). Nothing is stored for a
    subscription; it lives in this handle. A pickled one wakes up where this one stands.

    Args:
        name: of the topic: a str, int, bytes or tuple of these.
        from_offset: where to begin: None with what is published from now on, "start" with the oldest message
            that is retained, or an offset. Unless it is an offset, this waits for a replica's answer, up to
            the client's own timeout, and raises `CallTimeout`.
        client: the client to use; None takes the current one.
        prefetch: how many messages are fetched at a time.
        on_missed: called with the number of messages of each gap, when it is met, on a thread of its own.
        read_from_followers: whether to fetch them from a replica that does not lead, to relieve the leader.
            They are the same messages in the same order, up to a heartbeat later, and from another replica
            when that one fails.
    """

    AIO: ClassVar[type[Handle]] = aio_topic.Sub

    def __init__(
        self,
        name: Name,
        from_offset: int | str | None = None,
        client: Client | None = None,
        *,
        prefetch: int = PREFETCH,
        on_missed: Callable[[int], object] | None = None,
        read_from_followers: bool = False,
    ) -> None:
        self._on_missed = on_missed
        super().__init__(
            client,
            name=name,
            from_offset=from_offset,
            prefetch=prefetch,
            on_missed=self._tell_missed,
            read_from_followers=read_from_followers,
        )
        self._client.run(self._aio.subscribe())

    @property
    def offset(self) -> int:
        """The offset of the message that `get` returns next, missed ones aside."""
        return self._aio.offset

    @property
    def missed(self) -> int:
        """How many messages the topic had dropped before they were read here."""
        return self._aio.missed

    def get(self, timeout: Timeout = None) -> Any:
        """Return the next message; wait until there is one.

        Args:
            timeout: None waits for ever, 0 does not wait.

        Raises:
            CallTimeout: there was none for that long (a TimeoutError).
            TopicDeleted: the topic was deleted while the call waited.
        """
        return self._client.run(self._aio.get(timeout))

    def __iter__(self) -> Sub:
        return self

    def __next__(self) -> Any:
        return self.get()

    def _tell_missed(self, count: int) -> None:
        if self._on_missed is not None:
            on_missed = self._on_missed
            loop_thread().call_back(lambda: on_missed(count))
