"""Topics: what is kept and for how long, what is missed, and that no message is skipped silently."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import msgpack
import pytest
from machine_harness import Client, Harness

from raftcoord.machine.topic import Topic
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import FRAME_BYTES_MAX
from raftcoord.protocol.operations import BATCH_ITEMS_MAX, DRAIN_BYTES_MAX, Operation
from raftcoord.protocol.values import VALUE_BYTES_MAX

T = b"t"
PUBLISH, READ, STATUS, DELETE = (
    Operation.TOPIC_PUBLISH,
    Operation.TOPIC_READ,
    Operation.TOPIC_STATUS,
    Operation.TOPIC_DELETE,
)
KEEP_ALL = [1000, 10**9, 0]


def publish(client: Client, *values: bytes, keep: list[int] = KEEP_ALL) -> int:
    """Publish, and return the offset of the first."""
    code, (first, following) = client.send(PUBLISH, T, keep, list(values))
    assert code is Code.OK
    assert following == first + len(values)
    return int(first)


def status(harness: Harness) -> list[int]:
    payload: list[int] = harness.ask(STATUS, T)[1]
    return payload


def read(harness: Harness, offset: int, count_max: int = BATCH_ITEMS_MAX) -> Any:
    return harness.ask(READ, T, offset, count_max, False)


@pytest.mark.parametrize("seed", range(30))
def test_a_reader_sees_every_message_in_order_or_is_told_how_many_it_missed(seed: int) -> None:
    rng = random.Random(seed)
    harness = Harness()
    publisher, subscriber = harness.open(), harness.open()
    seen: list[bytes] = []
    offset = missed_total = published = 0
    waiting = False

    def take(payload: list[Any]) -> None:
        nonlocal offset, missed_total
        following, missed, values = payload
        assert values
        if seen:
            assert int(values[0]) == int(seen[-1]) + 1 + missed
        seen.extend(values)
        missed_total += missed
        offset = following

    for _ in range(150):
        harness.now_ms += rng.choice([0, 0, 5, 40])
        if rng.random() < 0.5:
            count = rng.randint(1, 4)
            keep = rng.choice([KEEP_ALL, [3, 1000, 0], [100, 8, 0], [100, 1000, 60]])
            publish(publisher, *(b"%d" % (published + n) for n in range(count)), keep=keep)
            published += count
        elif not waiting:
            code, payload = subscriber.send(READ, T, offset, rng.choice([1, 2, 50]), True)
            waiting = code is Code.WAITING
            if not waiting:
                take(payload)
        else:
            harness.let_pass(rng.choice([1, 100]))
        if rng.random() < 0.1:
            harness.restore()
        for _, _, code, payload in harness.take_completed():
            assert code is Code.OK
            waiting = False
            take(payload)
    if waiting:
        subscriber.send(Operation.CANCEL, subscriber.sequence)
    while read(harness, offset)[0] is Code.OK:
        take(read(harness, offset)[1])
    gone = status(harness)[1] - offset  # aged out behind the last one that was read
    assert [int(value) for value in seen] == sorted({int(value) for value in seen})
    assert len(seen) + missed_total + gone == published


def test_retention_by_count_also_within_one_publish() -> None:
    harness = Harness()
    client = harness.open()
    first = publish(client, b"1", b"2", b"3", b"4", b"5", keep=[2, 1000, 0])
    assert status(harness) == [first + 3, first + 5, 2]
    assert read(harness, 0) == (Code.OK, [first + 5, 3, [b"4", b"5"]])
    assert read(harness, first + 1) == (Code.OK, [first + 5, 2, [b"4", b"5"]])


def test_retention_by_bytes_keeps_the_newest_message_however_large() -> None:
    harness = Harness()
    client = harness.open()
    first = publish(client, b"aaaa", b"bb", b"cc", keep=[100, 4, 0])
    assert status(harness) == [first + 1, first + 3, 4]
    publish(client, b"d" * 50, keep=[100, 4, 0])
    assert status(harness) == [first + 3, first + 4, 50]
    publish(client, b"e", keep=[100, 4, 0])
    assert status(harness) == [first + 4, first + 5, 1]


def test_retention_by_age_needs_no_publish_and_its_bound_is_exact() -> None:
    harness = Harness()
    client = harness.open()
    first = publish(client, b"1", keep=[100, 1000, 50])
    harness.now_ms = 20
    publish(client, b"2", b"3", keep=[100, 1000, 50])
    assert harness.machine.next_deadline_ms() == 50
    harness.let_pass(29)
    assert status(harness)[0] == first
    harness.restore()
    harness.let_pass(1)
    assert status(harness) == [first + 1, first + 3, 2]
    assert harness.machine.next_deadline_ms() == 70
    harness.let_pass(500)
    assert status(harness) == [first + 3, first + 3, 0]
    assert harness.machine.next_deadline_ms() is None
    assert publish(client, b"4") == first + 3
    assert read(harness, 0) == (Code.OK, [first + 4, 3, [b"4"]])


def test_the_retention_of_the_newest_publish_is_that_of_the_whole_topic() -> None:
    harness = Harness()
    client = harness.open()
    first = publish(client, b"1", b"2", b"3", keep=[100, 1000, 50])
    harness.now_ms = 40
    publish(client, b"4", keep=[100, 1000, 0])
    assert harness.machine.next_deadline_ms() is None
    harness.let_pass(1000)
    assert status(harness)[0] == first
    publish(client, b"5", keep=[100, 1000, 10])
    assert status(harness) == [first + 4, first + 5, 1]  # the others are too old by now


def test_a_read_is_bounded_in_messages_and_bytes_but_never_empty() -> None:
    harness = Harness()
    client = harness.open()
    big = b"v" * VALUE_BYTES_MAX
    first = publish(client, *[big] * 6)
    assert read(harness, first, 2)[1][0] == first + 2
    code, payload = read(harness, first)
    assert code is Code.OK
    assert len(payload[2]) == DRAIN_BYTES_MAX // VALUE_BYTES_MAX
    assert len(msgpack.packb([1, 0, payload])) <= FRAME_BYTES_MAX
    assert read(harness, payload[0])[1] == [first + 6, 0, [big] * 2]


class NotIndexed(deque[bytes]):
    """Every access by index walks from an end, which makes a read in the middle quadratic."""

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError


def test_a_read_walks_to_its_messages_once_from_either_end() -> None:
    first = 7
    topic = Topic(T, 0)
    topic.start, topic.next_offset = first, first + 100
    topic.values = NotIndexed(b"%d" % number for number in range(100))
    for begin in range(100):
        for count in (1, 3, 49, 50, 51, 100, 1000):
            following = min(begin + count, 100)
            values = [b"%d" % number for number in range(begin, following)]
            assert topic.read(first + begin, count) == [first + following, 0, values]


def test_an_offset_beyond_the_end_waits_until_it_exists_and_holds_up_nobody() -> None:
    harness = Harness()
    client, far, near = harness.open(), harness.open(), harness.open()
    first = publish(client, b"1")
    far.send(READ, T, first + 3, 10, True)
    near.send(READ, T, first + 1, 10, True)
    publish(client, b"2")
    assert harness.take_completed() == [(near.session, 1, Code.OK, [first + 2, 0, [b"2"]])]
    harness.restore()
    publish(client, b"3", b"4")
    assert harness.take_completed() == [(far.session, 1, Code.OK, [first + 4, 0, [b"4"]])]


def test_readers_are_served_in_line_and_each_its_own_share() -> None:
    harness = Harness()
    client = harness.open()
    readers = [harness.open() for _ in range(4)]
    for reader, count_max in zip(readers, (1, 5, 1, 2), strict=True):
        reader.send(READ, T, 0, count_max, True)
    first = publish(client, b"1", b"2", b"3")
    assert [(session, payload) for session, _, _, payload in harness.take_completed()] == [
        (readers[0].session, [first + 1, 0, [b"1"]]),
        (readers[1].session, [first + 3, 0, [b"1", b"2", b"3"]]),
        (readers[2].session, [first + 1, 0, [b"1"]]),
        (readers[3].session, [first + 2, 0, [b"1", b"2"]]),
    ]


def test_an_offset_of_a_deleted_topic_never_reads_the_next_one() -> None:
    harness = Harness()
    client, waiting = harness.open(), harness.open()
    first = publish(client, *[b"old"] * 500)
    waiting.send(READ, T, first + 500, 1, True)
    assert client.send(DELETE, T) == (Code.OK, True)
    assert harness.take_completed() == [(waiting.session, 1, Code.CLOSED, None)]
    assert client.send(READ, T, first + 500, 1, True) == (Code.CLOSED, None)
    assert status(harness) == [0, 0, 0]
    harness.restore()
    again = publish(client, *[b"new"] * 900)
    assert again > first + 500
    for offset in (1, first, first + 499, first + 500, again - 1):
        assert read(harness, offset) == (Code.CLOSED, None)
    assert read(harness, again, 1) == (Code.OK, [again + 1, 0, [b"new"]])
    assert read(harness, 0, 1) == (Code.OK, [again + 1, 0, [b"new"]])
    assert client.send(Operation.LOCK_ACQUIRE, b"l", False)[1] > again - 1  # numbers still grow


def test_deleting_a_topic_that_is_only_waited_for_ends_the_waits() -> None:
    harness = Harness()
    client = harness.open()
    client.send(READ, T, 0, 1, True)
    assert client.send(DELETE, T) == (Code.OK, False)
    assert harness.take_completed() == [(client.session, 1, Code.CLOSED, None)]
    assert harness.machine.counts()["topics"] == 0


def test_a_topic_of_a_deleted_one_has_no_deadline_of_it() -> None:
    harness = Harness()
    client = harness.open()
    publish(client, b"1", keep=[100, 1000, 50])
    client.send(DELETE, T)
    assert harness.machine.next_deadline_ms() is None
    harness.now_ms = 49
    publish(client, b"2", keep=[100, 1000, 50])
    harness.let_pass(1)
    assert len(read(harness, 0)[1][2]) == 1


def test_an_older_state_waits_for_an_offset_that_it_does_not_know_yet() -> None:
    newer, older = Harness(), Harness()
    publisher, same = newer.open(), older.open()
    offset = publish(publisher, b"1")
    assert older.machine.follow_topic(T, offset, 10) is None
    publish(same, b"1")
    assert older.machine.follow_topic(T, offset, 10) == (Code.OK, [offset + 1, 0, [b"1"]])
    assert older.machine.follow_topic(T, offset + 1, 10) is None


def test_an_older_state_knows_what_was_deleted() -> None:
    harness = Harness()
    client = harness.open()
    offset = publish(client, b"1", b"2")
    client.send(DELETE, T)
    for one in (offset, offset + 1, offset + 2):
        assert harness.machine.follow_topic(T, one, 10) == (Code.CLOSED, None)
    next_offset = publish(client, b"3")
    assert harness.machine.follow_topic(T, offset, 10) == (Code.CLOSED, None)
    assert harness.machine.follow_topic(T, next_offset, 10) == (Code.OK, [next_offset + 1, 0, [b"3"]])


@pytest.mark.parametrize("seed", range(30))
def test_a_reader_between_states_of_any_age_sees_each_topic_in_order(seed: int) -> None:
    rng = random.Random(seed)
    harnesses = [Harness(), Harness(), Harness()]  # the first one is never behind
    publishers = [harness.open() for harness in harnesses]
    script: list[list[bytes]] = []  # what to publish; nothing: delete
    done = [0, 0, 0]
    log: dict[int, bytes] = {}
    deleted_until = 0  # the last topic that was deleted had offsets up to this one
    offset = seen = deletions_seen = 0

    def advance(place: int) -> None:
        nonlocal deleted_until
        values = script[done[place]]
        done[place] += 1
        if values:
            log.update(enumerate(values, publish(publishers[place], *values)))
        else:
            publishers[place].send(DELETE, T)
            deleted_until = max(log, default=0) + 1 if place == 0 else deleted_until

    for step in range(400):
        if rng.random() < 0.3:
            script.append([b"%d.%d" % (step, k) for k in range(rng.choice((0, 1, 1, 2, 3)))])
        while done[0] < len(script):
            advance(0)
        if done[laggard := rng.randrange(1, 3)] < len(script):
            advance(laggard)
        if not offset:
            offset = status(harnesses[0])[1]
            continue
        answer = rng.choice(harnesses).machine.follow_topic(T, offset, 2)
        if answer is not None and answer[0] == Code.CLOSED:
            assert offset <= deleted_until
            offset, deletions_seen = 0, deletions_seen + 1
        elif answer is not None:
            following, missed, values = answer[1]
            assert (missed, following) == (0, offset + len(values))
            assert values == [log[offset + k] for k in range(len(values))]
            offset, seen = following, seen + len(values)
    assert seen > 10
    assert deletions_seen > 0
