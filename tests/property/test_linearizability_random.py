"""The linearizability checker on random histories.

Something that is too simple to be wrong really runs the operations, so what it answers must be accepted. What
is corrupted afterwards must be judged as a naive search judges it, which tries every order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import pytest
from history_helpers import done, lost, naive
from hypothesis import given, settings
from hypothesis import strategies as st

from raftcoord.client.aio_variable import UNSET
from raftcoord.testing.linearizability import UNKNOWN, Model, Operation, Result, Verdict, check
from raftcoord.testing.models import (
    Acquire,
    Add,
    CompareAndSet,
    CompareRevisionAndSet,
    Delete,
    Get,
    GetNow,
    GetVersioned,
    LockModel,
    RegisterModel,
    Release,
    SessionEnd,
    Set,
    TryAcquire,
)
from raftcoord.testing.queue_model import (
    Drain,
    GiveBack,
    Put,
    PutMany,
    QueueModel,
    Return,
    Size,
    Take,
    TakeBatch,
    check_queue,
)

WAITS: Final = object()


class Thing(Protocol):
    """An object that is too simple to be wrong, and knows which operations make sense."""

    def choose(self, rng: random.Random, number: int) -> Any: ...

    def answer(self, made: Any, is_lost: bool) -> Any:
        """Do it; WAITS if it would wait or fail."""


class Variable:
    def __init__(self) -> None:
        self.value: Any = UNSET
        self.revision = 0
        self.number = 0

    def choose(self, rng: random.Random, number: int) -> Any:
        value = rng.randrange(3)
        expected = rng.choice((self.value, value, UNSET))
        revision = rng.choice((self.revision, rng.randrange(4)))
        compares = (CompareAndSet(expected, value), CompareRevisionAndSet(revision, value))
        return rng.choice((Set(value), Get(), GetNow(), GetVersioned(), Add(value), Delete(), *compares))

    def answer(self, made: Any, is_lost: bool) -> Any:
        existed, fits = self.value is not UNSET, False
        match made:
            case Get() | GetVersioned() if not existed:
                return WAITS
            case Get() | GetNow():
                return self.value
            case GetVersioned():
                return self.value, self.revision
            case Delete():
                self.value, self.revision = UNSET, 0
                return existed
            case CompareAndSet():
                fits = self.value == made.expected
            case CompareRevisionAndSet():
                fits = self.revision == made.revision
        if isinstance(made, CompareAndSet | CompareRevisionAndSet) and not fits:
            return False
        self.value = (self.value if existed else 0) + made.n if isinstance(made, Add) else made.value
        self.number = self.revision = self.number + 1
        return self.value if isinstance(made, Add) else fits or None


class Lock:
    def __init__(self) -> None:
        self.holder: Any = 0
        self.fence = 0

    def choose(self, rng: random.Random, number: int) -> Any:
        client, fence = rng.randrange(1, 4), rng.choice((self.fence, self.fence, rng.randrange(4)))
        return rng.choice(
            (Acquire(client), TryAcquire(client), Release(fence), Release(fence), SessionEnd(client))
        )

    def answer(self, made: Any, is_lost: bool) -> Any:
        match made:
            case TryAcquire() if self.holder:
                return None
            case Acquire() | TryAcquire() if not self.holder:
                self.holder = made.client
                self.fence += 1
                return self.fence
            case Release() if self.holder and made.fence == self.fence:
                self.holder = 0
                return None
            case SessionEnd():
                self.holder = 0 if self.holder == made.client else self.holder
                return None
        return WAITS


class Queue:
    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize or 1000
        self.items: list[int] = []
        self.loans: dict[Any, list[int]] = {}
        self.taken: list[int] = []

    def choose(self, rng: random.Random, number: int) -> Any:
        takes = (Take(number), Take(number), TakeBatch(2, number), Drain(number))
        returns = (Return(rng.choice([0, *self.loans])), GiveBack(tuple(self.taken)))
        return rng.choice((Put(number), Put(number), PutMany((number, -number)), *takes, *returns, Size()))

    def answer(self, made: Any, is_lost: bool) -> Any:
        match made:
            case Put() | PutMany():
                values = made.values if isinstance(made, PutMany) else (made.value,)
                if len(self.items) + len(values) > self.maxsize:
                    return WAITS
                self.items += values
                return None
            case Size():
                return len(self.items)
            case Return():
                self.items[:0] = self.loans.pop(made.loan, [])
                return None
            case GiveBack():
                self.items[:0] = made.values
                self.taken = []
                return None
        count = {Take: 1, TakeBatch: 2, Drain: len(self.items)}[type(made)]
        if len(self.items) < count:
            return WAITS
        taken, self.items = self.items[:count], self.items[count:]
        if is_lost:
            self.loans[made.loan] = taken
        else:
            self.taken = taken
        return taken[0] if isinstance(made, Take) else taken


class PlainQueueModel(QueueModel):
    """The model without foresight, but for this: while a batch waits, a drain may get nothing."""

    def __init__(self, history: list[Operation], maxsize: int = 0) -> None:
        super().__init__(maxsize=maxsize)
        self._may_get_nothing = any(isinstance(operation.input, TakeBatch) for operation in history)

    def step(self, state: Any, operation_input: Any, output: Any) -> Iterable[Hashable]:
        if isinstance(operation_input, Drain) and output == [] and self._may_get_nothing:
            return (state,)
        return super().step(state, operation_input, output)


@dataclass(frozen=True)
class Kind:
    """What makes histories, what judges them, and the model that a naive search takes."""

    thing: Callable[[], Thing]
    judge: Callable[[list[Operation]], Result]
    plain: Callable[[list[Operation]], Model]
    is_exact: bool = True


KINDS = {
    "variable": Kind(
        Variable, lambda history: check(RegisterModel(), history), lambda history: RegisterModel()
    ),
    "lock": Kind(Lock, lambda history: check(LockModel(), history), lambda history: LockModel()),
    "queue": Kind(Queue, lambda history: check(QueueModel(history), history), PlainQueueModel),
    "settled queue": Kind(Queue, check_queue, PlainQueueModel),
    "bounded queue": Kind(
        lambda: Queue(3),
        lambda history: check_queue(history, maxsize=3),
        lambda history: PlainQueueModel(history, maxsize=3),
        is_exact=False,
    ),
}


def random_history(rng: random.Random, thing: Thing, count: int, overlap: int) -> list[Operation]:
    """Run operations at the times 0, 2, 4 ...; some are lost with their answer, and some before they ran."""
    history: list[Operation] = []
    for number in range(1, count + 1):
        made, fate, now = thing.choose(rng, number), rng.randrange(8), 2 * number
        call_at, return_at = now - rng.randint(0, overlap), now + rng.randint(0, overlap)
        output = WAITS if fate == 0 else thing.answer(made, is_lost=fate == 1)
        if output is not WAITS and fate > 1:
            history.append(done(call_at, return_at, made, output))
        elif fate < 2:
            history.append(lost(call_at, made))
    return history


def corrupted(rng: random.Random, history: list[Operation]) -> list[Operation]:
    """Change one answer, and let two operations change places."""
    history = history.copy()
    answered = [number for number, operation in enumerate(history) if operation.output is not UNKNOWN]
    if answered:
        number, other = rng.choice(answered), rng.choice(answered)
        one, two = history[number], history[other]
        if rng.randrange(2):
            history[number] = replace(one, call_at=two.call_at, return_at=two.return_at)
            history[other] = replace(two, call_at=one.call_at, return_at=one.return_at)
        history[number] = replace(history[number], output=other_output(rng, one.output))
    return history


def other_output(rng: random.Random, output: Any) -> Any:
    match output:
        case bool():
            return not output
        case int():
            return output + rng.choice((-1, 1))
        case (value, revision):
            return rng.choice(([revision, value], [value + 1, revision], [value, revision + 1]))
        case [*values]:
            return [*values, rng.randrange(4)]
    return rng.randrange(4)


def agree(kind: Kind, history: list[Operation]) -> bool:
    """Check that both searches come to one verdict, and return it."""
    expected, result = naive(kind.plain(history), history), kind.judge(history)
    assert result.verdict is not Verdict.UNDECIDED
    is_linearizable = result.verdict is Verdict.LINEARIZABLE
    assert is_linearizable == expected or (is_linearizable and not kind.is_exact), result.explain()
    return is_linearizable


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=60, deadline=None)
@given(rng=st.randoms(use_true_random=False), count=st.integers(0, 30), overlap=st.integers(0, 9))
def test_what_really_happened_is_accepted(name: str, rng: random.Random, count: int, overlap: int) -> None:
    history = random_history(rng, KINDS[name].thing(), count, overlap)
    result = KINDS[name].judge(history)
    assert result.verdict is Verdict.LINEARIZABLE, result.explain()


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=150, deadline=None)
@given(rng=st.randoms(use_true_random=False), count=st.integers(1, 6), overlap=st.integers(0, 9))
def test_the_checker_agrees_with_a_naive_search(
    name: str, rng: random.Random, count: int, overlap: int
) -> None:
    history = random_history(rng, KINDS[name].thing(), count, overlap)
    assert agree(KINDS[name], history)
    agree(KINDS[name], corrupted(rng, history))


@pytest.mark.parametrize("name", KINDS)
def test_a_good_part_of_what_is_corrupted_is_rejected(name: str) -> None:
    kind, rng = KINDS[name], random.Random(name)
    accepted_count = 0
    for _ in range(300):
        history = corrupted(rng, random_history(rng, kind.thing(), 6, 4))
        verdict = agree(kind, history)
        assert agree(kind, history[::-1]) == verdict
        accepted_count += verdict
    assert 30 < accepted_count < 225
