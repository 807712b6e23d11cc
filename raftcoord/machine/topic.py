"""Topics: messages under consecutive offsets, kept for a while, and readers that wait for the next ones.

The first offset of a topic comes from the counter of the whole store, and a topic that is deleted moves that
counter past its last offset. So an offset belongs to one incarnation of one name: a reader of a deleted topic
is told so, instead of being taken for a reader of the one that was made later.

Invariants:
  1. `next_offset` only grows; the messages are those of the offsets up to it, without a gap.
  2. A reader waits while there is no message at its offset or behind it. It does not hold up others.
  3. After every publish, what is kept is within the retention of the newest publish, but for one message that
     is larger than all that may be kept; what is too old goes at its time.
  4. A topic is in the table from its first publish until it is deleted, and before that while readers wait.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from raftcoord.machine.context import Context
from raftcoord.machine.object_kind import TOO_MANY_OBJECTS, ObjectKind
from raftcoord.machine.outcome import OK, Result
from raftcoord.machine.session import Session
from raftcoord.machine.waiting import Waiter, Waiters, encode_waiters
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import DRAIN_BYTES_MAX, Operation

_EMPTY: Final[Result] = (int(Code.EMPTY), None)
_CLOSED: Final[Result] = (int(Code.CLOSED), None)


class Topic:
    """A named topic. `start` is the offset of its first message ever, 0 before that was published."""

    __slots__ = (
        "age_ms_max",
        "bytes_max",
        "count_max",
        "mark",
        "name",
        "next_offset",
        "readers",
        "size_bytes",
        "stamps",
        "start",
        "values",
    )

    def __init__(self, name: bytes, mark: int) -> None:
        self.name = name
        self.mark = mark
        self.start = self.next_offset = 0
        self.count_max = self.bytes_max = self.age_ms_max = 0
        self.values: deque[bytes] = deque()
        self.stamps: deque[int] = deque()  # when each was published, in cluster time
        self.size_bytes = 0
        self.readers: Waiters = OrderedDict()  # detail: [offset, count_max]

    def __repr__(self) -> str:
        return (
            f"<Topic {self.name!r} start={self.start} first={self.first_offset} next={self.next_offset} "
            f"bytes={self.size_bytes} readers={len(self.readers)}>"
        )

    def fields(self) -> list[Any]:
        """Return the topic as plain values."""
        return [
            self.name,
            self.start,
            self.next_offset,
            self.count_max,
            self.bytes_max,
            self.age_ms_max,
            list(self.values),
            list(self.stamps),
            encode_waiters(self.readers),
        ]

    @property
    def first_offset(self) -> int:
        """The offset of the oldest message that is kept."""
        return self.next_offset - len(self.values)

    def read(self, offset: int, count_max: int) -> list[Any] | None:
        """Return [next offset, missed, values], or None while there is nothing to read."""
        values = self.values
        if not values or offset >= self.next_offset:
            return None
        begin = max(offset, self.first_offset)
        taken: list[bytes] = []
        size_bytes = 0
        for value in self._values_from(begin, count_max):
            size_bytes += len(value)
            if taken and size_bytes > DRAIN_BYTES_MAX:
                break
            taken.append(value)
        return [begin + len(taken), begin - max(offset, self.start), taken]

    def _values_from(self, offset: int, count_max: int) -> Iterable[bytes]:
        """Return so many messages; the way to them is walked once, from the nearer end."""
        length = len(self.values)
        begin = offset - self.first_offset
        end = min(begin + count_max, length)
        if begin <= length - end:
            return islice(self.values, begin, end)
        return reversed(list(islice(reversed(self.values), length - end, length - begin)))

    def trim(self, now_ms: int) -> None:
        """Drop the oldest messages that need not be kept."""
        while (
            len(self.values) > self.count_max
            or (self.size_bytes > self.bytes_max and len(self.values) > 1)
            or (self.age_ms_max and self.values and self.stamps[0] + self.age_ms_max <= now_ms)
        ):
            self.size_bytes -= len(self.values.popleft())
            self.stamps.popleft()


class Topics(ObjectKind[Topic]):
    """All topics."""

    tag = "topics"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.operations = {
            Operation.TOPIC_PUBLISH: self._publish,
            Operation.TOPIC_READ: self._read,
            Operation.TOPIC_DELETE: self._delete,
        }
        self.queries = {
            Operation.TOPIC_READ: self._query_read,
            Operation.TOPIC_STATUS: self._status,
        }

    def _open(self, name: bytes) -> Topic | None:
        """Return the topic, ready to be changed; None when there is no room for another one."""
        topic = self.table.get(name)
        if topic is not None:
            self.context.touch(topic)
        elif not self.is_full:
            topic = self.table[name] = Topic(name, self.context.copies.generation)
        return topic

    # Operations.

    def _publish(
        self, session: Session, sequence: int, name: bytes, retention: list[int], values: list[bytes]
    ) -> Result:
        topic = self._open(name)
        if topic is None:
            return TOO_MANY_OBJECTS
        if not topic.start:
            topic.start = topic.next_offset = self.context.next_number()
        offset = topic.next_offset
        topic.count_max, topic.bytes_max, topic.age_ms_max = retention
        now_ms = self.context.now_ms
        topic.values.extend(values)
        topic.stamps.extend([now_ms] * len(values))
        topic.next_offset += len(values)
        topic.size_bytes += sum(map(len, values))
        topic.trim(now_ms)
        self._set_deadline(topic)
        self.context.applied.topics.append(name)
        if topic.readers:
            self._serve(topic)
        return OK, [offset, topic.next_offset]

    def _set_deadline(self, topic: Topic) -> None:
        if topic.age_ms_max and topic.stamps:
            deadline_ms = topic.stamps[0] + topic.age_ms_max
            self.context.deadlines.set(self, topic.name, deadline_ms, topic.start)
        else:
            self.context.deadlines.clear(self, topic.name)

    def _serve(self, topic: Topic) -> None:
        """Serve every reader that something came for."""
        answers: dict[tuple[int, int], list[Any] | None] = {}  # most of them read the same
        for waiter in list(topic.readers.values()):
            offset, count_max = waiter.detail
            if (offset, count_max) not in answers:
                answers[offset, count_max] = topic.read(offset, count_max)
            answer = answers[offset, count_max]
            if answer is not None:
                self.context.complete(topic.readers, waiter, OK, answer)

    def _read(
        self, session: Session, sequence: int, name: bytes, offset: int, count_max: int, wait: bool
    ) -> Result:
        answer = self._query_read(name, offset, count_max, wait)
        if answer is not None:
            return answer
        topic = self._open(name)
        if topic is None:
            return TOO_MANY_OBJECTS
        detail = [offset, count_max]
        waiter = Waiter(self, name, session.id, sequence, int(Operation.TOPIC_READ), detail)
        return self.context.register(topic.readers, waiter)

    def _delete(self, session: Session, sequence: int, name: bytes) -> Result:
        topic = self.table.get(name)
        if topic is None:
            return OK, False
        self.context.touch(topic)
        del self.table[name]
        self.context.deadlines.clear(self, name)
        self.context.number = max(self.context.number, topic.next_offset)
        self.context.applied.topics.append(name)
        for waiter in list(topic.readers.values()):
            self.context.complete(topic.readers, waiter, *_CLOSED)
        return OK, topic.start > 0

    # Queries.

    def _query_read(self, name: bytes, offset: int, count_max: int, wait: bool) -> Result | None:
        topic = self.table.get(name)
        start = 0 if topic is None else topic.start
        if offset and (not start or offset < start):
            return _CLOSED  # an offset of a topic that was deleted
        answer = None if topic is None else topic.read(offset, count_max)
        if answer is not None:
            return OK, answer
        return None if wait else _EMPTY

    def follow(self, name: bytes, offset: int, count_max: int) -> Result | None:
        """Read on from an offset above 0, in a state that may be older than the one that the offset is from.

        None while there is nothing to read, or while this state has not reached the offset.
        """
        return self._query_read(name, offset, count_max, True) if self.has_reached(name, offset) else None

    def has_reached(self, name: bytes, offset: int) -> bool:
        """Whether this state is new enough to know what is at an offset above 0 that another one gave out.

        Where there is no topic, the counter of the store tells one that was deleted from one that is yet to
        be made: it is past every offset that was given out.
        """
        topic = self.table.get(name)
        return offset <= (topic.next_offset if topic is not None and topic.start else self.context.number)

    def _status(self, name: bytes) -> Result:
        topic = self.table.get(name)
        if topic is None:
            return OK, [0, 0, 0]
        return OK, [topic.first_offset, topic.next_offset, topic.size_bytes]

    # Changes without a command of their own.

    def expire(self, name: bytes) -> None:
        topic = self.table[name]
        self.context.touch(topic)
        topic.trim(self.context.now_ms)
        self._set_deadline(topic)

    def remove_waiter(self, waiter: Waiter) -> None:
        topic = self.table[waiter.name]
        self.context.touch(topic)
        del topic.readers[waiter.session, waiter.sequence]

    def settle(self, name: bytes) -> None:
        topic = self.table.get(name)
        if topic is not None and not topic.start and not topic.readers:
            del self.table[name]

    def decode(self, fields: list[Any]) -> None:
        name, start, next_offset, count_max, bytes_max, age_ms_max, values, stamps, readers = fields
        topic = self.table[name] = Topic(name, self.context.copies.generation)
        topic.start, topic.next_offset = start, next_offset
        topic.count_max, topic.bytes_max, topic.age_ms_max = count_max, bytes_max, age_ms_max
        topic.values.extend(values)
        topic.stamps.extend(stamps)
        topic.size_bytes = sum(map(len, values))
        self._set_deadline(topic)
        self.restore_waiters(topic.readers, name, readers)
