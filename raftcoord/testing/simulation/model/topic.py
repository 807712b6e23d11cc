"""Topics: messages under consecutive offsets, of which the older ones go.

An offset belongs to one topic: offsets of a topic that was made after another one of its name was deleted are
larger than all of the deleted one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import DRAIN_BYTES_MAX, Operation
from raftcoord.testing.simulation.model.base import Answer, Number, ObjectKind, Offset, Store, Wait


@dataclass
class Topic:
    """One topic, from its first message to its deletion."""

    start: Number = field(default_factory=Number)
    messages: list[tuple[bytes, int]] = field(default_factory=list)  # all there ever were, with their time
    gone: int = 0  # so many of them are not kept any more
    retention: list[int] = field(default_factory=list)

    @property
    def kept(self) -> list[tuple[bytes, int]]:
        return self.messages[self.gone :]

    @property
    def size_bytes(self) -> int:
        return sum(len(value) for value, _ in self.kept)

    def trim(self, now_ms: int) -> None:
        count_max, bytes_max, age_ms_max = self.retention
        while self.kept:
            is_old = age_ms_max and self.kept[0][1] + age_ms_max <= now_ms
            is_much = len(self.kept) > 1 and self.size_bytes > bytes_max
            if not (is_old or is_much or len(self.kept) > count_max):
                break
            self.gone += 1


class Topics(ObjectKind):
    """All topics."""

    prefix = "TOPIC"
    tag = "topics"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.table: dict[bytes, Topic] = {}
        self.ever: dict[bytes, list[Topic]] = {}  # the deleted ones as well

    def names(self) -> Iterable[bytes]:
        return self.table

    def serve(self, wait: Wait) -> Answer | None:
        offset, count_max = wait.detail
        return self.read_read(wait.name, offset, count_max, True)

    def due(self) -> Iterable[tuple[int, int, bytes]]:
        for name, topic in self.table.items():
            if topic.kept and topic.retention[2]:
                yield topic.kept[0][1] + topic.retention[2], topic.start.known, name

    def expire(self, name: bytes) -> None:
        self.table[name].trim(self.store.now_ms)

    def do_publish(
        self, session_id: int, sequence: int, name: bytes, retention: list[int], values: list[bytes]
    ) -> Answer:
        if name not in self.table:
            self.table[name] = Topic()
            self.ever.setdefault(name, []).append(self.table[name])
        topic = self.table[name]
        first = len(topic.messages)
        topic.messages += [(value, self.store.now_ms) for value in values]
        topic.retention = retention
        topic.trim(self.store.now_ms)
        return Code.OK, [Offset(topic.start, first), Offset(topic.start, len(topic.messages))]

    def do_read(
        self, session_id: int, sequence: int, name: bytes, offset: int, count_max: int, wait: bool
    ) -> Answer:
        waiter = Wait(session_id, sequence, Operation.TOPIC_READ, name, (offset, count_max))
        return self.store.or_wait(self.read_read(name, offset, count_max, True), waiter, wait, Code.EMPTY)

    def do_delete(self, session_id: int, sequence: int, name: bytes) -> Answer:
        existed = self.table.pop(name, None) is not None
        for wait in self.line(name):
            self.store.finish(wait, (Code.CLOSED, None))
        return Code.OK, existed

    def read_read(self, name: bytes, offset: int, count_max: int, wait: bool) -> Answer | None:
        topic = self.table.get(name)
        if offset and (topic is None or offset < topic.start.known):
            return Code.CLOSED, None
        if topic is not None:
            wanted = offset - topic.start.known if offset else 0
            missed = max(0, topic.gone - wanted)
            answer = self._messages(topic, wanted + missed, count_max)
            if answer:
                return Code.OK, [Offset(topic.start, wanted + missed + len(answer)), missed, answer]
        return None if wait else (Code.EMPTY, None)

    @staticmethod
    def _messages(topic: Topic, position: int, count_max: int) -> list[Any]:
        values = [value for value, _ in topic.messages[position : position + count_max]]
        while len(values) > 1 and sum(map(len, values)) > DRAIN_BYTES_MAX:
            values.pop()
        return values

    def read_status(self, name: bytes) -> Answer:
        topic = self.table.get(name)
        if topic is None:
            return Code.OK, [0, 0, 0]
        first, following = Offset(topic.start, topic.gone), Offset(topic.start, len(topic.messages))
        return Code.OK, [first, following, topic.size_bytes]
