"""The linearizability checker: recorded histories with known verdicts, and hand-written ones.

What the models allow is in `test_linearizability_models`; random histories are among the property tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from history_helpers import done, in_turn, is_linearizable, lost

from raftcoord.testing.linearizability import UNKNOWN, Operation, Verdict, check, partition
from raftcoord.testing.models import Add, Get, RegisterModel, RegisterState, Set
from raftcoord.testing.queue_model import Put, QueueModel, Take

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


@pytest.mark.parametrize(
    "made",
    [
        [Set(number) for number in range(40)],
        [Set(1), Set(2), Set(3)] * 13,
        [Add(1)] * 40,
        [Set(0), Add(1)] * 20,
    ],
    ids=["different sets", "same sets", "adds", "sets and adds"],
)
def test_operations_of_unknown_outcome_are_not_tried_in_all_subsets(made: list[Any]) -> None:
    history = [lost(number, operation_input) for number, operation_input in enumerate(made)]
    history += [done(100 + 2 * turn, 101 + 2 * turn, Get(), seen) for turn, seen in enumerate((1, 2, 3))]
    model = RegisterModel()
    assert check(model, history, steps_max=200).verdict is Verdict.LINEARIZABLE
    never_set = done(200, 201, Get(), -1)
    assert check(model, [*history, never_set], steps_max=20_000).verdict is Verdict.NOT_LINEARIZABLE


def test_the_longest_order_ends_with_an_answered_operation() -> None:
    history = [done(0, 1, Set(1), None), lost(2, Set(2)), done(3, 4, Get(), 3)]
    result = check(RegisterModel(), history)
    assert result.longest == (history[0],)
    assert result.states == (RegisterState(1, 1, False),)


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
