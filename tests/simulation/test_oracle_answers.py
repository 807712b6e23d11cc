"""The oracle: what clients were answered, held against the log and against time."""

from __future__ import annotations

from typing import Any

import pytest
from little_log import OK, ONE, THREE, TWO, WAITING, L, Log, Q, V, expiring

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation as Op
from raftcoord.testing.simulation.violation import Violation


def _rejects(
    log: Log, invariant: str, operation: Op, arguments: list[Any], code: int, payload: Any, sent: int
) -> None:
    with pytest.raises(Violation) as caught:
        log.oracle.check_answer(log.key, operation, arguments, code, payload, sent)
    assert caught.value.invariant == invariant, caught.value


def _accepts(
    log: Log, operation: Op, arguments: list[Any], code: int, payload: Any, sent: int, *, shows: int
) -> None:
    log.oracle.check_answer(log.key, operation, arguments, code, payload, sent)
    assert log.oracle.answered_index == shows


class TestWrites:
    """An answer is the one that the log gave."""

    def test_the_answer_of_the_log(self) -> None:
        log = Log()
        _, revision = log.do(0, Op.VARIABLE_SET, V, ONE)
        _accepts(log, Op.VARIABLE_SET, [V, ONE], OK, revision, 0, shows=log.index)
        _, items = log.do(0, Op.QUEUE_PUT, Q, 0, [ONE], True)
        _accepts(log, Op.QUEUE_PUT, [Q, 0, [ONE], True], OK, items, log.index - 1, shows=log.index)

    def test_an_answer_that_is_not_in_the_log(self) -> None:
        log = Log()
        log.sequence += 1
        _rejects(log, "acknowledged, so committed", Op.VARIABLE_SET, [V, ONE], OK, 7, 0)

    def test_another_answer_than_the_logs(self) -> None:
        log = Log()
        _, revision = log.do(0, Op.VARIABLE_SET, V, ONE)
        _rejects(log, "once", Op.VARIABLE_SET, [V, ONE], OK, revision + 1, 0)
        _rejects(log, "once", Op.VARIABLE_SET, [V, ONE], Code.CONFLICT, None, 0)

    def test_the_first_answer_stays_the_answer(self) -> None:
        log = Log()
        command = log.command(0, Op.QUEUE_PUT, Q, 0, [ONE], True)
        log.add(command)
        at = log.index
        log.add(command)
        _accepts(log, Op.QUEUE_PUT, command[4:], OK, 1, at - 1, shows=at)

    def test_a_call_that_is_awaited_is_no_late_duplicate(self) -> None:
        log = Log()
        command = log.command(0, Op.QUEUE_PUT, Q, 0, [ONE], True)
        log.add(command)
        log.do(0, Op.CONFIRM, acked=command[1])
        assert log.add(command).results == [(Code.STALE, None)]
        log.sequence = command[1]
        _rejects(log, "once", Op.QUEUE_PUT, command[4:], Code.STALE, None, 0)

    @pytest.mark.parametrize("code", [Code.WAITING, Code.NOT_LEADER, Code.BUSY, Code.SESSION_LOST])
    def test_what_is_no_answer_says_nothing(self, code: Code) -> None:
        log = Log()
        log.sequence += 1
        _accepts(log, Op.VARIABLE_SET, [V, ONE], code, None, 0, shows=0)


class TestWaits:
    """The answer of a wait comes from the effect that ended it."""

    def test_a_wait_that_was_served(self) -> None:
        log = Log()
        assert log.do(0, Op.QUEUE_GET, Q, 0, 1, True) == WAITING
        waiting = log.sequence
        log.do(1, Op.QUEUE_PUT, Q, 0, [TWO], True)
        log.sequence = waiting
        _accepts(log, Op.QUEUE_GET, [Q, 0, 1, True], OK, [TWO], 0, shows=log.index)
        _rejects(log, "once", Op.QUEUE_GET, [Q, 0, 1, True], OK, [ONE], 0)

    def test_a_wait_that_is_not_served_yet(self) -> None:
        log = Log()
        log.do(0, Op.LOCK_ACQUIRE, L, True)
        log.do(0, Op.LOCK_ACQUIRE, L, True)
        _rejects(log, "acknowledged, so committed", Op.LOCK_ACQUIRE, [L, True], OK, 99, 0)

    def test_a_wait_that_was_cancelled(self) -> None:
        log = Log()
        log.do(0, Op.QUEUE_GET, Q, 0, 1, True)
        target = log.sequence
        _, answer = log.do(0, Op.CANCEL, target)
        _accepts(log, Op.CANCEL, [target], OK, answer, 0, shows=log.index)

    def test_a_read_that_had_to_wait(self) -> None:
        log = Log()
        log.do(0, Op.VARIABLE_WATCH, V, 0, True)
        waiting = log.sequence
        _, revision = log.do(1, Op.VARIABLE_SET, V, ONE)
        log.sequence = waiting
        _accepts(log, Op.VARIABLE_WATCH, [V, 0, True], OK, [ONE, revision], 0, shows=log.index)


class TestRealTime:
    """What was sent after something was answered comes behind it."""

    def test_it_took_effect_before_it_was_sent(self) -> None:
        log = Log()
        _, revision = log.do(0, Op.VARIABLE_SET, V, ONE)
        arguments = [V, ONE]
        _accepts(log, Op.VARIABLE_SET, arguments, OK, revision, log.index - 1, shows=log.index)
        _rejects(log, "real time", Op.VARIABLE_SET, arguments, OK, revision, log.index)


class TestReads:
    """A read sees a state that was there since what was answered before it was sent."""

    def _history(self) -> tuple[Log, dict[str, int], dict[str, Any]]:
        """A variable that is unset, ONE, TWO, deleted and THREE; what it was since when, and revisions."""
        log = Log()
        log.do(1, Op.LOCK_ACQUIRE, L, True)
        since, revisions = {"unset": log.index}, {}
        for name, blob in (("one", ONE), ("two", TWO)):
            revisions[name] = log.do(1, Op.VARIABLE_SET, V, blob)[1]
            since[name] = log.index
            log.do(1, Op.VARIABLE_SET, b"other", blob)
        log.do(1, Op.VARIABLE_DELETE, V)
        since["deleted"] = log.index
        revisions["three"] = log.do(1, Op.VARIABLE_SET, V, THREE)[1]
        since["three"] = log.index
        log.sequence += 1
        return log, since, revisions

    def test_the_newest_state(self) -> None:
        log, since, revisions = self._history()
        answer = [THREE, revisions["three"]]
        _accepts(log, Op.VARIABLE_GET, [V, False], OK, answer, since["three"], shows=since["three"])
        _accepts(log, Op.VARIABLE_GET, [V, False], OK, tuple(answer), log.index, shows=since["three"])

    @pytest.mark.parametrize(
        ("name", "next_name", "blob"), [("one", "two", ONE), ("two", "deleted", TWO), ("three", None, THREE)]
    )
    def test_an_older_state_is_as_good_until_a_newer_one_was_seen(
        self, name: str, next_name: str | None, blob: bytes
    ) -> None:
        log, since, revisions = self._history()
        answer = [blob, revisions[name]]
        arguments = [V, False]
        _accepts(log, Op.VARIABLE_GET, arguments, OK, answer, 0, shows=since[name])
        if next_name is not None:
            last = since[next_name] - 1
            _accepts(log, Op.VARIABLE_GET, arguments, OK, answer, last, shows=since[name])
            _rejects(log, "linearizable reads", Op.VARIABLE_GET, arguments, OK, answer, last + 1)

    def test_a_state_that_never_was(self) -> None:
        log, _, revisions = self._history()
        for answer in ([TWO, revisions["one"]], [ONE, revisions["three"]], [THREE, 999]):
            _rejects(log, "linearizable reads", Op.VARIABLE_GET, [V, False], OK, answer, 0)

    def test_unset_before_the_first_set_and_after_a_delete(self) -> None:
        log, since, _ = self._history()
        arguments = [V, False]
        last = since["three"] - 1
        _accepts(log, Op.VARIABLE_GET, arguments, Code.UNSET, None, last, shows=since["deleted"])
        _rejects(log, "linearizable reads", Op.VARIABLE_GET, arguments, Code.UNSET, None, last + 1)
        _accepts(Log(), Op.VARIABLE_GET, arguments, Code.UNSET, None, 2, shows=0)

    def test_a_watch_sees_what_differs(self) -> None:
        log, since, revisions = self._history()
        one, three = revisions["one"], revisions["three"]
        seen = [THREE, three]
        _accepts(log, Op.VARIABLE_WATCH, [V, one, False], OK, seen, log.index, shows=since["three"])
        _rejects(log, "linearizable reads", Op.VARIABLE_WATCH, [V, three, False], OK, seen, 0)
        _accepts(log, Op.VARIABLE_WATCH, [V, three, False], Code.EMPTY, None, 0, shows=since["three"])
        _rejects(log, "linearizable reads", Op.VARIABLE_WATCH, [V, one, False], Code.EMPTY, None, log.index)
        # Deleted, as seen by one who had seen a value.
        _accepts(log, Op.VARIABLE_WATCH, [V, one, False], OK, [None, 0], 0, shows=since["three"])
        last = since["three"]
        _rejects(log, "linearizable reads", Op.VARIABLE_WATCH, [V, one, False], OK, [None, 0], last)

    def test_the_size_of_a_queue(self) -> None:
        log = Log()
        log.do(1, Op.QUEUE_PUT, Q, 0, [ONE, TWO], True)
        full = log.index
        log.do(1, Op.QUEUE_GET, Q, 0, 1, True)
        log.sequence += 1
        _accepts(log, Op.QUEUE_SIZE, [Q], OK, 1, log.index, shows=log.index)
        _rejects(log, "linearizable reads", Op.QUEUE_SIZE, [Q], OK, 2, log.index)
        _accepts(log, Op.QUEUE_SIZE, [Q], OK, 2, full, shows=log.index)
        _rejects(log, "linearizable reads", Op.QUEUE_SIZE, [Q], OK, 0, full)
        _accepts(log, Op.QUEUE_SIZE, [b"none"], OK, 0, log.index, shows=log.index)

    def test_the_status_of_a_lock(self) -> None:
        log = Log()
        fence = log.do(1, Op.LOCK_ACQUIRE, L, True)[1]
        held = log.index
        log.do(0, Op.LOCK_ACQUIRE, L, True)
        log.sequence += 1
        status = [log.sessions[1], fence, 1]
        _accepts(log, Op.LOCK_STATUS, [L], OK, status, log.index, shows=log.index)
        _rejects(log, "linearizable reads", Op.LOCK_STATUS, [L], OK, [*status[:2], 0], log.index)
        _accepts(log, Op.LOCK_STATUS, [L], OK, [*status[:2], 0], held, shows=log.index)
        log.add(expiring(*log.sessions))
        _accepts(log, Op.LOCK_STATUS, [L], OK, None, log.index, shows=log.index)
        _rejects(log, "linearizable reads", Op.LOCK_STATUS, [L], OK, status, log.index)
