"""The oracle: the machine's work and the clients' answers, true and falsified."""

from __future__ import annotations

from typing import Any

import pytest
from little_log import OK, ONE, THREE, TWO, WAITING, Falsify, L, Log, Q, V, expiring, opening

from raftcoord.machine import Applied, Completed
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation as Op
from raftcoord.protocol.values import pack_value, unpack_value
from raftcoord.testing.simulation.violation import Violation


def _result(code: int, payload: Any) -> Falsify:
    def falsify(applied: Applied) -> None:
        applied.results[-1] = (code, payload)

    return falsify


def _rejected(log: Log, invariant: str, *command: Any, falsify: Falsify) -> None:
    with pytest.raises(Violation) as caught:
        log.do(*command, falsify=falsify)
    assert caught.value.invariant == invariant, caught.value


class TestResults:
    """Every result is the model's."""

    def test_a_long_life_is_accepted(self) -> None:
        log = Log(3)
        revision = log.do(0, Op.VARIABLE_SET, V, ONE)[1]
        log.do(1, Op.VARIABLE_COMPARE_AND_SET, V, [revision], TWO)
        log.do(1, Op.VARIABLE_COMPARE_AND_SET, V, [ONE], THREE)
        log.do(0, Op.VARIABLE_ADD, V, THREE)
        log.do(0, Op.VARIABLE_DELETE, V)
        assert log.do(2, Op.VARIABLE_GET, V, True) == WAITING
        assert log.do(1, Op.QUEUE_GET, Q, 0, 2, True) == WAITING
        log.add(log.command(0, Op.VARIABLE_SET, V, ONE), log.command(0, Op.QUEUE_PUT, Q, 0, [ONE, TWO], True))
        fence = log.do(0, Op.LOCK_ACQUIRE, L, True)[1]
        assert log.do(1, Op.LOCK_ACQUIRE, L, True) == WAITING
        waiting = log.sequence
        assert log.do(2, Op.LOCK_ACQUIRE, L, True) == WAITING
        log.do(1, Op.CANCEL, waiting)
        log.do(0, Op.LOCK_RELEASE, L, fence)
        log.do(0, Op.LOCK_RELEASE, L, fence)
        log.add(expiring(*log.sessions[1:]))
        log.do(1, Op.VARIABLE_SET, V, ONE)
        log.do(0, Op.QUEUE_CLOSE, Q)
        log.do(0, Op.CLOSE_SESSION)
        assert log.oracle.model.sessions == {}
        assert [(held, why.split(" of ")[0].split(" ", 3)[3]) for held, why in log.news] == [
            ({fence}, "LOCK_ACQUIRE"),
            ({fence + 1}, "LOCK_ACQUIRE"),
            (set(), f"sessions {log.sessions[1:]} ended"),
            (set(), f"sessions {log.sessions[:1]} ended"),
        ]

    @pytest.mark.parametrize(
        ("command", "falsify"),
        [
            ((0, Op.VARIABLE_ADD, b"n", ONE), _result(OK, [TWO, 10])),
            ((0, Op.VARIABLE_DELETE, V), _result(OK, False)),
            ((0, Op.VARIABLE_DELETE, V), _result(OK, 1)),
            ((0, Op.VARIABLE_COMPARE_AND_SET, V, [TWO], TWO), _result(OK, 10)),
            ((0, Op.VARIABLE_COMPARE_AND_SET, V, [ONE], TWO), _result(Code.CONFLICT, [ONE, 3])),
            ((0, Op.VARIABLE_GET, V, False), _result(OK, [TWO, 3])),
            ((0, Op.VARIABLE_GET, V, False), _result(OK, [ONE, 4])),
            ((0, Op.QUEUE_PUT, Q, 0, [ONE], True), _result(OK, 1)),
            ((0, Op.QUEUE_PUT, Q, 0, [ONE], True), _result(*WAITING)),
            ((0, Op.QUEUE_GET, Q, 0, 1, True), _result(OK, [TWO])),
            ((0, Op.QUEUE_GET, Q, 0, -1, False), _result(OK, [ONE, TWO, THREE])),
            ((0, Op.LOCK_ACQUIRE, L, False), _result(OK, 10)),
            ((1, Op.LOCK_RELEASE, L, 4), _result(OK, None)),
            ((0, Op.CANCEL, 900), _result(OK, [OK, None])),
        ],
    )
    def test_another_result(self, command: tuple[Any, ...], falsify: Falsify) -> None:
        for is_true in (True, False):
            log = Log()
            log.do(0, Op.VARIABLE_SET, V, ONE)
            log.do(0, Op.LOCK_ACQUIRE, L, False)
            log.do(0, Op.QUEUE_PUT, Q, 0, [ONE, TWO], True)
            if is_true:
                log.do(*command)
            else:
                _rejected(log, "machine", *command, falsify=falsify)

    def test_a_result_too_few(self) -> None:
        log = Log()
        commands = [log.command(0, Op.VARIABLE_SET, V, ONE), log.command(1, Op.VARIABLE_SET, V, TWO)]
        with pytest.raises(Violation, match="machine: 1 results for 2 commands"):
            log.add(*commands, falsify=lambda applied: applied.results.pop())

    def test_a_repeated_command_has_the_answer_of_the_first(self) -> None:
        log = Log()
        command = log.command(0, Op.QUEUE_PUT, Q, 0, [ONE], True)
        log.add(command)
        log.add(command)
        with pytest.raises(Violation, match=r"machine.*2\), not"):
            log.add(command, falsify=_result(OK, 2))

    def test_what_was_applied_twice_shows_in_what_follows(self) -> None:
        log = Log()
        command = log.command(0, Op.QUEUE_PUT, Q, 0, [ONE], True)
        log.add(command)
        log.machine.apply(0, [[log.sessions[1], 99, 0, *command[3:]]])
        with pytest.raises(Violation, match="machine"):
            log.do(0, Op.QUEUE_GET, Q, 0, -1, False)

    def test_a_lost_session_changes_nothing(self) -> None:
        log = Log()
        log.add(expiring(log.sessions[0]))
        assert log.do(0, Op.VARIABLE_SET, V, ONE) == (Code.SESSION_LOST, None)
        _rejected(log, "machine", 0, Op.VARIABLE_SET, V, ONE, falsify=_result(OK, 50))


class TestSessions:
    """Sessions begin once and end once."""

    def test_an_opening_that_is_repeated_is_the_same_session(self) -> None:
        log = Log()
        assert log.add(opening(0)).results == [(OK, log.sessions[0])]
        with pytest.raises(Violation, match="opened again"):
            log.add(opening(0), falsify=_result(OK, 77))
        with pytest.raises(Violation, match="opened again"):
            Log().add(opening(5), falsify=_result(Code.LIMIT, "no"))

    def test_a_nonce_is_free_again_when_its_session_has_ended(self) -> None:
        log = Log()
        log.add(expiring(log.sessions[0]))
        assert log.add(opening(0)).results[0][1] > log.sessions[1]

    @pytest.mark.parametrize("how", ["expired", "closed"])
    @pytest.mark.parametrize(
        "falsify",
        [
            lambda applied: applied.ended.clear(),
            lambda applied: applied.ended.append(1),
            lambda applied: applied.ended.append(applied.ended[0]),
        ],
        ids=["none", "another", "twice"],
    )
    def test_other_sessions_ended(self, how: str, falsify: Falsify) -> None:
        for is_true in (True, False):
            log = Log(3)
            ending = expiring(log.sessions[1]) if how == "expired" else log.command(1, Op.CLOSE_SESSION)
            if is_true:
                assert log.add(ending, expiring(log.sessions[1], 12345)).ended == [log.sessions[1]]
                continue
            with pytest.raises(Violation, match=r"machine: sessions .* ended"):
                log.add(ending, falsify=falsify)

    def test_sessions_end_in_the_order_of_the_command(self) -> None:
        log = Log(3)
        with pytest.raises(Violation, match=r"machine: sessions .* ended"):
            log.add(expiring(*log.sessions), falsify=lambda applied: applied.ended.reverse())


def _effect(**changes: Any) -> Falsify:
    def falsify(applied: Applied) -> None:
        applied.completed[0] = applied.completed[0]._replace(**changes)

    return falsify


class TestEffects:
    """Who waits is served in turn, with what is due, and not otherwise."""

    def _waiting(self) -> Log:
        log = Log(3)
        for session in (0, 1, 2):
            assert log.do(session, Op.QUEUE_GET, Q, 0, 1, True) == WAITING
        return log

    def test_who_waits_is_served_in_turn(self) -> None:
        log = self._waiting()
        applied = log.add(log.command(0, Op.QUEUE_PUT, Q, 0, [ONE, TWO], True))
        assert [(one.session, one.payload) for one in applied.completed] == [
            (log.sessions[0], [ONE]),
            (log.sessions[1], [TWO]),
        ]
        log.add(expiring(log.sessions[0]))  # what it had not confirmed goes to the third one

    @pytest.mark.parametrize(
        ("falsify", "invariant"),
        [
            (lambda applied: applied.completed.clear(), "machine"),
            (lambda applied: applied.completed.pop(), "machine"),
            (lambda applied: applied.completed.append(applied.completed[-1]), "machine"),
            (lambda applied: applied.completed.reverse(), "first in, first out"),
            (_effect(payload=[TWO]), "machine"),
            (_effect(code=int(Code.CLOSED)), "machine"),
            (_effect(sequence=99), "machine"),
        ],
        ids=["none", "too few", "too many", "order", "payload", "code", "another wait"],
    )
    def test_other_effects(self, falsify: Falsify, invariant: str) -> None:
        command = (0, Op.QUEUE_PUT, Q, 0, [ONE, TWO], True)
        _rejected(self._waiting(), invariant, *command, falsify=falsify)

    def test_who_came_later_is_not_served_first(self) -> None:
        def falsify(applied: Applied) -> None:
            first, second = applied.completed
            applied.completed = [
                Completed(second.session, second.sequence, *first[2:]),
                Completed(first.session, first.sequence, *second[2:]),
            ]

        command = (0, Op.QUEUE_PUT, Q, 0, [ONE, TWO], True)
        _rejected(self._waiting(), "first in, first out", *command, falsify=falsify)

    def test_effects_come_with_the_command_that_caused_them(self) -> None:
        log = self._waiting()
        log.add(
            log.command(0, Op.QUEUE_PUT, Q, 0, [ONE], True), log.command(0, Op.QUEUE_PUT, Q, 0, [TWO], True)
        )
        log = self._waiting()
        commands = [log.command(0, Op.QUEUE_PUT, Q, 0, [blob], True) for blob in (ONE, TWO)]
        with pytest.raises(Violation):
            log.add(*commands, falsify=lambda applied: applied.completed.reverse())

    def test_an_effect_from_nowhere(self) -> None:
        log = self._waiting()
        key = (log.sessions[0], log.sequence - 2)
        extra = Completed(*key, OK, [ONE])
        _rejected(
            log,
            "machine",
            1,
            Op.VARIABLE_SET,
            V,
            ONE,
            falsify=lambda applied: applied.completed.append(extra),
        )

    def test_objects_are_served_in_any_order_among_each_other(self) -> None:
        log = Log()
        for name in (b"q1", b"q2"):
            log.do(0, Op.QUEUE_PUT, name, 0, [ONE], True)
            log.do(0, Op.QUEUE_GET, name, 0, 1, True)
            log.do(1, Op.QUEUE_GET, name, 0, 1, True)
        applied = log.add(expiring(log.sessions[0]), falsify=lambda applied: applied.completed.reverse())
        assert len(applied.completed) == 2


class TestFences:
    """Revisions, fences and sessions are numbers that grow."""

    @pytest.mark.parametrize("operation", [(Op.VARIABLE_SET, V, ONE), (Op.LOCK_ACQUIRE, L, True)])
    @pytest.mark.parametrize("number", [1, 4, "x", 7.5])
    def test_a_number_that_does_not_grow(self, operation: tuple[Any, ...], number: Any) -> None:
        for is_true in (True, False):
            log = Log()
            for _ in range(2):
                log.do(0, Op.VARIABLE_SET, b"other", ONE)
            if is_true:
                log.do(0, *operation)
            else:
                _rejected(log, "fences grow", 0, *operation, falsify=_result(OK, number))

    def test_a_session_whose_number_does_not_grow(self) -> None:
        log = Log()
        with pytest.raises(Violation, match="fences grow"):
            log.add(opening(7), falsify=_result(OK, log.sessions[1]))

    def test_the_fence_of_one_who_waited(self) -> None:
        log = Log()
        fence = log.do(0, Op.LOCK_ACQUIRE, L, True)[1]
        log.do(1, Op.LOCK_ACQUIRE, L, True)
        assert [held for held, _ in log.news] == [{fence}]
        _rejected(log, "fences grow", 0, Op.LOCK_RELEASE, L, fence, falsify=_effect(payload=fence))
        log = Log()
        fence = log.do(0, Op.LOCK_ACQUIRE, L, True)[1]
        log.do(1, Op.LOCK_ACQUIRE, L, True)
        log.do(0, Op.LOCK_RELEASE, L, fence)
        assert [held for held, _ in log.news] == [{fence}, {fence + 1}]


def test_the_sum_of_numbers_is_the_models() -> None:
    log = Log()
    code, (total, _) = log.do(0, Op.VARIABLE_ADD, b"n", pack_value(2.5))
    assert (code, unpack_value(total)) == (OK, 2.5)
