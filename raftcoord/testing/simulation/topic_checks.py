"""What callers saw of topics, held against all messages that the log ever had.

Invariants of what is checked:
  1. What was published is in the log once, next to each other, under the offsets that were told; what failed
     is not in it.
  2. A message that somebody read is the log's of that offset.
  3. A reader goes on where it stood, also after it was started again: the next message is that of the next
     offset, but for those that it was told to have missed, which the topic has not retained.
  4. A reader is told of a deletion only if the topic at whose offset it stood was deleted.
  5. What is kept for a time is not missed before that time is over, where no replica's clock is fast.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from raftcoord.protocol.errors import Rejected
from raftcoord.protocol.values import pack_name, unpack_value
from raftcoord.testing.simulation.model import Model as Store
from raftcoord.testing.simulation.model.topic import Topic
from raftcoord.testing.simulation.objects import number_in
from raftcoord.testing.simulation.records import Outcome, Record
from raftcoord.testing.simulation.violation import Violation

_Messages: TypeAlias = "dict[int, tuple[Any, bool]]"  # by offset: value, and whether it is kept


def check_topics(records: list[Record], store: Store, fair_clocks: bool = False) -> None:
    """Judge all calls on topics.

    Args:
        store: what the log made of them.
        fair_clocks: see `Settings`.

    Raises:
        Violation: it cannot have been so.
    """
    messages = {name: _messages(topics) for name, topics in store.topics.ever.items()}
    readers: dict[tuple[str, int, str], list[Record]] = {}
    for record in records:
        log = messages.get(pack_name(record.name), {}) if record.kind in ("publish", "read_topic") else {}
        if record.kind == "publish":
            _check_publish(record, log)
        elif record.kind == "read_topic":
            if record.outcome is Outcome.OK and not isinstance(record.result, Rejected):
                offset, _, value = record.result
                if offset not in log or log[offset][0] != value:
                    raise Violation("topics", f"{record}: the log has {log.get(offset)} there")
            readers.setdefault((record.client, record.thread, record.name), []).append(record)
    published_at = {
        value: record.call_at for record in records if record.kind == "publish" for value in record.argument
    }
    for (_, _, name), reads in readers.items():
        log = messages.get(pack_name(name), {})
        topic = store.topics.table.get(pack_name(name))
        _check_reader(reads, log, None if topic is None else topic.start.value)
        age_ms = number_in(name, "aged")
        if age_ms and fair_clocks:
            _check_age(reads, log, published_at, age_ms / 1000)


def _messages(topics: list[Topic]) -> _Messages:
    return {
        topic.start.known + place: (unpack_value(value), place >= topic.gone)
        for topic in topics
        for place, (value, _) in enumerate(topic.messages)
    }


def _check_publish(record: Record, log: _Messages) -> None:
    offsets = [offset for offset, (value, _) in log.items() if value in record.argument]
    values = [log[offset][0] for offset in offsets]
    is_there = values == record.argument and offsets == list(range(offsets[0], offsets[0] + len(offsets)))
    if values and (not is_there or record.outcome is Outcome.FAILED):
        raise Violation("topics", f"{record}: the log has {values} under {offsets}")
    if record.outcome is Outcome.OK and list(record.result) != offsets:
        raise Violation("topics", f"{record}: the log has it under {offsets}")


def _check_reader(reads: list[Record], log: _Messages, start: int | None) -> None:
    """Check the reads of one reader; `start` is the first offset of the topic that was never deleted."""
    following: int | None = None  # the offset at which the reader stands; None when it begins
    for read in reads:
        if read.outcome is not Outcome.OK:
            continue
        if isinstance(read.result, Rejected):  # deleted: it begins anew
            if start is not None and read.argument >= start:
                raise Violation("topics", f"{read} was told of a deletion that never was")
            following = None
            continue
        offset, missed, _ = read.result
        if following is not None and offset - missed != following:
            raise Violation("topics", f"{read} should have begun at {following}")
        if any(log.get(offset - back, (None, False))[1] for back in range(1, missed + 1)):
            raise Violation("topics", f"{read} was told to have missed what is kept")
        following = offset + 1


def _check_age(reads: list[Record], log: _Messages, published_at: dict[Any, float], age_s: float) -> None:
    for read in reads:
        if read.outcome is Outcome.OK and not isinstance(read.result, Rejected):
            offset, missed, _ = read.result
            for one in range(offset - missed, offset):
                value, _ = log[one]
                if read.return_at < published_at[value] + age_s:
                    raise Violation("topics", f"{read} missed {value!r}, which was not {age_s:g} s old")
