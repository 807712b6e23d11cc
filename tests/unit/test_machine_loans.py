"""Queues: loans and how they come back, bounds, close; the order of service is in the transcripts."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from machine_harness import Harness, restored, snapshot

from raftcoord.machine import queue
from raftcoord.machine.queue import GET_BYTES_MAX
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import FRAME_BYTES_MAX
from raftcoord.protocol.operations import BATCH_ITEMS_MAX, DRAIN_BYTES_MAX, SEQUENCE_MAX, Operation
from raftcoord.protocol.values import VALUE_BYTES_MAX

Q = b"q"
PUT, GET, CLOSE, RETURN = (
    Operation.QUEUE_PUT,
    Operation.QUEUE_GET,
    Operation.QUEUE_CLOSE,
    Operation.RETURN,
)
MIB = b"v" * VALUE_BYTES_MAX


def fill(harness: Harness, *values: bytes) -> None:
    harness.open().send(PUT, Q, 0, list(values), False)


def items(harness: Harness) -> Any:
    """Drain the queue in a session of its own."""
    return harness.open().send(GET, Q, 0, -1, False)[1]


def test_sessions_that_end_together_return_their_items_in_the_order_in_which_they_were_taken() -> None:
    harness = Harness()
    fill(harness, b"1", b"2", b"3", b"4", b"5")
    one, other = harness.open(), harness.open()
    for client in (one, other, one, other):
        client.send(GET, Q, 0, 1, False)
    harness.expire(one, other)
    assert items(harness) == [b"1", b"2", b"3", b"4", b"5"]


def test_the_order_in_which_items_were_taken_survives_a_snapshot() -> None:
    harness = Harness()
    fill(harness, b"1", b"2", b"3")
    one, other = harness.open(), harness.open()
    for client in (other, one, other):
        client.send(GET, Q, 0, 1, False)
    harness.machine = restored(snapshot(harness.machine))
    harness.expire(one, other)
    assert items(harness) == [b"1", b"2", b"3"]


def test_return_from_a_closed_queue_changes_nothing() -> None:
    harness = Harness()
    fill(harness, b"1")
    client = harness.open()
    taken = client.send(GET, Q, 0, 1, False)
    client.send(CLOSE, Q)
    assert client.send(RETURN, 1) == (Code.OK, 0)
    assert client.repeat(1, GET, Q, 0, 1, False) == taken == (Code.OK, [b"1"])


def test_loans_of_a_closed_queue_do_not_come_back_into_its_successor() -> None:
    harness = Harness()
    fill(harness, b"1")
    client = harness.open()
    client.send(GET, Q, 0, 1, False)
    client.send(CLOSE, Q)
    fill(harness, b"new")
    harness.expire(client)
    assert items(harness) == [b"new"]


def test_return_serves_a_waiting_get_and_replaces_the_answer() -> None:
    harness = Harness()
    fill(harness, b"1", b"2")
    client, waiting = harness.open(), harness.open()
    client.send(GET, Q, 0, 2, False)
    waiting.send(GET, Q, 0, 1, True)
    assert client.send(RETURN, 1) == (Code.OK, 2)
    assert harness.take_completed() == [(waiting.session, 1, Code.OK, [b"1"])]
    assert client.repeat(1, GET, Q, 0, 2, False) == (Code.CANCELLED, None)
    assert client.send(RETURN, 1) == (Code.OK, 0)
    assert items(harness) == [b"2"]


@pytest.mark.parametrize("target", [0, 1, 2, 3, 9])
def test_return_of_what_is_no_loan_changes_nothing(target: int) -> None:
    harness = Harness()
    client = harness.open()
    client.send(Operation.VARIABLE_SET, b"v", b"\x01")
    client.send(GET, Q, 0, 1, True)
    assert client.send(RETURN, target) == (Code.OK, 0)  # 1 is a set, 2 waits, 3 is the RETURN itself
    assert harness.machine.counts()["waiters"] == 1


def test_returned_items_may_exceed_the_maxsize_and_hold_up_putters() -> None:
    harness = Harness()
    client = harness.open()
    client.send(PUT, Q, 1, [b"1"], False)
    client.send(GET, Q, 1, 1, False)
    client.send(PUT, Q, 1, [b"2"], False)
    putter = harness.open()
    assert putter.send(PUT, Q, 1, [b"3"], True) == (Code.WAITING, None)
    assert client.send(RETURN, 2) == (Code.OK, 1)
    assert harness.ask(Operation.QUEUE_SIZE, Q) == (Code.OK, 2)
    putter.send(GET, Q, 1, 1, False)
    assert harness.take_completed() == []
    assert putter.send(GET, Q, 1, 1, False) == (Code.OK, [b"2"])
    assert harness.take_completed() == [(putter.session, 1, Code.OK, 1)]


def test_a_confirmed_item_does_not_come_back() -> None:
    harness = Harness()
    fill(harness, b"1", b"2")
    client = harness.open()
    client.send(GET, Q, 0, 1, False)
    client.send(GET, Q, 0, 1, False, acked=1)
    harness.expire(client)
    assert items(harness) == [b"2"]


def test_closing_a_session_takes_its_last_confirmation_in_first() -> None:
    harness = Harness()
    fill(harness, b"1", b"2")
    client = harness.open()
    client.send(GET, Q, 0, 1, False)
    client.send(GET, Q, 0, 1, False)
    assert client.send(Operation.CLOSE_SESSION, acked=1) == (Code.OK, None)
    assert items(harness) == [b"2"]


def test_the_items_of_one_answer_fit_into_a_frame() -> None:
    harness = Harness()
    for _ in range(8):
        fill(harness, MIB)
    client = harness.open()
    assert client.send(GET, Q, 0, 8, False)[0] is Code.TOO_LARGE
    assert harness.ask(Operation.QUEUE_SIZE, Q) == (Code.OK, 8)
    assert client.send(GET, Q, 0, 7, False) == (Code.OK, [MIB] * 7)


def test_the_bound_on_an_answer_leaves_room_for_what_msgpack_adds() -> None:
    item = b"v" * (GET_BYTES_MAX // BATCH_ITEMS_MAX)
    answer = [SEQUENCE_MAX, 0, [0, [item] * BATCH_ITEMS_MAX]]
    assert len(msgpack.packb(answer)) <= FRAME_BYTES_MAX


def test_a_drain_takes_a_bounded_part() -> None:
    harness = Harness()
    for _ in range(6):
        fill(harness, MIB)
    client = harness.open()
    assert client.send(GET, Q, 0, -1, False) == (Code.OK, [MIB] * (DRAIN_BYTES_MAX // VALUE_BYTES_MAX))
    assert client.send(GET, Q, 0, -1, False) == (Code.OK, [MIB] * 2)
    fill(harness, *[b"v"] * BATCH_ITEMS_MAX)
    fill(harness, b"w")
    assert client.send(GET, Q, 0, -1, False) == (Code.OK, [b"v"] * BATCH_ITEMS_MAX)
    assert client.send(GET, Q, 0, -1, False) == (Code.OK, [b"w"])
    assert client.send(GET, Q, 0, -1, False) == (Code.OK, [])


def test_a_waiting_get_whose_items_cannot_fit_ends_without_taking_any() -> None:
    harness = Harness()
    greedy, modest = harness.open(), harness.open()
    greedy.send(GET, Q, 0, 8, True)
    modest.send(GET, Q, 0, 1, True)
    for _ in range(8):
        fill(harness, MIB)
    (first, second) = harness.take_completed()
    assert first[:3] == (greedy.session, 1, Code.TOO_LARGE)
    assert second == (modest.session, 1, Code.OK, [MIB])
    assert harness.ask(Operation.QUEUE_SIZE, Q) == (Code.OK, 7)


def test_an_unbounded_queue_leaves_nothing_behind_and_a_bounded_one_stays_until_closed() -> None:
    harness = Harness()
    client = harness.open()
    client.send(GET, Q, 0, 1, False)
    assert harness.machine.counts()["queues"] == 0
    client.send(GET, Q, 3, 1, False)
    assert harness.machine.counts()["queues"] == 1
    assert client.send(PUT, Q, 0, [b"v"] * 4, False)[0] is Code.TOO_LARGE  # the first maxsize counts
    assert client.send(PUT, b"other", 1, [b"v"] * 2, False)[0] is Code.TOO_LARGE
    assert client.send(GET, b"other", 1, 2, True)[0] is Code.TOO_LARGE
    assert harness.machine.counts()["queues"] == 1
    assert client.send(CLOSE, Q) == (Code.OK, True)
    assert client.send(CLOSE, Q) == (Code.OK, False)
    assert harness.machine.counts()["queues"] == 0


def test_an_emptied_queue_is_forgotten_when_its_last_loan_is_confirmed() -> None:
    harness = Harness()
    client = harness.open()
    client.send(PUT, Q, 0, [b"1"], False)
    client.send(GET, Q, 0, 1, False)
    assert harness.machine.counts()["queues"] == 1
    client.send(Operation.CONFIRM, acked=2)
    assert harness.machine.counts()["queues"] == 0


def test_a_queue_without_maxsize_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "QUEUE_ITEMS_MAX", 2)
    harness = Harness()
    client = harness.open()
    assert client.send(PUT, Q, 0, [b"1", b"2"], False) == (Code.OK, 2)
    assert client.send(PUT, Q, 9, [b"3"], False) == (Code.FULL, None)
    assert client.send(PUT, Q, 0, [b"3"], True) == (Code.WAITING, None)
    assert client.send(GET, Q, 0, 1, False) == (Code.OK, [b"1"])
    assert harness.take_completed() == [(client.session, 3, Code.OK, 2)]


def test_cancelling_the_head_of_the_line_serves_those_behind() -> None:
    harness = Harness()
    greedy, modest = harness.open(), harness.open()
    greedy.send(GET, Q, 0, 3, True)
    modest.send(GET, Q, 0, 1, True)
    fill(harness, b"1", b"2")
    assert harness.take_completed() == []
    assert greedy.send(Operation.CANCEL, 1) == (Code.OK, [int(Code.CANCELLED), None])
    assert harness.take_completed() == [(modest.session, 1, Code.OK, [b"1"])]


def test_where_a_getter_and_a_putter_can_both_be_served_the_getter_is_first() -> None:
    harness = Harness()
    greedy, putter, getter = harness.open(), harness.open(), harness.open()
    putter.send(PUT, Q, 2, [b"1"], False)
    greedy.send(GET, Q, 2, 2, True)
    greedy.send(PUT, Q, 2, [b"x", b"y"], True)
    putter.send(PUT, Q, 2, [b"2"], True)
    getter.send(GET, Q, 2, 1, True)
    harness.expire(greedy)
    assert harness.take_completed() == [
        (getter.session, 1, Code.OK, [b"1"]),
        (putter.session, 2, Code.OK, 1),
    ]
