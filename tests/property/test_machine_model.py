"""The machine against the model, and the promises that hold whatever is done to it.

Promises, checked after every step:
  1. Every answer and every effect is the model's, the effects of one object in the model's order.
  2. Numbers (revisions, fences) only grow.
  3. What can be read is what the model holds: values, sizes, holders, waiters, stored answers.
  4. What was put and not confirmed, acknowledged, buried or closed is still there; the end of a session
     leaves nothing of it.
  5. What is due by time happens with the first batch of that time, and the machine tells when that will be.
  6. None of it depends on whether the machine was replaced by one restored from its snapshot.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from machine_actions import Command, Expire, Open, Pass, Player, Restore, Step, any_step, focus_of, steps_of
from machine_arguments import FOCUSES, LOCK_NAMES, NAMES, Focus, without_arguments

from raftcoord.machine import Machine
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import OPERATIONS, Kind, Operation
from raftcoord.testing.simulation.model import Answer, Model, Session, Wait, compare


class Comparison:
    """A machine and a model that are made to do the same."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.model = Model()
        self.player = Player(self.machine)
        self.last_number = 0
        for nonce in range(2):
            self.step(Open(nonce))

    def step(self, step: Step | Restore) -> None:
        """Do one step on both, and compare all there is."""
        if isinstance(step, Restore):
            self._restore()
        else:
            self._play(step)
        self.reads_show_what_the_model_holds()
        assert self.machine.counts() == self.model.counts()
        assert self.machine.next_deadline_ms() == self.model.next_deadline_ms()

    def _play(self, step: Step) -> None:
        commands = self.player.to_commands(step)
        sessions = list(self.machine.sessions())
        applied = self.machine.apply(self.player.now_ms, commands)
        self.model.advance(self.player.now_ms)
        by_time = self.model.effects
        self._compare_effects(by_time, applied.completed[: len(by_time)])
        self.model.effects = []
        if isinstance(step, Open):
            self._opened(commands[0], sessions, applied)
        elif isinstance(step, Expire):
            assert applied.ended == [
                one for one in dict.fromkeys(commands[0][4]) if one in self.model.sessions
            ]
            self.model.end(commands[0][4])
        elif isinstance(step, Command):
            session, sequence, acked, *words = commands[0]
            self._compare(self.model.apply(session, sequence, acked, words), applied.results[0])
        else:
            assert isinstance(step, Pass)
            assert applied.results == []
        self._compare_effects(self.model.effects, applied.completed[len(by_time) :])

    def _opened(self, command: list[Any], before: list[Any], applied: Any) -> None:
        (code, session), *_ = applied.results
        assert code == Code.OK
        assert list(self.machine.sessions()) == before + applied.opened
        self.player.opened(session)
        self.model.sessions.setdefault(session, Session(command[6]))

    def _restore(self) -> None:
        data = list(self.machine.begin_snapshot())
        self.machine.restore(data)
        assert b"".join(self.machine.begin_snapshot()) == b"".join(data)

    # Comparing.

    def _compare_effects(self, effects: list[tuple[Wait, Answer]], completed: list[Any]) -> None:
        expected: dict[tuple[str, bytes], list[tuple[Wait, Answer]]] = {}
        place_of = {}
        for wait, answer in effects:
            expected.setdefault(wait.place, []).append((wait, answer))
            place_of[wait.session, wait.sequence] = wait.place
        for session, sequence, code, payload in completed:
            assert (session, sequence) in place_of, "completed a wait that the model leaves waiting"
            wait, answer = expected[place_of[session, sequence]].pop(0)
            assert (wait.session, wait.sequence) == (session, sequence), "served out of line"
            self._compare(answer, (code, payload))
        assert not any(expected.values()), f"not completed: {expected}"

    def _compare(self, expected: Any, actual: Any) -> None:
        assert compare(expected, actual, self._new_number), f"{actual}, not {expected}"

    def _new_number(self, number: Any) -> None:
        assert type(number) is int
        assert number > self.last_number
        self.last_number = number

    def _read(self, operation: Operation, *arguments: Any) -> Any:
        answer = self.machine.query(operation, list(arguments))
        self._compare(self.model.read(operation, *arguments), answer)
        return answer

    def reads_show_what_the_model_holds(self) -> None:
        self._read(Operation.SESSION_NAMES, [999, *self.player.clients])
        for name in LOCK_NAMES:
            self._read(Operation.MULTILOCK_STATUS, name)
        for name in NAMES:
            for operation in (
                Operation.QUEUE_SIZE,
                Operation.LOCK_STATUS,
                Operation.LOCK_WAITERS,
                Operation.EVENT_IS_SET,
                Operation.SEMAPHORE_STATUS,
                Operation.RWLOCK_STATUS,
            ):
                self._read(operation, name)
            for wait in (True, False):
                self._read(Operation.EVENT_WAIT, name, wait)
                state = self._read(Operation.VARIABLE_GET, name, wait)
                self._read(Operation.VARIABLE_WATCH, name, state[1][1] if state and state[1] else 0, wait)
            _, (first, following, _) = self._read(Operation.TOPIC_STATUS, name)
            for offset in {0, 1, first, (first + following) // 2, following, following + 1}:
                self._read(Operation.TOPIC_READ, name, offset, 2, False)

    def finish(self) -> None:
        """End all sessions: nothing of them stays, and every item that was only taken is there again."""
        queues = self.model.queues
        everyone = list(self.model.sessions)
        taken = [one for one in queues.taken if one.queue in queues.table.values()]
        there = Counter(value for queue in queues.table.values() for value in queue.values)
        there.update(item.value for one in taken for item in one.items)
        there.subtract(one.items[0].value for one in taken if queues._is_dead(one) and not one.dead_letters)
        self.machine.apply(self.player.now_ms, [[0, 0, 0, int(Operation.EXPIRE_SESSIONS), everyone]])
        self.model.end(everyone)
        counts = self.machine.counts()
        assert counts == self.model.counts()
        gone = ("locks", "multilocks", "rwlocks", "sessions", "waiters", "answers")
        assert [counts[kind] for kind in gone] == [0] * len(gone)
        self._play(Open(0))
        (session,) = self.machine.sessions()
        drained: Counter[bytes] = Counter()
        for sequence, name in enumerate(NAMES, 1):
            command = [session.id, sequence, 0, int(Operation.QUEUE_GET), name, 0, -1, False]
            drained.update(self.machine.apply(self.player.now_ms, [command]).results[0][1])
        assert drained == +there


def against_model(focus: Focus) -> type[RuleBasedStateMachine]:
    """Return what lets Hypothesis choose the steps, and shorten what fails."""

    class MachineAgainstModel(RuleBasedStateMachine):
        @initialize()
        def begin(self) -> None:
            self.both = Comparison()

        @rule(step=st.one_of(*[steps_of(focus)] * 14, st.just(Restore())))
        def step(self, step: Step | Restore) -> None:
            self.both.step(step)

        def teardown(self) -> None:
            self.both.finish()

    return MachineAgainstModel


@pytest.mark.parametrize("focus", FOCUSES, ids="-".join)
def test_machine_against_model(focus: Focus) -> None:
    run_state_machine_as_test(
        against_model(focus),
        settings=settings(
            max_examples=25,
            stateful_step_count=60,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.parametrize("seed", range(140))
def test_long_random_runs(seed: int) -> None:
    """Hypothesis likes short and simple runs; what needs many sessions and much history is found here."""
    rng = random.Random(seed)
    both = Comparison()
    for _ in range(400):
        both.step(any_step(rng, focus_of(seed)))
    both.finish()


def test_every_operation_of_a_session_is_tried() -> None:
    left_out = without_arguments()
    assert {operation for operation in left_out if OPERATIONS[operation].kind is not Kind.SYSTEM} == {
        Operation.LOCK_STATUS  # a read, which is refused in the log like all the others
    }
