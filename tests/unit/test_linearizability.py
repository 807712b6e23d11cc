"""The linearizability checker: recorded histories with known verdicts, hand-written ones, and random ones that
are checked by a naive search too. What the models allow is in `test_linearizability_models`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from history_helpers import done, in_turn, lost, naive
from hypothesis import given, settings
from hypothesis import strategies as st

from raftcoord.testing.linearizability import UNKNOWN, Model, Operation, Verdict, check, partition
from raftcoord.testing.models import (
    UNSET,
    Acquire,
    Add,
    CompareAndSet,
    CompareRevisionAndSet,
    Delete,
    Drain,
    Get,
    GetNow,
    GetVersioned,
    GiveBack,
    LockModel,
    Put,
    PutMany,
    QueueModel,
    RegisterModel,
    Release,
    Return,
    SessionEnd,
    Set,
    Size,
    Take,
    TakeBatch,
    TryAcquire,
)

HISTORIES = Path(__file__).resolve().parents[1] / "histories"
VERDICTS = dict(line.split() for line in (HISTORIES / "verdicts.txt").read_text("utf-8").splitlines())
LINE_PATTERNS = {
    "etcd": re.compile(
        r"INFO\s+jepsen\.util - (?P<process>\d+)\s+:(?P<type>\w+)\s+:(?P<f>\w+)\s+(?P<value>.*)"
    ),
    "kv": re.compile(
        r"\{:process (?P<process>\d+), :type :(?P<type>\w+), :f :(?P<f>\w+), "
        r':key "(?P<key>\w+)", :value (?:"(?P<value>.*)"|nil)\}'
    ),
}


def is_linearizable(model: Model, operations: Iterable[Operation]) -> bool:
    verdict = check(model, operations).verdict
    assert verdict is not Verdict.UNDECIDED
    return verdict is Verdict.LINEARIZABLE


# Recorded histories.


class EtcdModel:
    """One register with `:read`, `:write` and `:cas`."""

    def initial(self) -> str:
        return "nil"

    def step(self, state: str, made: tuple[str, str], output: Any) -> Iterable[str]:
        function, value = made
        if function == "read":
            return (state,) if output in (state, UNKNOWN) else ()
        if function == "write":
            return (value,)
        expected, new = value.strip("[]").split()
        holds = state == expected
        return (new if holds else state,) if output in (holds, UNKNOWN) else ()


class KvModel:
    """The string under one key."""

    def initial(self) -> str:
        return ""

    def step(self, state: str, made: tuple[str, str], output: Any) -> Iterable[str]:
        function, value = made
        if function == "get":
            return (state,) if output in (state, UNKNOWN) else ()
        return (value if function == "put" else state + value,)


def recorded(name: str) -> list[list[Operation]]:
    """Read a history, one list of operations for each key."""
    pattern = LINE_PATTERNS[name.partition("/")[0]]
    keys: dict[int, str] = {}
    open_calls: dict[str, Operation] = {}
    ended: list[Operation] = []
    for time, line in enumerate((HISTORIES / name).read_text("utf-8").splitlines()):
        match = pattern.fullmatch(line)
        assert match, line
        process, kind, function, value = match.group("process", "type", "f", "value")
        if kind == "invoke":
            call = open_calls[process] = lost(time, (function, value), int(process))
            keys[time] = match.groupdict().get("key", "")
            continue
        call = open_calls.pop(process)
        if kind == "info":
            ended.append(call)
        elif (function, kind) != ("read", "fail"):
            output = {"read": value, "get": value, "cas": kind == "ok"}.get(function)
            ended.append(replace(call, return_at=time, output=output))
    ended += open_calls.values()
    return list(partition(ended, key=lambda operation: keys[int(operation.call_at)]).values())


@pytest.mark.parametrize("name", VERDICTS)
def test_recorded_histories_have_their_known_verdict(name: str) -> None:
    model = EtcdModel() if name.startswith("etcd") else KvModel()
    results = [check(model, operations, steps_max=20_000) for operations in recorded(name)]
    assert all(result.verdict is not Verdict.UNDECIDED for result in results)
    is_valid = all(result.verdict is Verdict.LINEARIZABLE for result in results)
    assert is_valid == (VERDICTS[name] == "valid")


def test_all_recorded_histories_are_there() -> None:
    files = {str(file.relative_to(HISTORIES)) for file in HISTORIES.glob("*/*")}
    assert files == set(VERDICTS)
    assert sorted(set(VERDICTS.values())) == ["invalid", "valid"]


# The checker.


def test_an_operation_of_unknown_outcome_takes_effect_at_any_time_after_its_call_or_never() -> None:
    model = RegisterModel()
    first, unknown = done(0, 1, Set(1), None), lost(2, Set(2))
    assert is_linearizable(model, [unknown])
    assert is_linearizable(model, [first, unknown, done(8, 9, Get(), 1)])
    assert is_linearizable(model, [first, unknown, done(3, 4, Get(), 1), done(8, 9, Get(), 2)])
    assert is_linearizable(model, [first, unknown, done(8, 9, Set(3), None), done(10, 11, Get(), 2)])
    assert not is_linearizable(model, [first, done(0, 1, Get(), 2), unknown])
    assert not is_linearizable(model, [first, unknown, done(3, 4, Get(), 2), done(5, 6, Get(), 1)])


def test_overlapping_operations_take_effect_in_any_order_that_explains_them() -> None:
    model = RegisterModel()
    sets = [done(0, 10, Set(1), None, 1), done(0, 10, Set(2), None, 2)]
    for seen in (1, 2):
        assert is_linearizable(model, [*sets, done(11, 12, Get(), seen)])
        assert is_linearizable(model, [*sets, done(1, 2, Get(), 3 - seen), done(3, 4, Get(), seen)])
    assert not is_linearizable(model, [*sets, done(11, 12, Get(), 1), done(13, 14, Get(), 2)])
    assert not is_linearizable(
        model, [*sets, *(done(time, time + 1, Get(), 1 + time % 4 // 2) for time in (1, 3, 5))]
    )


def test_a_call_and_a_return_at_the_same_time_overlap() -> None:
    model = RegisterModel()
    assert is_linearizable(model, [done(0, 1, Get(), 1), done(1, 2, Set(1), None)])
    assert is_linearizable(model, [done(1, 1, Get(), 1), done(1, 1, Set(1), None)])
    assert not is_linearizable(model, [done(0, 1, Get(), 1), done(1.001, 2, Set(1), None)])


def test_an_answered_operation_without_a_return_must_still_take_effect() -> None:
    model = RegisterModel()
    assert is_linearizable(model, [done(0, inf, Get(), 1), done(5, 6, Set(1), None)])
    assert not is_linearizable(model, [done(0, inf, Get(), 2), done(5, 6, Set(1), None)])


class CoinModel:
    """`flip` answers nothing and leaves either side up; `look` tells which."""

    def initial(self) -> str:
        return "heads"

    def step(self, state: str, made: str, output: Any) -> Iterable[str]:
        if made == "flip":
            return ("heads", "tails")
        return (state,) if output in (state, UNKNOWN) else ()


def test_a_model_may_allow_several_states() -> None:
    model, flip = CoinModel(), ("flip", None)
    assert not is_linearizable(model, in_turn(("look", "tails")))
    for side in ("heads", "tails"):
        assert is_linearizable(model, in_turn(flip, ("look", side), flip, ("look", "tails")))
        assert is_linearizable(model, in_turn("flip", ("look", "heads"), ("look", side)))
    assert not is_linearizable(model, in_turn(flip, ("look", "tails"), ("look", "heads")))
    assert check(model, in_turn(flip)).states == ("heads", "tails")
    assert "state after it: 'heads' or 'tails'" in check(model, in_turn(flip)).explain()


def crowd(count: int, seen: int) -> list[Operation]:
    """Build a history of overlapping sets, and a read after them."""
    sets = [done(0, 100, Set(number), None, number) for number in range(count)]
    return [*sets, done(101, 102, Get(), seen)]


def test_the_search_ends_at_its_bound() -> None:
    good, bad = crowd(8, 0), crowd(8, -1)
    steps = check(RegisterModel(), bad).steps
    assert check(RegisterModel(), bad, steps_max=steps + 1).verdict is Verdict.NOT_LINEARIZABLE
    for steps_max in (0, 1, 100, steps - 1):
        result = check(RegisterModel(), bad, steps_max=steps_max)
        assert (result.verdict, result.steps) == (Verdict.UNDECIDED, steps_max)
        assert "undecided" in result.explain()
        assert "next to be placed:" in result.explain()
    found = check(RegisterModel(), good)
    assert found.verdict is Verdict.LINEARIZABLE
    assert check(RegisterModel(), good, steps_max=found.steps).verdict is Verdict.LINEARIZABLE
    assert check(RegisterModel(), good, steps_max=found.steps - 1).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("values", [1, 40], ids=["same", "different"])
def test_many_operations_of_unknown_outcome_are_not_tried_in_all_subsets(values: int) -> None:
    unknown = [lost(number, Set(number % values)) for number in range(40)]
    reads = [done(100 + 2 * time, 101 + 2 * time, Get(), 0) for time in range(5)]
    model = RegisterModel()
    assert check(model, [*unknown, *reads], steps_max=100).verdict is Verdict.LINEARIZABLE
    never_put = done(200, 201, Get(), -1)
    assert check(model, [*unknown, *reads, never_put], steps_max=10_000).verdict is Verdict.NOT_LINEARIZABLE


def test_a_result_explains_itself() -> None:
    history = [
        done(0, 1, Set(1), None, 1),
        lost(2, Set(2), 2),
        done(3, 4, Get(), 2, 3),
        done(5, 8, Get(), 1, 4),
        done(6, 7, Get(), 3, 5),
        done(9, 10, Get(), 2, 6),
    ]
    result = check(RegisterModel(), history)
    assert result.verdict is Verdict.NOT_LINEARIZABLE
    assert result.longest == tuple(history[:3])
    assert result.blocked == (history[4], history[3])
    assert result.explain().splitlines() == [
        f"not linearizable: 3 of 6 operations placed in {result.steps} steps",
        "order of effect:",
        "  1. [0, 1] client 1: Set(value=1) -> None",
        "  2. [2, never] client 2: Set(value=2) -> UNKNOWN",
        "  3. [3, 4] client 3: Get() -> 2",
        "state after it: RegisterState(value=2, revision=1, exact=False)",
        "one of these had to come next, and none could:",
        "  - [6, 7] client 5: Get() -> 3",
        "  - [5, 8] client 4: Get() -> 1",
    ]


def test_an_explanation_is_bounded() -> None:
    puts = in_turn(*((Put(number), None) for number in range(100)))
    takes = [done(300 + number, 400, Take(), 99, number) for number in range(30)]
    lines = check(QueueModel(), [*puts, *takes]).explain().splitlines()
    assert lines[2:4] == ["  ... 80 operations", "  81. [160, 161] client 0: Put(value=80) -> None"]
    assert lines[-2:] == ["  - [319, 400] client 19: Take(loan=None) -> 99", "  ... 10 more"]


def test_a_good_history_is_explained_without_what_was_not_needed() -> None:
    result = check(RegisterModel(), [lost(0, Set(5)), *in_turn((Set(1), None), (Get(), 1))])
    assert (len(result.longest), result.blocked) == (2, ())
    assert result.explain().startswith("linearizable: 2 of 3 operations placed")
    empty = check(RegisterModel(), [])
    assert (empty.verdict, empty.longest, empty.steps) == (Verdict.LINEARIZABLE, (), 0)


def test_inputs_need_not_be_hashable() -> None:
    class Stack(RegisterModel):
        def step(self, state: Any, operation_input: Any, output: Any) -> Iterable[Any]:
            return super().step(state, operation_input[0], output)

    assert is_linearizable(Stack(), [lost(0, [Set(1)]), lost(0, [Set(1)]), done(0, 1, [Get()], 1)])


def test_impossible_times_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot return at 1"):
        done(2, 1, Get(), 1)
    with pytest.raises(ValueError, match="cannot return at nan"):
        done(2, float("nan"), Get(), 1)
    with pytest.raises(ValueError, match=r"returns at math\.inf"):
        done(1, 2, Get(), UNKNOWN)


def test_partition_keeps_the_order() -> None:
    history = in_turn(("b", 1), ("a", 2), ("b", 3))
    groups = partition(history, key=lambda operation: operation.input)
    assert list(groups.items()) == [("b", [history[0], history[2]]), ("a", [history[1]])]


# Random histories: something really runs the operations, one after the other.

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
        self.holder = self.fence = 0

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
        self.loans: dict[int, list[int]] = {}
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
                self.items[:0], self.taken = made.values, []
                return None
        count = {Take: 1, TakeBatch: 2, Drain: len(self.items)}[type(made)]
        if len(self.items) < count:
            return WAITS
        values, self.items = self.items[:count], self.items[count:]
        if is_lost:
            self.loans[made.loan] = values
        else:
            self.taken = values
        return values[0] if isinstance(made, Take) else values


KINDS: dict[str, tuple[Model, type[Thing]]] = {
    "variable": (RegisterModel(), Variable),
    "lock": (LockModel(), Lock),
    "queue": (QueueModel(), Queue),
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


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(rng=st.randoms(use_true_random=False), count=st.integers(0, 30), overlap=st.integers(0, 9))
def test_what_really_happened_is_accepted(kind: str, rng: random.Random, count: int, overlap: int) -> None:
    model, thing = KINDS[kind]
    result = check(model, random_history(rng, thing(), count, overlap))
    assert result.verdict is Verdict.LINEARIZABLE, result.explain()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(rng=st.randoms(use_true_random=False), count=st.integers(1, 6), overlap=st.integers(0, 9))
def test_the_checker_agrees_with_a_naive_search(
    kind: str, rng: random.Random, count: int, overlap: int
) -> None:
    model, thing = KINDS[kind]
    history = random_history(rng, thing(), count, overlap)
    assert naive(model, history)
    history = corrupted(rng, history)
    assert is_linearizable(model, history) == naive(model, history)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_part_of_what_is_corrupted_is_rejected(kind: str) -> None:
    model, thing = KINDS[kind]
    rng = random.Random(kind)
    rejected_count = 0
    for _ in range(300):
        history = corrupted(rng, random_history(rng, thing(), 6, 4))
        expected = naive(model, history)
        assert is_linearizable(model, history) == expected
        assert is_linearizable(model, history[::-1]) == expected
        rejected_count += not expected
    assert 75 < rejected_count < 275
