"""Tables of the machine are bounded, and say so: objects, waiters, and what a session or an object holds."""

from __future__ import annotations

from typing import Any

import pytest
from machine_harness import Harness, snapshot

from raftcoord.machine import context, object_kind, queue, rwlock
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation

KEEP = [10, 1000, 0]
CLAIM = (0, [0, b""])
# What makes an object, by kind; the name comes first.
MAKES: list[tuple[Operation, tuple[Any, ...]]] = [
    (Operation.VARIABLE_SET, (b"\x01",)),
    (Operation.VARIABLE_SET_WITH, (b"\x01", 10, True)),
    (Operation.VARIABLE_ADD, (b"\x01",)),
    (Operation.VARIABLE_COMPARE_AND_SET, ([], b"\x01")),
    (Operation.VARIABLE_GET, (True,)),
    (Operation.QUEUE_PUT, (0, [b"\x01"], False)),
    (Operation.QUEUE_GET, (0, 1, True)),
    (Operation.QUEUE_CLAIM, (*CLAIM, True)),
    (Operation.LOCK_ACQUIRE, (True,)),
    (Operation.EVENT_SET, ()),
    (Operation.EVENT_WAIT, (True,)),
    (Operation.SEMAPHORE_ACQUIRE, (1, True)),
    (Operation.RWLOCK_ACQUIRE, (True, True)),
    (Operation.RWLOCK_ACQUIRE, (False, True)),
    (Operation.TOPIC_PUBLISH, (KEEP, [b"\x01"])),
    (Operation.TOPIC_READ, (0, 1, True)),
]


@pytest.mark.parametrize(("operation", "arguments"), MAKES)
def test_objects_of_a_kind_are_bounded(
    monkeypatch: pytest.MonkeyPatch, operation: Operation, arguments: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(object_kind, "OBJECTS_PER_KIND_MAX", 1)
    harness = Harness()
    client = harness.open()
    assert client.send(operation, b"first", *arguments)[0] in (Code.OK, Code.WAITING)
    before = harness.machine.counts()
    assert client.send(operation, b"second", *arguments)[0] is Code.LIMIT
    assert harness.machine.counts() == before | {"answers": before["answers"] + 1}
    harness.restore()


def test_names_of_multilocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_kind, "OBJECTS_PER_KIND_MAX", 3)
    harness = Harness()
    client = harness.open()
    acquire = Operation.MULTILOCK_ACQUIRE
    assert client.send(acquire, [b"a", b"b"], 2, False)[0] is Code.OK
    assert client.send(acquire, [b"c", b"d"], 2, False)[0] is Code.LIMIT
    assert client.send(acquire, [b"a", b"c", b"d"], 3, True)[0] is Code.LIMIT
    assert client.send(acquire, [b"a", b"b", b"c"], 3, True)[0] is Code.WAITING
    assert client.send(acquire, [b"d"], 1, False)[0] is Code.LIMIT
    assert harness.machine.counts()["multilocks"] == 3


WAITS: list[tuple[Operation, tuple[Any, ...]]] = [
    (Operation.LOCK_ACQUIRE, (b"n", True)),
    (Operation.QUEUE_GET, (b"n", 0, 1, True)),
    (Operation.QUEUE_CLAIM, (b"n", *CLAIM, True)),
    (Operation.VARIABLE_GET, (b"n", True)),
    (Operation.EVENT_WAIT, (b"n", True)),
    (Operation.SEMAPHORE_ACQUIRE, (b"n", 1, True)),
    (Operation.MULTILOCK_ACQUIRE, ([b"n", b"m"], 2, True)),
    (Operation.RWLOCK_ACQUIRE, (b"n", False, True)),
    (Operation.TOPIC_READ, (b"n", 0, 1, True)),
]


@pytest.mark.parametrize(("operation", "arguments"), WAITS)
def test_waiters_of_an_object_are_bounded(
    monkeypatch: pytest.MonkeyPatch, operation: Operation, arguments: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(context, "WAITERS_PER_OBJECT_MAX", 1)
    harness = Harness()
    client = harness.open()
    codes = [client.send(operation, *arguments)[0] for _ in range(3)]
    assert codes[1:] in ([Code.WAITING, Code.LIMIT], [Code.LIMIT, Code.LIMIT])
    assert client.repeat(client.sequence, operation, *arguments)[0] is Code.LIMIT
    assert harness.machine.counts()["waiters"] == 1
    harness.restore()


HOLDS: list[tuple[Operation, tuple[Any, ...]]] = [
    (Operation.LOCK_ACQUIRE, (b"n%d", True)),
    (Operation.QUEUE_CLAIM, (b"q", *CLAIM, True)),
    (Operation.SEMAPHORE_ACQUIRE, (b"n%d", 1, True)),
    (Operation.MULTILOCK_ACQUIRE, ([b"n%d"], 1, True)),
    (Operation.RWLOCK_ACQUIRE, (b"n%d", True, True)),
    (Operation.VARIABLE_SET_WITH, (b"n%d", b"\x01", 0, True)),
]


def numbered(arguments: tuple[Any, ...], number: int) -> list[Any]:
    """Put the number into every name that has a place for it."""

    def fill(argument: Any) -> Any:
        if type(argument) is list:
            return [fill(each) for each in argument]
        return argument % number if type(argument) is bytes and b"%d" in argument else argument

    return [fill(argument) for argument in arguments]


@pytest.mark.parametrize(("operation", "arguments"), HOLDS)
def test_what_a_session_holds_is_bounded_and_waits_count(
    monkeypatch: pytest.MonkeyPatch, operation: Operation, arguments: tuple[Any, ...]
) -> None:
    monkeypatch.setattr(context, "HOLDS_PER_SESSION_MAX", 3)
    harness = Harness()
    client, other = harness.open(), harness.open()
    other.send(Operation.QUEUE_PUT, b"q", 0, [b"1", b"2"], False)
    client.send(Operation.VARIABLE_GET, b"unset", True)
    codes = [client.send(operation, *numbered(arguments, number))[0] for number in range(3)]
    assert codes == [Code.OK, Code.OK, Code.LIMIT]
    assert other.send(Operation.LOCK_ACQUIRE, b"of another", True)[0] is Code.OK
    client.send(Operation.CANCEL, 1)
    assert client.send(operation, *numbered(arguments, 3))[0] in (Code.OK, Code.WAITING)
    harness.restore()
    assert client.send(operation, *numbered(arguments, 4))[0] is Code.LIMIT


def test_an_ephemeral_variable_that_is_set_anew_is_held_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "HOLDS_PER_SESSION_MAX", 2)
    harness = Harness()
    client = harness.open()
    for _ in range(5):
        assert client.send(Operation.VARIABLE_SET_WITH, b"v", b"\x01", 0, True)[0] is Code.OK


def test_claims_of_a_queue_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "LEASES_MAX", 1)
    harness = Harness()
    worker, waiting = harness.open(), harness.open()
    waiting.send(Operation.QUEUE_CLAIM, b"q", *CLAIM, True)
    worker.send(Operation.QUEUE_CLAIM, b"q", *CLAIM, True)
    worker.send(Operation.QUEUE_PUT, b"q", 0, [b"1", b"2"], False)
    ((_, _, _, (fence, _, _)),) = harness.take_completed()
    assert worker.send(Operation.QUEUE_CLAIM, b"q", *CLAIM, True)[0] is Code.LIMIT
    assert waiting.send(Operation.QUEUE_ACK, b"q", fence)[0] is Code.OK
    ((session, sequence, _, payload),) = harness.take_completed()
    assert (session, sequence, payload[1:]) == (worker.session, 1, [b"2", 1])


def test_readers_over_the_bound_wait_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rwlock, "LEASES_MAX", 2)
    harness = Harness()
    client = harness.open()
    fences = [client.send(Operation.RWLOCK_ACQUIRE, b"l", True, True)[1] for _ in range(4)]
    assert fences[2:] == [None, None]
    assert client.send(Operation.RWLOCK_ACQUIRE, b"l", True, False)[0] is Code.HELD
    client.send(Operation.RWLOCK_RELEASE, b"l", fences[0])
    assert [done[1] for done in harness.take_completed()] == [3]


def test_what_is_refused_for_a_bound_changes_nothing_but_the_stored_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_kind, "OBJECTS_PER_KIND_MAX", 0)
    harness = Harness()
    client = harness.open()
    client.send(Operation.CONFIRM)
    before = snapshot(harness.machine)
    for operation, arguments in MAKES:
        client.send(operation, b"n", *arguments, acked=client.sequence + 1)
        assert client.send(Operation.CONFIRM, acked=client.sequence)[0] is Code.OK
    counts = harness.machine.counts()
    assert {kind: count for kind, count in counts.items() if count} == {"sessions": 1, "answers": 1}
    assert len(snapshot(harness.machine)) == len(before)
