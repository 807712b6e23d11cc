"""Sessions: opening and ending, bounds, what is stored for how long, time, and what the leader learns."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from machine_harness import TTL_MS, Harness, restored, snapshot

from raftcoord.machine import Machine, MachineError, SessionView, machine, session
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import SEQUENCE_MAX, Operation
from raftcoord.protocol.values import pack_value

NONCE = b"n" * 16
OPEN = int(Operation.OPEN_SESSION)
SET = int(Operation.VARIABLE_SET)


def test_a_repeated_nonce_opens_one_session_and_a_nonce_of_an_ended_one_a_new_session() -> None:
    harness = Harness()
    hello = [0, 0, 0, OPEN, NONCE, TTL_MS, "c"]
    first = harness.apply(hello, hello)
    session_id = first.results[0][1]
    assert first.results == [(0, session_id)] * 2
    assert first.opened == [SessionView(session_id, TTL_MS, "c", NONCE)]
    assert list(harness.machine.sessions()) == first.opened
    ended = harness.apply([0, 0, 0, int(Operation.EXPIRE_SESSIONS), [session_id, session_id, 999]])
    assert ended.ended == [session_id]
    assert not harness.machine.has_session(session_id)
    again = harness.apply(hello)
    assert again.results[0][1] != session_id
    assert harness.machine.has_session(again.results[0][1])


def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SESSIONS_MAX", 2)
    harness = Harness()
    harness.open(), harness.open()
    applied = harness.apply([0, 0, 0, OPEN, NONCE, TTL_MS, "c"])
    assert applied.results[0][0] == Code.LIMIT
    assert applied.opened == []


def test_unconfirmed_sequences_are_bounded_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "OPEN_SEQUENCES_MAX", 3)
    harness = Harness()
    client = harness.open()
    client.send(Operation.LOCK_ACQUIRE, b"l", True)
    client.send(Operation.LOCK_ACQUIRE, b"l", True)
    client.send(Operation.LOCK_ACQUIRE, b"l", True)
    refused = client.send(Operation.VARIABLE_SET, b"v", b"\x01")
    assert refused[0] is Code.LIMIT
    assert harness.ask(Operation.VARIABLE_GET, b"v", False) == (Code.UNSET, None)
    assert client.repeat(4, Operation.VARIABLE_SET, b"v", b"\x01", acked=1)[0] is Code.OK  # was not stored


def test_a_full_session_can_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "OPEN_SEQUENCES_MAX", 1)
    harness = Harness()
    client = harness.open()
    client.send(Operation.LOCK_ACQUIRE, b"l", True)
    assert client.send(Operation.CLOSE_SESSION) == (Code.OK, None)
    assert harness.machine.counts()["locks"] == 0


def test_a_wait_below_the_floor_keeps_its_answer_until_it_is_listed() -> None:
    harness = Harness()
    client = harness.open()
    client.send(Operation.VARIABLE_GET, b"v", True)
    client.send(Operation.VARIABLE_SET, b"v", b"\x01")
    client.send(Operation.CONFIRM, acked=2)
    answer = client.repeat(1, Operation.VARIABLE_GET, b"v", True)
    assert answer[0] is Code.OK
    client.send(Operation.CONFIRM, acked=[3, 1, 1, 77])
    assert client.repeat(1, Operation.VARIABLE_GET, b"v", True) == (Code.STALE, None)


def test_listing_a_wait_that_is_not_answered_yet_has_no_effect() -> None:
    harness = Harness()
    client = harness.open()
    client.send(Operation.VARIABLE_GET, b"v", True)
    client.send(Operation.CONFIRM, acked=[1, 1])
    assert client.repeat(1, Operation.VARIABLE_GET, b"v", True)[0] is Code.WAITING
    client.send(Operation.VARIABLE_SET, b"v", b"\x01")
    assert client.repeat(1, Operation.VARIABLE_GET, b"v", True)[0] is Code.OK


def test_listing_a_wait_above_the_floor_does_not_let_a_late_duplicate_apply_again() -> None:
    harness = Harness()
    holder, client = harness.open(), harness.open()
    holder.send(Operation.LOCK_ACQUIRE, b"l", True)
    client.send(Operation.LOCK_ACQUIRE, b"l", True)
    harness.expire(holder)
    answer = client.repeat(1, Operation.LOCK_ACQUIRE, b"l", True)
    client.send(Operation.CONFIRM, acked=[0, 1])
    assert client.repeat(1, Operation.LOCK_ACQUIRE, b"l", True) == answer


def test_a_duplicate_carries_its_confirmation_too() -> None:
    harness = Harness()
    client = harness.open()
    client.send(Operation.VARIABLE_SET, b"v", b"\x01")
    client.send(Operation.VARIABLE_SET, b"v", b"\x02")
    client.repeat(2, Operation.VARIABLE_SET, b"v", b"\x02", acked=1)
    assert harness.machine.counts()["answers"] == 1


def test_cancel_in_every_state_of_its_target() -> None:
    harness = Harness()
    client = harness.open()
    client.send(Operation.VARIABLE_SET, b"v", b"\x01")
    client.send(Operation.VARIABLE_GET, b"unset", True)
    revision = client.repeat(1, Operation.VARIABLE_SET, b"v", b"\x01")[1]
    cancelled = (Code.OK, [int(Code.CANCELLED), None])
    assert client.send(Operation.CANCEL, 1) == (Code.OK, [0, revision])
    assert client.send(Operation.CANCEL, 2) == cancelled
    assert client.repeat(2, Operation.VARIABLE_GET, b"unset", True) == (Code.CANCELLED, None)
    assert client.send(Operation.CANCEL, 99) == cancelled
    assert client.repeat(99, Operation.VARIABLE_SET, b"v", b"\x02") == (Code.CANCELLED, None)
    assert client.send(Operation.CANCEL, 6) == (Code.STALE, None)  # itself
    client.send(Operation.CONFIRM, acked=4)
    assert client.send(Operation.CANCEL, 1) == (Code.STALE, None)
    assert client.send(Operation.CANCEL, 0) == (Code.STALE, None)


def test_sessions_that_end_together_never_serve_each_other() -> None:
    harness = Harness()
    holder, waiting, heir = harness.open(), harness.open(), harness.open()
    fence = holder.send(Operation.LOCK_ACQUIRE, b"l", True)[1]
    waiting.send(Operation.LOCK_ACQUIRE, b"l", True)
    heir.send(Operation.LOCK_ACQUIRE, b"l", True)
    applied = harness.expire(holder, waiting)
    assert applied.ended == [holder.session, waiting.session]
    ((session_id, _, code, next_fence),) = harness.take_completed()
    assert (session_id, code) == (heir.session, Code.OK)
    assert next_fence > fence
    harness.expire(heir)
    assert {key: count for key, count in harness.machine.counts().items() if count} == {}


def test_time_never_goes_back() -> None:
    store = Machine()
    store.apply(5, [])
    store.apply(3, [])
    assert store.now_ms == 5
    assert restored(snapshot(store)).now_ms == 5


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x91" * 5000,
        msgpack.packb([]),
        msgpack.packb([1]),
        msgpack.packb([1, {}]),
        msgpack.packb([1, [], 2]),
        msgpack.packb([1.5, []]),
        msgpack.packb([-1, []]),
        msgpack.packb([2**63, []]),
        msgpack.packb([True, []]),
        msgpack.packb([1, []]) + b"\x00",
    ],
    ids=repr,
)
def test_an_entry_that_is_no_batch_raises_and_changes_nothing(payload: bytes) -> None:
    harness = Harness()
    harness.open()
    before = snapshot(harness.machine)
    with pytest.raises(MachineError):
        harness.machine.apply_entry(payload)
    assert snapshot(harness.machine) == before


@pytest.mark.parametrize(
    "command",
    [
        None,
        [],
        [1, 1, 0],
        (1, 1, 0, SET, b"v", b"\x01"),
        ["1", 1, 0, SET, b"v", b"\x01"],
        [1, True, 0, SET, b"v", b"\x01"],
        [1, 0, 0, SET, b"v", b"\x01"],
        [1, SEQUENCE_MAX + 1, 0, SET, b"v", b"\x01"],
        [1, 1, None, SET, b"v", b"\x01"],
        [1, 1, -1, SET, b"v", b"\x01"],
        [1, 1, [], SET, b"v", b"\x01"],
        [1, 1, 0, float(SET), b"v", b"\x01"],
        [1, 1, 0, SET, b"v"],
        [1, 1, 0, SET, b"v", b"\x01", None],
        [1, 1, 0, SET, b"", b"\x01"],
        [1, 1, 0, int(Operation.QUEUE_SIZE), b"q"],
        [1, 1, 0, int(Operation.EXPIRE_SESSIONS), [1]],
        [0, 0, 0, OPEN, NONCE, TTL_MS, "\ud800"],
    ],
    ids=repr,
)
def test_a_malformed_command_is_answered_and_changes_nothing(command: Any) -> None:
    harness = Harness()
    assert harness.open().session == 1
    before = snapshot(harness.machine)
    assert harness.apply(command).results[0][0] == Code.MALFORMED
    assert snapshot(harness.machine) == before


@pytest.mark.parametrize("session_id", [0, 99])
def test_an_unknown_session_is_lost(session_id: int) -> None:
    applied = Harness().apply([session_id, 1, 0, SET, b"v", pack_value(1)])
    assert applied.results == [(int(Code.SESSION_LOST), None)]
