"""The machine against the model, and the promises that hold whatever is done to it.

Promises, checked after every step:
  1. Every answer and every effect is the model's, the effects of one object in the model's order.
  2. Numbers (revisions, fences) only grow.
  3. What can be read is what the model holds: values, sizes, holders, waiters, stored answers.
  4. What was put and not confirmed or closed is still there; the end of a session leaves nothing of it.
  5. None of it depends on whether the machine was replaced by one restored from its snapshot.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from machine_actions import Command, Expire, Open, Player, Restore, Step, any_step, commands, expires, opens

from raftcoord.machine import Machine
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.testing.simulation.model import Answer, Model, Number, Session, Wait


class Comparison:
    """A machine and a model that are made to do the same."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.model = Model()
        self.player = Player(self.machine)
        self.last_number = 0
        self.steps = 0
        for nonce in range(2):
            self.step(Open(nonce))

    def step(self, step: Step | Restore) -> None:
        """Do one step on both, and compare all there is."""
        if isinstance(step, Open):
            self._open(step)
        elif isinstance(step, Expire):
            self._expire(step)
        elif isinstance(step, Command):
            self._command(step)
        else:
            self._restore()
        self.reads_show_what_the_model_holds()
        self.counts_are_those_of_the_model()

    def _open(self, step: Open) -> None:
        before = list(self.machine.sessions())
        applied = self._apply(self.player.open(step))
        (code, session), *_ = applied.results
        assert code == Code.OK
        assert list(self.machine.sessions()) == before + applied.opened
        self.player.opened(session)
        self.model.sessions.setdefault(session, Session())

    def _expire(self, step: Expire) -> None:
        command = self.player.expire(step)
        alive = [one for one in dict.fromkeys(command[4]) if one in self.model.sessions]
        applied = self._apply(command)
        assert applied.ended == alive
        self.model.end(command[4])
        self._compare_effects(applied.completed)

    def _command(self, step: Command) -> None:
        session, sequence, acked, *words = command = self.player.command(step)
        applied = self._apply(command)
        self._compare(self.model.apply(session, sequence, acked, words), applied.results[0])
        self._compare_effects(applied.completed)

    def _restore(self) -> None:
        data = list(self.machine.begin_snapshot())
        self.machine.restore(data)
        assert b"".join(self.machine.begin_snapshot()) == b"".join(data)

    def _apply(self, command: list[Any]) -> Any:
        self.steps += 1
        return self.machine.apply(self.steps, [command])

    # Comparing.

    def _compare_effects(self, completed: list[Any]) -> None:
        expected: dict[tuple[str, bytes], list[tuple[Wait, Answer]]] = {}
        place_of = {}
        for wait, answer in self.model.effects:
            expected.setdefault(wait.place, []).append((wait, answer))
            place_of[wait.session, wait.sequence] = wait.place
        for session, sequence, code, payload in completed:
            assert (session, sequence) in place_of, "completed a wait that the model leaves waiting"
            wait, answer = expected[place_of[session, sequence]].pop(0)
            assert (wait.session, wait.sequence) == (session, sequence), "served out of line"
            self._compare(answer, (code, payload))
        assert not any(expected.values()), f"not completed: {expected}"

    def _compare(self, expected: Any, actual: Any) -> None:
        if isinstance(expected, Number):
            assert type(actual) is int
            if expected.value is None:
                assert actual > self.last_number
                self.last_number = expected.value = actual
            assert actual == expected.value
        elif isinstance(expected, list | tuple):
            assert isinstance(actual, list | tuple)
            assert len(actual) == len(expected)
            for one, other in zip(expected, actual, strict=True):
                self._compare(one, other)
        else:
            assert actual == expected
            assert isinstance(actual, bool) == isinstance(expected, bool)

    def _query(self, operation: Operation, *arguments: Any) -> Any:
        return self.machine.query(operation, list(arguments))

    def reads_show_what_the_model_holds(self) -> None:
        model = self.model
        for name in (b"a", b"b"):
            state = model._state(name) or (Code.UNSET, None)
            self._compare(state, self._query(Operation.VARIABLE_GET, name, False))
            size = len(model.queues[name].items) if name in model.queues else 0
            assert self._query(Operation.QUEUE_SIZE, name) == (Code.OK, size)
            line = model._waits_for(Operation.LOCK_ACQUIRE, name)
            held = [*model.locks[name], len(line)] if name in model.locks else None
            self._compare((Code.OK, held), self._query(Operation.LOCK_STATUS, name))

    def counts_are_those_of_the_model(self) -> None:
        model = self.model
        places = [wait.place for wait in model.waits]
        variables = {name for kind, name in places if kind == "VARIABLE"} | set(model.variables)
        assert self.machine.counts() == {
            "variables": len(variables),
            "queues": len(model.queues),
            "locks": len(model.locks),
            "sessions": len(model.sessions),
            "waiters": len(model.waits),
            "answers": sum(len(session.answers) for session in model.sessions.values()),
        }

    def finish(self) -> None:
        """End all sessions: nothing of them stays, and every item that was only lent is there again."""
        everyone = list(self.model.sessions)
        there = Counter(item for queue in self.model.queues.values() for item in queue.items)
        for loan in self.model.loans:
            if loan.queue in self.model.queues.values():
                there.update(loan.values)
        self._apply([0, 0, 0, int(Operation.EXPIRE_SESSIONS), everyone])
        counts = self.machine.counts()
        assert [counts[kind] for kind in ("locks", "sessions", "waiters", "answers")] == [0, 0, 0, 0]
        assert counts["variables"] == len(self.model.variables)
        self._open(Open(0))
        (session,) = self.machine.sessions()
        drained: Counter[bytes] = Counter()
        for sequence, name in enumerate((b"a", b"b"), 1):
            command = [session.id, sequence, 0, int(Operation.QUEUE_GET), name, 0, -1, False]
            drained.update(self._apply(command).results[0][1])
        assert drained == there


class MachineAgainstModel(RuleBasedStateMachine):
    """Lets Hypothesis choose the steps, and shorten what fails."""

    @initialize()
    def begin(self) -> None:
        self.both = Comparison()

    @rule(step=st.one_of(*[commands] * 12, opens, expires, st.just(Restore())))
    def step(self, step: Step | Restore) -> None:
        self.both.step(step)

    def teardown(self) -> None:
        self.both.finish()


TestMachineAgainstModel = MachineAgainstModel.TestCase
TestMachineAgainstModel.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("seed", range(100))
def test_long_random_runs(seed: int) -> None:
    """Hypothesis likes short and simple runs; what needs many sessions and much history is found here."""
    rng = random.Random(seed)
    both = Comparison()
    for _ in range(400):
        both.step(any_step(rng))
    both.finish()
