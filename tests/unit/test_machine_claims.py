"""Claims: deliveries are counted, dead letters are buried, nothing is lost. Their order: transcripts."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from machine_harness import Client, Harness

from raftcoord.machine import object_kind
from raftcoord.machine.queue import GET_BYTES_MAX
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import FRAME_BYTES_MAX
from raftcoord.protocol.operations import DRAIN_BYTES_MAX, Operation
from raftcoord.protocol.values import VALUE_BYTES_MAX

Q, DEAD = b"q", b"dead"
PUT, GET, CLAIM = Operation.QUEUE_PUT, Operation.QUEUE_GET, Operation.QUEUE_CLAIM
ACK, NACK, CLOSE = Operation.QUEUE_ACK, Operation.QUEUE_NACK, Operation.QUEUE_CLOSE
FOREVER = [0, b""]


def with_items(*values: bytes, maxsize: int = 0) -> tuple[Harness, Client]:
    harness = Harness()
    client = harness.open()
    client.send(PUT, Q, maxsize, list(values), False)
    return harness, client


def claim(client: Client, limits: list[Any] = FOREVER) -> tuple[int, bytes, int]:
    code, payload = client.send(CLAIM, Q, 0, limits, False)
    assert code is Code.OK
    fence, value, deliveries = payload
    return fence, value, deliveries


def drain(client: Client, name: bytes = Q) -> list[bytes]:
    values: list[bytes] = client.send(GET, name, 0, -1, False)[1]
    return values


@pytest.mark.parametrize("end", ["nack", "expire", "close"])
@pytest.mark.parametrize("dead_letters", [b"", DEAD, Q])
def test_after_its_last_delivery_an_item_is_buried(end: str, dead_letters: bytes) -> None:
    harness, other = with_items(b"poison", b"next")
    for deliveries in (1, 2, 3):
        worker = harness.open()
        fence, value, counted = claim(worker, [3, dead_letters])
        assert (value, counted) == (b"poison", deliveries)
        harness.restore()
        if end == "nack":
            assert worker.send(NACK, Q, fence) == (Code.OK, None)
        elif end == "expire":
            harness.expire(worker)
        else:
            worker.send(Operation.CLOSE_SESSION)
    expected = {b"": [b"next"], DEAD: [b"next"], Q: [b"next", b"poison"]}
    harness.restore()
    if dead_letters == DEAD:
        assert other.send(CLAIM, DEAD, 0, FOREVER, False)[1][1:] == [b"poison", 1]  # counted anew
    assert drain(other) == expected[dead_letters]


def test_the_limits_are_those_of_the_last_claim() -> None:
    _, client = with_items(b"item")
    for limits in (FOREVER, [9, DEAD], [4, DEAD]):
        fence, _, _ = claim(client, limits)
        client.send(NACK, Q, fence)
    fence, _, deliveries = claim(client, [2, DEAD])
    assert deliveries == 4
    client.send(NACK, Q, fence)
    assert drain(client) == []
    assert drain(client, DEAD) == [b"item"]


def test_a_dead_letter_serves_who_waits_for_it() -> None:
    harness, client = with_items(b"item")
    waiting = harness.open()
    waiting.send(GET, DEAD, 0, 1, True)
    fence, _, _ = claim(client, [1, DEAD])
    client.send(NACK, Q, fence)
    assert harness.take_completed() == [(waiting.session, 1, Code.OK, [b"item"])]


def test_dead_letters_may_exceed_maxsize_like_all_that_comes_back() -> None:
    harness, client = with_items(b"1", b"2", maxsize=2)
    client.send(PUT, DEAD, 1, [b"0"], False)
    fences = [claim(client, [1, DEAD])[0] for _ in range(2)]
    client.send(PUT, Q, 2, [b"3", b"4"], False)
    for fence in fences:
        client.send(NACK, Q, fence)
    assert harness.ask(Operation.QUEUE_SIZE, DEAD) == (Code.OK, 3)


def test_without_room_for_another_queue_an_item_is_delivered_again_rather_than_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness, client = with_items(b"item")
    monkeypatch.setattr(object_kind, "OBJECTS_PER_KIND_MAX", 1)
    fence, _, _ = claim(client, [1, DEAD])
    client.send(NACK, Q, fence)
    worker = harness.open()
    assert claim(worker, [1, DEAD])[1:] == (b"item", 2)
    harness.expire(worker)
    assert claim(client, [1, DEAD])[1:] == (b"item", 3)


def test_deliveries_are_kept_by_a_get_that_comes_back() -> None:
    harness, client = with_items(b"item")
    fence, _, _ = claim(client)
    client.send(NACK, Q, fence)
    worker = harness.open()
    assert worker.send(GET, Q, 0, 1, False) == (Code.OK, [b"item"])
    harness.restore()
    harness.expire(worker)
    assert claim(client)[2] == 2


def test_a_claim_that_is_undone_was_no_delivery() -> None:
    _, client = with_items(b"item")
    for _ in range(3):
        claim(client, [1, b""])
        assert client.send(Operation.RETURN, client.sequence) == (Code.OK, 1)
        assert client.send(Operation.RETURN, client.sequence - 1) == (Code.OK, 0)
    fence, _, deliveries = claim(client, [1, b""])
    assert deliveries == 1
    assert client.send(ACK, Q, fence) == (Code.OK, None)
    assert client.send(Operation.RETURN, client.sequence - 1) == (Code.OK, 0)


@pytest.mark.parametrize("operation", [ACK, NACK])
def test_only_who_claimed_it_ends_a_claim_and_only_in_its_queue(operation: Operation) -> None:
    harness, client = with_items(b"item")
    fence, _, _ = claim(client)
    lock = client.send(Operation.LOCK_ACQUIRE, Q, False)[1]
    for who, name, number in (
        (harness.open(), Q, fence),
        (client, DEAD, fence),
        (client, Q, fence + 5),
        (client, Q, 0),
        (client, Q, lock),
    ):
        assert who.send(operation, name, number) == (Code.NOT_HOLDER, None)
    assert client.send(Operation.LOCK_RELEASE, Q, fence) == (Code.NOT_HOLDER, None)
    assert client.send(operation, Q, fence) == (Code.OK, None)
    assert client.send(operation, Q, fence) == (Code.NOT_HOLDER, None)


def test_closing_a_queue_makes_its_claims_void_and_buries_nothing() -> None:
    harness, client = with_items(b"item")
    worker = harness.open()
    fence, _, _ = claim(worker, [1, DEAD])
    client.send(CLOSE, Q)
    client.send(PUT, Q, 0, [b"new"], False)
    assert worker.send(ACK, Q, fence) == (Code.NOT_HOLDER, None)
    harness.restore()
    harness.expire(worker)
    assert drain(client) == [b"new"]
    assert drain(client, DEAD) == []


def test_a_queue_lives_while_an_item_of_it_is_claimed() -> None:
    harness, client = with_items(b"item")
    fence, _, _ = claim(client)
    harness.restore()
    assert harness.machine.counts()["queues"] == 1
    client.send(ACK, Q, fence)
    assert harness.machine.counts()["queues"] == 0


def test_a_claim_makes_room_for_who_waits_to_put() -> None:
    harness, client = with_items(b"1", maxsize=1)
    client.send(PUT, Q, 1, [b"2"], True)
    claim(client)
    assert harness.take_completed() == [(client.session, 2, Code.OK, 1)]


def test_getters_and_claimers_stand_in_one_line() -> None:
    harness = Harness()
    client = harness.open()
    client.send(GET, Q, 0, 2, True)
    client.send(CLAIM, Q, 0, FOREVER, True)
    client.send(PUT, Q, 0, [b"1"], False)
    assert client.send(CLAIM, Q, 0, FOREVER, False) == (Code.EMPTY, None)
    client.send(PUT, Q, 0, [b"2"], False)
    client.send(PUT, Q, 0, [b"3"], False)
    assert [(done[1], done[2]) for done in harness.take_completed()] == [(1, Code.OK), (2, Code.OK)]


def test_items_that_came_back_count_with_their_size() -> None:
    big = b"v" * VALUE_BYTES_MAX
    harness, client = with_items(*[big] * 9)
    fences = [claim(client)[0] for _ in range(9)]
    for fence in fences:
        client.send(NACK, Q, fence)
    harness.restore()
    assert client.send(GET, Q, 0, 9, False)[0] is Code.TOO_LARGE
    values = drain(client)
    assert len(values) == DRAIN_BYTES_MAX // VALUE_BYTES_MAX
    assert len(msgpack.packb([1, 0, values])) <= FRAME_BYTES_MAX
    assert GET_BYTES_MAX < 9 * VALUE_BYTES_MAX
