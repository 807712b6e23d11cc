"""Time: what is due goes at the start of a batch, in order, however often the machine was restored."""

from __future__ import annotations

import random

import pytest
from machine_harness import Harness

from raftcoord.machine import Machine, deadlines, machine
from raftcoord.machine.context import Context
from raftcoord.machine.deadlines import Deadlines
from raftcoord.machine.variable import Variables
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import TTL_MS_MAX, Operation

SET, SET_WITH, GET, WATCH = (
    Operation.VARIABLE_SET,
    Operation.VARIABLE_SET_WITH,
    Operation.VARIABLE_GET,
    Operation.VARIABLE_WATCH,
)
V = b"\x01"
UNSET = (Code.UNSET, None)


@pytest.mark.parametrize("restored", [False, True])
def test_equal_deadlines_come_in_the_order_of_their_numbers_across_kinds(restored: bool) -> None:
    harness = Harness()
    client, watcher = harness.open(), harness.open()
    revisions = {}
    for name in (b"z", b"a", b"m"):
        revisions[name] = client.send(SET_WITH, name, V, 100, False)[1]
    client.send(Operation.TOPIC_PUBLISH, b"t", [10, 1000, 100], [V])
    revisions[b"b"] = client.send(SET_WITH, b"b", V, 99, False)[1]
    for name, revision in revisions.items():
        watcher.send(WATCH, name, revision, True)
    if restored:
        harness.restore()
    applied = harness.let_pass(100)
    assert applied.results == []
    assert [done[1] for done in harness.take_completed()] == [4, 1, 2, 3]
    assert harness.ask(Operation.TOPIC_STATUS, b"t")[1][2] == 0
    assert harness.machine.next_deadline_ms() is None


def test_what_is_due_is_gone_before_the_first_command_of_the_batch() -> None:
    harness = Harness()
    client = harness.open()
    client.send(SET_WITH, b"v", V, 10, False)
    harness.now_ms = 9
    assert harness.ask(GET, b"v", False)[0] is Code.OK
    assert client.send(Operation.VARIABLE_COMPARE_AND_SET, b"v", [], V)[0] is Code.CONFLICT
    harness.now_ms = 10
    assert client.send(Operation.VARIABLE_COMPARE_AND_SET, b"v", [], V)[0] is Code.OK
    assert harness.machine.next_deadline_ms() is None


def test_so_much_expires_in_one_batch_and_the_rest_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "EXPIRIES_PER_BATCH_MAX", 2)
    harness = Harness()
    client = harness.open()
    for number in range(5):
        client.send(SET_WITH, b"%d" % number, V, 10 + number, False)
    harness.let_pass(1000)
    assert harness.machine.counts()["variables"] == 3
    assert harness.machine.next_deadline_ms() == 12
    harness.restore()
    harness.let_pass(0)
    harness.let_pass(0)
    assert harness.machine.counts()["variables"] == 0


def test_a_batch_with_an_older_stamp_neither_expires_nor_gives_more_time() -> None:
    harness = Harness()
    client = harness.open()
    harness.let_pass(1000)
    harness.now_ms = 0
    client.send(SET_WITH, b"v", V, 10, False)
    assert harness.machine.next_deadline_ms() == 1010


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (SET, (b"v", V)),
        (Operation.VARIABLE_ADD, (b"v", V)),
        (Operation.VARIABLE_COMPARE_AND_SET, (b"v", [V], V)),
        (Operation.VARIABLE_DELETE, (b"v",)),
        (SET_WITH, (b"v", V, 0, False)),
    ],
)
def test_any_change_by_anyone_drops_time_to_live_and_owner(
    operation: Operation, arguments: tuple[object, ...]
) -> None:
    harness = Harness()
    owner, other = harness.open(), harness.open()
    owner.send(SET_WITH, b"v", V, 10, True)
    other.send(operation, *arguments)
    harness.restore()
    assert harness.machine.next_deadline_ms() is None
    after = harness.ask(GET, b"v", False)
    harness.let_pass(100)
    harness.expire(owner)
    assert harness.ask(GET, b"v", False) == after


def test_a_change_that_is_refused_drops_neither() -> None:
    harness = Harness()
    owner, other = harness.open(), harness.open()
    owner.send(SET_WITH, b"v", b"\xc3", 10, True)
    assert other.send(Operation.VARIABLE_COMPARE_AND_SET, b"v", [], V)[0] is Code.CONFLICT
    assert other.send(Operation.VARIABLE_ADD, b"v", V)[0] is Code.WRONG_TYPE
    assert harness.machine.next_deadline_ms() == 10
    harness.expire(owner)
    assert harness.ask(GET, b"v", False) == UNSET
    assert harness.machine.next_deadline_ms() is None


def test_ephemeral_variables_of_sessions_that_end_together_go_in_the_order_of_their_sets() -> None:
    harness = Harness()
    one, other, watcher = harness.open(), harness.open(), harness.open()
    revisions = [
        client.send(SET_WITH, name, V, 0, True)[1]
        for client, name in ((one, b"c"), (other, b"a"), (one, b"b"))
    ]
    for name, revision in zip((b"b", b"a", b"c"), reversed(revisions), strict=True):
        watcher.send(WATCH, name, revision, True)
    harness.restore()
    harness.expire(other, one)
    assert [done[1] for done in harness.take_completed()] == [3, 2, 1]
    assert harness.machine.counts()["variables"] == 0


def test_an_ephemeral_variable_is_unset_before_anyone_is_served() -> None:
    harness = Harness()
    owner, watcher = harness.open(), harness.open()
    revision = owner.send(SET_WITH, b"v", V, 0, True)[1]
    owner.send(WATCH, b"v", revision, True)
    watcher.send(WATCH, b"v", revision, True)
    harness.expire(owner)
    assert harness.take_completed() == [(watcher.session, 1, Code.OK, [None, 0])]


def test_a_cancelled_watch_serves_no_other() -> None:
    harness = Harness()
    client = harness.open()
    revision = client.send(SET_WITH, b"v", V, 10, False)[1]
    client.send(WATCH, b"v", revision, True)
    client.send(WATCH, b"v", revision, True)
    client.send(Operation.CANCEL, 2)
    assert harness.take_completed() == []
    harness.let_pass(10)
    assert harness.take_completed() == [(client.session, 3, Code.OK, [None, 0])]


def test_the_largest_times_fit() -> None:
    store = Machine()
    store.apply(2**62, [[0, 0, 0, int(Operation.OPEN_SESSION), b"n" * 16, 1000, "c"]])
    store.apply(2**62, [[1, 1, 0, int(SET_WITH), b"v", V, TTL_MS_MAX, False]])
    copy = Machine()
    copy.restore(list(store.begin_snapshot()))
    assert copy.next_deadline_ms() == 2**62 + TTL_MS_MAX


def test_deadlines_that_were_moved_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "_STALE_MAX", 10)
    harness = Harness()
    client = harness.open()
    for number in range(200):
        client.send(SET_WITH, b"%d" % (number % 3), V, 1000 - number, False)
    assert len(harness.machine._context.deadlines._heap) <= 2 * 3 + 10
    assert harness.machine.next_deadline_ms() == 801


@pytest.mark.parametrize("seed", range(20))
def test_the_heap_is_as_good_as_looking_at_all(seed: int) -> None:
    rng = random.Random(seed)
    kind = Variables(Context())
    heap = Deadlines()
    all_of_them: dict[bytes, tuple[int, int]] = {}
    for number in range(400):
        name = b"%d" % rng.randrange(8)
        chance = rng.random()
        if chance < 0.6:
            all_of_them[name] = (rng.randrange(100), number)
            heap.set(kind, name, *all_of_them[name])
        elif chance < 0.8:
            all_of_them.pop(name, None)
            heap.clear(kind, name)
        else:
            now_ms = rng.randrange(100)
            due = []
            while (taken := heap.take_due(now_ms)) is not None:
                assert taken[0] is kind
                due.append(taken[1])
            expected = sorted((when, one) for one, when in all_of_them.items() if when[0] <= now_ms)
            assert due == [one for _, one in expected]
            for one in due:
                del all_of_them[one]
        assert heap.next_ms() == min((when for when, _ in all_of_them.values()), default=None)
