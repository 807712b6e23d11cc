"""Messages that any number of subscribers read, each at its own pace, for asyncio.

Invariants:
  1. A subscription returns every message from its offset on, in order and once, or counts it as missed.
  2. Its position moves only in the step in which messages arrive, so that neither a cancelled call nor a lost
     session leaves anything out or doubles it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, ClassVar, Final, NamedTuple

from raftcoord.client.aio_client import Client
from raftcoord.client.aio_queue import pack_items
from raftcoord.client.deadline import Deadline
from raftcoord.client.errors import TopicDeleted
from raftcoord.client.handle import Errors, Handle
from raftcoord.client.timeouts import Timeout, parse_duration_ms, parse_timeout
from raftcoord.protocol.errors import CallTimeout, Code, SessionLost
from raftcoord.protocol.operations import (
    BATCH_ITEMS_MAX,
    SEQUENCE_MAX,
    TOPIC_BYTES_MAX,
    TOPIC_MESSAGES_MAX,
    Operation,
)
from raftcoord.protocol.values import Name, pack_value, unpack_value

_log = logging.getLogger(__name__)

_PUBLISH: Final = int(Operation.TOPIC_PUBLISH)
_READ: Final = int(Operation.TOPIC_READ)
_STATUS: Final = int(Operation.TOPIC_STATUS)
_DELETE: Final = int(Operation.TOPIC_DELETE)

RETENTION_COUNT: Final = 10_000
RETENTION_BYTES: Final = 64 * 1024 * 1024
PREFETCH: Final = 100
START: Final = "start"

_TOPIC_ERRORS: Final[Errors] = {
    Code.CLOSED: (TopicDeleted, "it was deleted"),
    Code.EMPTY: (CallTimeout, "there is no message"),
}


class TopicStatus(NamedTuple):
    """What a topic retains: the messages from `first_offset` up to, and without, `next_offset`."""

    first_offset: int
    next_offset: int
    bytes: int


class Pub(Handle):
    """Publishes messages on a topic, which retains them for subscribers as long as it is told to.

    A message is dropped when one of the bounds requires it; those of the newest publish count.

    Args:
        name: of the topic: a str, int, bytes or tuple of these.
        client: the client to use; None takes the current one.
        retention_count: how many messages the topic retains.
        retention_bytes: how many bytes they have together, packed.
        retention_age: how long they are retained; None for ever.
    """

    KIND: ClassVar[str] = "topic"
    ERRORS: ClassVar[Errors] = _TOPIC_ERRORS

    def __init__(
        self,
        name: Name,
        client: Client | None = None,
        *,
        retention_count: int = RETENTION_COUNT,
        retention_bytes: int = RETENTION_BYTES,
        retention_age: Timeout = None,
    ) -> None:
        self._retention = check_retention(retention_count, retention_bytes, retention_age)
        self._retention_options = {
            "retention_count": retention_count,
            "retention_bytes": retention_bytes,
            "retention_age": retention_age,
        }
        super().__init__(name, client)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), **self._retention_options}

    async def put(self, message: Any, timeout: Timeout = None) -> int:
        """Publish a message and return its offset.

        Args:
            timeout: bound on the call; None takes the client's own.

        Raises:
            TypeError: a message of this type cannot be stored.
            ValueTooLarge: it is over 1 MiB.
            CallTimeout: not done in time, and certainly not done.
            OutcomeUnknown: sent, and not answered in time.
        """
        first, _ = await self._call(_PUBLISH, timeout, self._retention, [pack_value(message)])
        return int(first)

    async def put_many(self, messages: Iterable[Any], timeout: Timeout = None) -> range:
        """Publish several messages, all or none, next to each other; return their offsets.

        Raises, besides what `put` does:
            ValueTooLarge: more than 10 000 messages, or 8 MiB together.
        """
        blobs = pack_items(messages, 0)
        if not blobs:
            return range(0)
        first, following = await self._call(_PUBLISH, timeout, self._retention, blobs)
        return range(first, following)

    async def status(self, timeout: Timeout = None) -> TopicStatus:
        """Return what the topic retains."""
        return TopicStatus(*await self._call(_STATUS, timeout))

    async def delete(self, timeout: Timeout = None) -> bool:
        """Remove the topic with its messages; tell whether there was one.

        Subscriptions that wait for a message end with `TopicDeleted`. Raises: as `put`.
        """
        existed = await self._call(_DELETE, timeout)
        return bool(existed)


class _Following(NamedTuple):
    """A read that any replica may answer, under way."""

    offset: int
    task: asyncio.Task[tuple[int, Any] | None]

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self.task.get_loop()


class Sub(Handle):
    """Reads the messages of a topic in order, independently of other subscriptions.

    Where it begins is known once it has been awaited (`sub = await Sub("news")`), or with the first use: from
    then on nothing that is published is missed, whatever fails over, except what the topic did not retain
    until it was read (`missed`). Nothing is stored for a subscription; it lives in this handle. A pickled one
    wakes up where this one stands.

    Args:
        name: of the topic: a str, int, bytes or tuple of these.
        from_offset: where to begin: None with what is published from now on, "start" with the oldest message
            that is retained, or an offset.
        client: the client to use; None takes the current one.
        prefetch: how many messages are fetched at a time.
        on_missed: called with the number of messages of each gap, when it is met; it must not block.
        read_from_followers: whether to fetch them from a replica that does not lead, to relieve the leader.
            They are the same messages in the same order, up to a heartbeat later, and from another replica
            when that one fails.
    """

    KIND: ClassVar[str] = "topic"
    ERRORS: ClassVar[Errors] = _TOPIC_ERRORS

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
        self._from_offset = check_from_offset(from_offset)
        self._prefetch = check_prefetch(prefetch)
        super().__init__(name, client)
        self._on_missed = on_missed
        self._read_from_followers = read_from_followers
        self._following: _Following | None = None
        self._is_vouched_for = not isinstance(from_offset, int)  # no leader was asked about that offset yet
        self._offset = from_offset if isinstance(from_offset, int) else None
        self._messages: deque[bytes] = deque()
        self._missed = 0

    def _options(self) -> dict[str, Any]:
        where = self._from_offset if self._offset is None else self._offset
        return {
            **super()._options(),
            "from_offset": where,
            "prefetch": self._prefetch,
            "read_from_followers": self._read_from_followers,
        }

    @property
    def offset(self) -> int:
        """The offset of the message that `get` returns next, missed ones aside.

        Raises:
            RuntimeError: it is not known yet, because nothing was awaited.
        """
        if self._offset is None:
            raise RuntimeError(f"{self._what}: await the subscription first")
        return self._offset

    @property
    def missed(self) -> int:
        """How many messages the topic had dropped before they were read here."""
        return self._missed

    async def subscribe(self, timeout: Timeout = None) -> None:
        """Fix where the subscription begins; does nothing when that is known.

        Args:
            timeout: bound on the call; None takes the client's own.

        Raises:
            CallTimeout: nobody answered in time.
        """
        if self._offset is None:
            first, following, _ = await self._call(_STATUS, timeout)
            if self._offset is None:  # another task may have been quicker
                self._offset = first if self._from_offset == START else following

    def __await__(self) -> Generator[Any, None, Sub]:
        yield from self.subscribe().__await__()
        return self

    async def get(self, timeout: Timeout = None) -> Any:
        """Return the next message; wait until there is one.

        Args:
            timeout: None waits for ever, 0 does not wait.

        Raises:
            CallTimeout: there was none for that long (a TimeoutError).
            TopicDeleted: the topic was deleted while the call waited.
        """
        deadline = self._deadline(timeout)
        await self._begin(deadline)
        while not self._messages:
            await self._fetch(deadline.left_s())
        assert self._offset is not None
        self._offset += 1
        return unpack_value(self._messages.popleft())

    def __aiter__(self) -> Sub:
        return self

    async def __anext__(self) -> Any:
        return await self.get()

    async def _begin(self, deadline: Deadline) -> None:
        """Subscribe as a part of waiting for a message."""
        while self._offset is None:
            left_s = deadline.left_s()
            try:
                await self.subscribe(left_s)
            except CallTimeout:
                if left_s is not None:
                    raise
            except SessionLost:
                if self._client.closed:
                    raise

    async def _fetch(self, timeout: Timeout) -> None:
        """Take in what there is from the present offset on; do nothing when another task was quicker."""
        offset = self._offset
        try:
            answer = await self._read(offset, timeout)
        except SessionLost:
            if self._client.closed:
                raise
            return  # reading takes nothing, so it simply goes on in the next session
        if answer is None or self._messages or self._offset != offset:
            return
        following, missed, blobs = answer
        self._offset = following - len(blobs)
        self._messages.extend(blobs)
        if missed:
            self._tell_missed(missed)

    async def _read(self, offset: int | None, timeout: Timeout) -> Any:
        """Return what there is at an offset; None when that has to be asked again."""
        # Offset 0 is where the topic begins, which only the leader knows.
        if not (self._read_from_followers and offset) or timeout == 0:
            return await self._wait(_READ, timeout, offset, self._prefetch)
        if not self._is_vouched_for:
            return await self._vouch(offset, parse_timeout(timeout))
        return await self._follow(offset, parse_timeout(timeout))

    async def _vouch(self, offset: int, timeout_s: float | None) -> Any:
        """As `_read`, from the leader, without waiting: is the offset one of this store?"""
        try:
            arguments = (self._key, offset, self._prefetch, False)
            code, payload = await self._client.request(_READ, arguments, timeout_s)
        except CallTimeout:
            if timeout_s is not None:
                raise
            return None
        if code and code != Code.EMPTY:
            self._refuse(code, payload)
        self._is_vouched_for = True
        return payload

    async def _follow(self, offset: int, timeout_s: float | None) -> Any:
        """As `_read`, from any replica. What one call began and did not await is there for the next one."""
        following = self._following
        if (
            following is None
            or following.offset != offset
            or following.loop is not asyncio.get_running_loop()
        ):
            task = await self._client.follow(self._key, offset, self._prefetch)
            following = self._following = _Following(offset, task)
        await asyncio.wait({following.task}, timeout=timeout_s)
        if not following.task.done():
            raise CallTimeout(f"{self._what}: the time was over")
        if self._following is following:
            self._following = None
        if following.task.cancelled():
            raise SessionLost("the client was closed")
        code, payload = following.task.result() or (Code.EMPTY, None)
        if code and code != Code.EMPTY:
            self._refuse(code, payload)
        return payload

    def _tell_missed(self, count: int) -> None:
        self._missed += count
        _log.warning("messages_missed topic=%r count=%d offset=%s", self._name, count, self._offset)
        if self._on_missed is not None:
            try:
                self._on_missed(count)
            except Exception:  # the user's fault must not lose the messages
                _log.exception("on_missed_failed topic=%r", self._name)


def check_retention(count: int, size_bytes: int, age: Timeout) -> list[int]:
    """Return the wire form of a retention. Raises TypeError or ValueError."""
    for what, value, bound in (
        ("retention_count", count, TOPIC_MESSAGES_MAX),
        ("retention_bytes", size_bytes, TOPIC_BYTES_MAX),
    ):
        if type(value) is not int:
            raise TypeError(f"{what} is an int, not {type(value).__qualname__}")
        if not 1 <= value <= bound:
            raise ValueError(f"{what} must be between 1 and {bound}, not {value}")
    return [count, size_bytes, 0 if age is None else parse_duration_ms(age, what="retention_age")]


def check_from_offset(from_offset: int | str | None) -> int | str | None:
    """Return where a subscription begins. Raises TypeError or ValueError."""
    if from_offset is None or from_offset == START:
        return from_offset
    if isinstance(from_offset, str):
        raise ValueError(f"from_offset is {START!r}, an offset or None, not {from_offset!r}")
    if type(from_offset) is not int:
        raise TypeError(f"an offset is an int, not {type(from_offset).__qualname__}")
    if not 0 <= from_offset <= SEQUENCE_MAX:
        raise ValueError(f"an offset is at least 0, not {from_offset}")
    return from_offset


def check_prefetch(prefetch: int) -> int:
    """Return how many messages are fetched at a time. Raises TypeError or ValueError."""
    if type(prefetch) is not int:
        raise TypeError(f"prefetch is an int, not {type(prefetch).__qualname__}")
    if not 1 <= prefetch <= BATCH_ITEMS_MAX:
        raise ValueError(f"prefetch must be between 1 and {BATCH_ITEMS_MAX}, not {prefetch}")
    return prefetch
