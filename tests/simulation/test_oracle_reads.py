"""What the oracle accepts as the answer of a read, for each kind of object."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from little_log import OK, ONE, THREE, TWO, WAITING, L, Log, Q, V, expiring

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation as Op
from raftcoord.testing.simulation.violation import Violation

E, S, R, T, M1, M2 = b"e", b"s", b"r", b"t", b"m1", b"m2"
KEEP_TWO, KEEP_5_MS = [2, 1 << 20, 0], [100, 1 << 20, 5]

Read = tuple[Op, list[Any]]


class Reader:
    """Somebody who reads at the end of a log."""

    def __init__(self, log: Log, operation: Op, *arguments: Any) -> None:
        self.log, self.operation, self.arguments = log, operation, list(arguments)
        log.sequence += 1

    def sees(self, payload: Any, sent: int, code: int = OK) -> None:
        self.log.oracle.check_answer(self.log.key, self.operation, self.arguments, code, payload, sent)

    def cannot_see(self, payload: Any, sent: int, code: int = OK) -> None:
        with pytest.raises(Violation) as caught:
            self.sees(payload, sent, code)
        assert caught.value.invariant == "linearizable reads"


def test_whether_an_event_is_set() -> None:
    log = Log()
    log.do(1, Op.EVENT_SET, E)
    was_set = log.index
    log.do(1, Op.EVENT_CLEAR, E)
    reader = Reader(log, Op.EVENT_IS_SET, E)
    reader.sees(False, log.index)
    reader.sees(True, was_set)
    reader.cannot_see(True, log.index)
    waiter = Reader(log, Op.EVENT_WAIT, E, False)
    waiter.sees(None, was_set)
    waiter.sees(None, log.index, Code.UNSET)
    waiter.cannot_see(None, log.index)
    waiter.cannot_see(None, was_set, Code.OVERFLOW)


def test_how_a_semaphore_stands() -> None:
    log = Log()
    none = log.index
    fence = log.do(1, Op.SEMAPHORE_ACQUIRE, S, 1, True)[1]
    taken = log.index
    assert log.do(0, Op.SEMAPHORE_ACQUIRE, S, 1, True) == WAITING
    log.do(1, Op.SEMAPHORE_RELEASE, S, fence)
    reader = Reader(log, Op.SEMAPHORE_STATUS, S)
    reader.sees([1, 1, 0], log.index)
    reader.cannot_see([1, 1, 1], log.index)
    reader.sees([1, 1, 1], taken)
    reader.cannot_see([1, 2, 0], none)
    reader.sees(None, none)
    reader.cannot_see(None, taken)


def test_who_holds_a_name_of_a_multilock() -> None:
    log = Log()
    fence = log.do(1, Op.MULTILOCK_ACQUIRE, [M1, M2], 2, True)[1][0]
    held = log.index
    for name in (M1, M2):
        Reader(log, Op.MULTILOCK_STATUS, name).sees([log.sessions[1], fence], held)
        Reader(log, Op.MULTILOCK_STATUS, name).cannot_see([log.sessions[0], fence], held)
    log.do(1, Op.MULTILOCK_RELEASE, fence)
    reader = Reader(log, Op.MULTILOCK_STATUS, M1)
    reader.sees(None, log.index)
    reader.cannot_see([log.sessions[1], fence], log.index)


def test_how_a_read_write_lock_stands() -> None:
    log = Log()
    first = log.do(1, Op.RWLOCK_ACQUIRE, R, True, True)[1]
    alone = log.index
    second = log.do(0, Op.RWLOCK_ACQUIRE, R, True, True)[1]
    log.do(0, Op.RWLOCK_ACQUIRE, R, False, True)
    together = log.index
    log.add(expiring(log.sessions[1]))
    log.do(0, Op.RWLOCK_RELEASE, R, second)
    reader = Reader(log, Op.RWLOCK_STATUS, R)
    reader.sees([second + 1, [], 0], log.index)
    reader.cannot_see([second + 1, [first], 0], alone)
    reader.sees([None, [first, second], 1], together)
    reader.cannot_see([None, [first, second], 1], log.index)
    reader.sees([None, [first], 0], alone)


def test_who_waits_for_a_lock() -> None:
    log = Log()
    log.do(1, Op.LOCK_ACQUIRE, L, True)
    held = log.index
    log.do(0, Op.LOCK_ACQUIRE, L, True)
    log.do(1, Op.LOCK_ACQUIRE, L, True)
    reader = Reader(log, Op.LOCK_WAITERS, L)
    reader.sees(log.sessions, log.index)
    reader.cannot_see(log.sessions[::-1], held)
    reader.sees([], held)
    reader.cannot_see([], log.index)


def test_names_of_sessions() -> None:
    log = Log()
    before = log.index
    log.add(expiring(log.sessions[1]))
    reader = Reader(log, Op.SESSION_NAMES, [log.sessions[1], log.sessions[0], 99])
    reader.sees(["", "c0", ""], log.index)
    reader.sees(["c1", "c0", ""], before)
    reader.cannot_see(["c1", "c0", ""], log.index)
    reader.cannot_see(["c0", "c1", ""], 0)


class TestTopics:
    def _log(self) -> tuple[Log, int, dict[str, int]]:
        """ONE and TWO are published, then THREE, which drives ONE out."""
        log, since = Log(), {}
        start = log.do(1, Op.TOPIC_PUBLISH, T, KEEP_TWO, [ONE, TWO])[1][0]
        since["two"] = log.index
        log.do(1, Op.TOPIC_PUBLISH, T, KEEP_TWO, [THREE])
        since["three"] = log.index
        return log, start, since

    def test_messages_from_an_offset_on(self) -> None:
        log, start, since = self._log()
        reader = Reader(log, Op.TOPIC_READ, T, start, 10, False)
        reader.sees([start + 3, 1, [TWO, THREE]], log.index)
        reader.sees([start + 2, 0, [ONE, TWO]], since["two"])
        reader.cannot_see([start + 2, 0, [ONE, TWO]], log.index)
        for wrong in (
            [start + 3, 0, [TWO, THREE]],
            [start + 3, 1, [THREE, TWO]],
            [start + 4, 1, [TWO, THREE]],
            [start + 3, 2, [THREE]],
        ):
            reader.cannot_see(wrong, 0)

    def test_no_more_messages_than_were_asked_for(self) -> None:
        log, start, _ = self._log()
        reader = Reader(log, Op.TOPIC_READ, T, start, 1, False)
        reader.sees([start + 2, 1, [TWO]], log.index)
        reader.cannot_see([start + 3, 1, [TWO, THREE]], log.index)

    def test_nothing_yet_and_nothing_any_more(self) -> None:
        log, start, since = self._log()
        reader = Reader(log, Op.TOPIC_READ, T, start + 2, 10, False)
        reader.sees(None, since["two"], Code.EMPTY)
        reader.cannot_see(None, since["three"], Code.EMPTY)
        log.do(1, Op.TOPIC_DELETE, T)
        reader = Reader(log, Op.TOPIC_READ, T, start + 2, 10, False)
        reader.sees(None, log.index, Code.CLOSED)
        reader.cannot_see(None, log.index, Code.EMPTY)
        reader.sees([start + 3, 0, [THREE]], since["three"])

    def test_what_is_kept(self) -> None:
        log, start, since = self._log()
        reader = Reader(log, Op.TOPIC_STATUS, T)
        reader.sees([start + 1, start + 3, 2], log.index)
        reader.sees([start, start + 2, 2], since["two"])
        reader.cannot_see([start, start + 3, 3], 0)
        reader.sees([0, 0, 0], 0)

    def test_age(self) -> None:
        log = Log()
        start = log.do(1, Op.TOPIC_PUBLISH, T, KEEP_5_MS, [ONE])[1][0]
        kept = log.index
        log.add(now_ms=5)
        reader = Reader(log, Op.TOPIC_STATUS, T)
        reader.sees([start + 1, start + 1, 0], log.index)
        reader.cannot_see([start, start + 1, 1], log.index)
        reader.sees([start, start + 1, 1], kept)


def test_a_variable_that_is_unset_by_time() -> None:
    log = Log()
    revision = log.do(1, Op.VARIABLE_SET_WITH, V, ONE, 5, False)[1]
    log.add(now_ms=4)
    kept = log.index
    reader = Reader(log, Op.VARIABLE_GET, V, False)
    reader.sees([ONE, revision], kept)
    reader.cannot_see(None, kept, Code.UNSET)
    log.add(now_ms=5)
    reader.sees(None, log.index, Code.UNSET)
    reader.cannot_see([ONE, revision], log.index)


class TestHolders:
    """Whom the clients are held against."""

    GRANTS: tuple[tuple[Op, list[Any]], ...] = (
        (Op.LOCK_ACQUIRE, [L, True]),
        (Op.SEMAPHORE_ACQUIRE, [S, 2, True]),
        (Op.MULTILOCK_ACQUIRE, [[M1, M2], 1, True]),
        (Op.RWLOCK_ACQUIRE, [R, True, True]),
        (Op.QUEUE_CLAIM, [Q, 0, [0, b""], True]),
    )

    @pytest.mark.parametrize(("operation", "arguments"), GRANTS)
    def test_a_grant_is_held_until_its_session_ends(self, operation: Op, arguments: list[Any]) -> None:
        log = Log()
        log.do(1, Op.QUEUE_PUT, Q, 0, [ONE], True)
        payload = log.do(1, operation, *arguments)[1]
        fence = payload[0] if isinstance(payload, list) else payload
        assert [held for held, _ in log.news] == [{fence}]
        log.add(expiring(log.sessions[1]))
        assert [held for held, _ in log.news[1:]] == [set()]

    @pytest.mark.parametrize(
        ("grant", "close"),
        [
            (lambda log: log.do(0, Op.SEMAPHORE_ACQUIRE, S, 2, True)[1], (Op.SEMAPHORE_CLOSE, S)),
            (lambda log: log.do(0, Op.QUEUE_CLAIM, Q, 0, [0, b""], True)[1][0], (Op.QUEUE_CLOSE, Q)),
        ],
        ids=["semaphore", "queue"],
    )
    def test_nobody_is_told_of_a_close(self, grant: Callable[[Log], int], close: tuple[Op, bytes]) -> None:
        log = Log()
        log.do(1, Op.QUEUE_PUT, Q, 0, [ONE], True)
        fence = grant(log)
        log.do(1, *close)
        other = log.do(1, Op.LOCK_ACQUIRE, L, True)[1]
        assert log.news[-1][0] == {fence, other}
