"""The models of variables, locks and queues: what each may answer, and what it must not.

Mostly nothing overlaps in these histories: a step is an input with its output, or an input alone when its
client never learned the outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import pytest
from history_helpers import done, in_turn, lost, naive

from raftcoord.client.aio_variable import UNSET
from raftcoord.testing.linearizability import UNKNOWN, Model, Operation, Verdict, check
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
    QueueState,
    Return,
    Size,
    Take,
    TakeBatch,
    check_queue,
    settled,
)

Steps: TypeAlias = list[Any]
Table: TypeAlias = dict[str, tuple[bool, Steps]]

REGISTER: Table = {
    "set, get": (True, [(Set(1), None), (Get(), 1)]),
    "stale read": (False, [(Set(1), None), (Set(2), None), (Get(), 1)]),
    "value from nowhere": (False, [(Set(1), None), (Get(), 2)]),
    "get of unset": (False, [(Get(), UNSET)]),
    "get_now": (True, [(GetNow(), UNSET), (Set(1), None), (GetNow(), 1)]),
    "get_now misses a value": (False, [(Set(1), None), (GetNow(), UNSET)]),
    "get_now of unset": (False, [(GetNow(), 1)]),
    "add": (True, [(Add(2), 2), (Add(3), 5), (Set(1), None), (Add(1), 2), (Get(), 2)]),
    "lost update": (False, [(Add(1), 1), (Add(1), 1)]),
    "add loses a set": (False, [(Set(5), None), (Add(1), 1)]),
    "add to text": (False, [(Set("a"), None), (Add(1), 1)]),
    "delete": (True, [(Delete(), False), (Set(1), None), (Delete(), True), (GetNow(), UNSET), (Add(1), 1)]),
    "delete of nothing": (False, [(Delete(), True)]),
    "delete that missed": (False, [(Set(1), None), (Delete(), False)]),
    "value after delete": (False, [(Set(1), None), (Delete(), True), (Get(), 1)]),
    "compare": (True, [(CompareAndSet(UNSET, 1), True), (CompareAndSet(1, 2), True), (Get(), 2)]),
    "compare fails": (True, [(CompareAndSet(1, 2), False), (Set(1), None), (CompareAndSet(UNSET, 2), False)]),
    "failed compare sets": (False, [(Set(1), None), (CompareAndSet(3, 2), False), (Get(), 2)]),
    "compare must hold": (False, [(Set(1), None), (CompareAndSet(2, 3), True)]),
    "compare must not fail": (False, [(Set(1), None), (CompareAndSet(1, 3), False)]),
    "revisions": (True, [(Set(1), None), (GetVersioned(), (1, 7)), (Set(1), None), (GetVersioned(), (1, 9))]),
    "versioned value": (False, [(Set(1), None), (GetVersioned(), (2, 7))]),
    "versioned of unset": (False, [(GetVersioned(), (UNSET, 0))]),
    "revision of unset": (False, [(Set(1), None), (GetVersioned(), (1, 0))]),
    "revision changes": (False, [(Set(1), None), (GetVersioned(), (1, 7)), (GetVersioned(), (1, 8))]),
    "revision stays": (
        False,
        [(Set(1), None), (GetVersioned(), (1, 7)), (Set(1), None), (GetVersioned(), (1, 7))],
    ),
    "revision shrinks": (
        False,
        [(Set(1), None), (GetVersioned(), (1, 7)), (Add(1), 2), (GetVersioned(), (2, 6))],
    ),
    "revisions grow over a delete": (
        False,
        [
            (Set(1), None),
            (GetVersioned(), (1, 7)),
            (Delete(), True),
            (Set(1), None),
            (GetVersioned(), (1, 7)),
        ],
    ),
    "two sets take two revisions": (False, [(Set(1), None), (Set(2), None), (GetVersioned(), (2, 1))]),
    "failed compare takes none": (
        True,
        [(Set(1), None), (GetVersioned(), (1, 7)), (CompareAndSet(2, 2), False), (GetVersioned(), (1, 7))],
    ),
    "by revision": (
        True,
        [(CompareRevisionAndSet(0, 1), True), (CompareRevisionAndSet(4, 2), True), (GetVersioned(), (2, 5))],
    ),
    "by revision that must be larger": (False, [(CompareRevisionAndSet(4, 2), True)]),
    "by revision 0 that is set": (False, [(Set(1), None), (CompareRevisionAndSet(0, 2), True)]),
    "by revision 0 must not fail": (False, [(CompareRevisionAndSet(0, 1), False)]),
    "by revision fails": (
        True,
        [
            (CompareRevisionAndSet(3, 1), False),
            (Set(1), None),
            (CompareRevisionAndSet(3, 2), False),
            (Get(), 1),
        ],
    ),
    "by revision must not fail": (
        False,
        [(Set(1), None), (GetVersioned(), (1, 7)), (CompareRevisionAndSet(7, 2), False)],
    ),
    "by an old revision": (
        False,
        [(Set(1), None), (GetVersioned(), (1, 7)), (Set(2), None), (CompareRevisionAndSet(7, 2), True)],
    ),
    "by revision, then the same": (
        False,
        [(Set(1), None), (CompareRevisionAndSet(7, 2), True), (GetVersioned(), (2, 7))],
    ),
    "unknown set": (True, [Set(1), (GetNow(), UNSET), (Get(), 1), (GetVersioned(), (1, 3))]),
    "unknown set undone": (False, [Set(1), (Get(), 1), (GetNow(), UNSET)]),
    "unknown set takes a revision": (
        False,
        [(Set(1), None), (GetVersioned(), (1, 7)), Set(2), (Get(), 2), (GetVersioned(), (2, 7))],
    ),
    "unknown add": (True, [Add(1), (Set(5), None), (Get(), 6)]),
    "unknown add happens once": (False, [Add(1), (Set(5), None), (Get(), 7)]),
    "unknown delete": (True, [Delete(), (Set(5), None), (GetNow(), UNSET)]),
    "unknown compare": (True, [CompareAndSet(5, 6), (Set(5), None), (Get(), 6)]),
    "unknown compare fails": (False, [CompareAndSet(4, 6), (Set(5), None), (Get(), 6)]),
    "unknown by revision": (True, [CompareRevisionAndSet(3, 6), (Set(5), None), (GetVersioned(), (6, 4))]),
    "unknown by revision that is too small": (
        False,
        [(Set(5), None), (GetVersioned(), (5, 4)), CompareRevisionAndSet(3, 6), (Get(), 6)],
    ),
    "unknown reads": (True, [Get(), GetNow(), GetVersioned(), (Set(1), None), (Get(), 1)]),
}

LOCK: Table = {
    "in turn": (True, [(Acquire(1), 3), (Release(3), None), (Acquire(2), 8), (Release(8), None)]),
    "held twice": (False, [(Acquire(1), 3), (Acquire(2), 4)]),
    "held twice by one": (False, [(Acquire(1), 3), (Acquire(1), 4)]),
    "fence stays": (False, [(Acquire(1), 3), (Release(3), None), (Acquire(2), 3)]),
    "fence shrinks": (False, [(Acquire(1), 3), (Release(3), None), (TryAcquire(2), 2)]),
    "try": (True, [(TryAcquire(1), 3), (TryAcquire(2), None), (Release(3), None), (TryAcquire(2), 4)]),
    "try of a held lock": (False, [(Acquire(1), 3), (TryAcquire(2), 4)]),
    "try of a free lock": (False, [(TryAcquire(1), None)]),
    "release of a free lock": (False, [(Release(3), None)]),
    "release of another grant": (False, [(Acquire(1), 3), (Release(2), None)]),
    "released twice": (False, [(Acquire(1), 3), (Release(3), None), (Release(3), None)]),
    "session may end": (True, [(Acquire(1), 3), SessionEnd(1), (Acquire(2), 4)]),
    "session need not end": (
        True,
        [(Acquire(1), 3), SessionEnd(1), (TryAcquire(2), None), (Release(3), None)],
    ),
    "session of another": (False, [(Acquire(1), 3), SessionEnd(2), (Acquire(2), 4)]),
    "session has ended": (False, [(Acquire(1), 3), (SessionEnd(1), None), (TryAcquire(2), None)]),
    "session without the lock": (True, [(SessionEnd(1), None), (Acquire(2), 3), (TryAcquire(1), None)]),
    "session ends once": (False, [(Acquire(1), 3), SessionEnd(1), (Acquire(2), 4), (Acquire(1), 5)]),
    "release after the session": (False, [(Acquire(1), 3), (SessionEnd(1), None), (Release(3), None)]),
    "unknown acquire": (True, [Acquire(1), (TryAcquire(2), None)]),
    "unknown acquire holds": (False, [Acquire(1), (TryAcquire(2), None), (TryAcquire(2), 3)]),
    "unknown acquire and end": (True, [Acquire(1), (TryAcquire(2), None), SessionEnd(1), (TryAcquire(2), 3)]),
    "unknown acquire takes a fence": (
        False,
        [
            (Acquire(1), 3),
            (Release(3), None),
            Acquire(1),
            (TryAcquire(2), None),
            SessionEnd(1),
            (Acquire(2), 4),
        ],
    ),
    "unknown try": (True, [(Acquire(2), 1), TryAcquire(1), (Release(1), None), (TryAcquire(2), None)]),
    "unknown release": (True, [(Acquire(1), 3), Release(3), (TryAcquire(2), None), (Acquire(2), 4)]),
    "unknown release of another grant": (False, [(Acquire(1), 3), Release(2), (Acquire(2), 4)]),
    "release of a fence learned later": (True, [Acquire(1), (Release(5), None), (Acquire(2), 6)]),
    "fences after that one": (False, [Acquire(1), (Release(5), None), (Acquire(2), 5)]),
}

PUT_12: Steps = [(Put(1), None), (Put(2), None)]
QUEUE: Table = {
    "first in, first out": (True, [*PUT_12, (Size(), 2), (Take(), 1), (Take(), 2), (Size(), 0)]),
    "out of order": (False, [*PUT_12, (Take(), 2)]),
    "lost item": (False, [*PUT_12, (Take(), 1), (Put(3), None), (Take(), 3)]),
    "taken twice": (False, [*PUT_12, (Take(), 1), (Take(), 1)]),
    "taken from nothing": (False, [(Take(), 1)]),
    "taken before it was put": (False, [(Take(), 1), (Put(1), None)]),
    "size": (False, [*PUT_12, (Size(), 1)]),
    "the same item twice": (True, [*PUT_12, (Put(1), None), (Take(), 1), (Take(), 2), (Take(), 1)]),
    "many": (True, [(PutMany((1, 2)), None), (Put(3), None), (TakeBatch(2), [1, 2]), (Drain(), [3])]),
    "many out of order": (False, [(PutMany((1, 2)), None), (Take(), 2)]),
    "part of many": (False, [(PutMany((1, 2)), None), (Drain(), [1])]),
    "batch out of order": (False, [*PUT_12, (TakeBatch(2), [2, 1])]),
    "small batch": (False, [*PUT_12, (TakeBatch(3), [1, 2])]),
    "drain": (True, [(Drain(), []), *PUT_12, (Drain(), [1, 2]), (Drain(), [])]),
    "drain leaves some": (False, [*PUT_12, (Drain(), [1])]),
    "drain misses all": (False, [*PUT_12, (Drain(), [])]),
    "drained twice": (False, [*PUT_12, (Drain(), [1, 2]), (Take(), 1)]),
    "came back": (True, [*PUT_12, (Take(), 1), GiveBack((1,)), (Take(), 1), (Take(), 2)]),
    "came back late": (True, [*PUT_12, (Take(), 1), GiveBack((1,)), (Take(), 2), (Take(), 1)]),
    "came back together": (
        True,
        [*PUT_12, (Drain(), [1, 2]), GiveBack((1,)), GiveBack((2,)), (Drain(), [1, 2])],
    ),
    "came back for certain": (False, [*PUT_12, (Take(), 1), (GiveBack((1,)), None), (Take(), 2)]),
    "came back to the end": (
        False,
        [*PUT_12, (Take(), 1), GiveBack((1,)), (Put(3), None), (Drain(), [2, 3, 1])],
    ),
    "came back twice": (False, [*PUT_12, (Take(), 1), GiveBack((1,)), (Take(), 1), (Take(), 1)]),
    "unknown put": (True, [Put(1), (Size(), 0), (Take(), 1)]),
    "unknown put happens once": (False, [Put(1), (Take(), 1), (Take(), 1)]),
    "unknown put of many": (True, [PutMany((1, 2)), (Size(), 0), (Drain(), [1, 2])]),
    "unknown put of half": (False, [PutMany((1, 2)), (Drain(), [1])]),
    "unknown take": (True, [*PUT_12, Take(), (Size(), 2), (Take(), 2)]),
    "unknown take takes one": (False, [*PUT_12, (Put(3), None), Take(), (Take(), 3)]),
    "unknown batch": (True, [*PUT_12, (Put(3), None), TakeBatch(2), (Take(), 3)]),
    "unknown batch is whole": (False, [*PUT_12, TakeBatch(2), (Take(), 2)]),
    "unknown drain": (True, [*PUT_12, Drain(), (Size(), 0), (Put(3), None), (Take(), 3)]),
    "unknown size": (True, [*PUT_12, Size(), (Take(), 1)]),
    "unknown take returns": (True, [*PUT_12, Take("a"), (Size(), 1), Return("a"), (Drain(), [1, 2])]),
    "unknown take stays away": (False, [*PUT_12, Take(), (Size(), 1), Return("a"), (Drain(), [1, 2])]),
    "returns once": (False, [*PUT_12, Take("a"), (Take(), 2), Return("a"), (Take(), 1), (Take(), 1)]),
    "returns in order": (
        True,
        [*PUT_12, Drain("a"), (Size(), 0), Return("a"), (Put(3), None), (Drain(), [1, 2, 3])],
    ),
}
BOUNDED: Table = {
    "full": (True, [*PUT_12, (Take(), 1), (Put(3), None), (Drain(), [2, 3])]),
    "overfull": (False, [*PUT_12, (Put(3), None)]),
    "many at once": (True, [(PutMany((1, 2)), None), (Size(), 2)]),
    "many over the bound": (False, [(Put(1), None), (PutMany((2, 3)), None)]),
    "unknown put waits": (False, [*PUT_12, Put(3), (Size(), 3)]),
    "came back over the bound": (
        True,
        [*PUT_12, (Take(), 1), GiveBack((1,)), (Put(3), None), (Drain(), [1, 2, 3])],
    ),
}
BATCHES: Table = {
    "a batch is first in line": (True, [TakeBatch(3), *PUT_12, (Drain(), []), (Drain(), [1, 2])]),
    "a drain never takes a part": (False, [TakeBatch(3), *PUT_12, (Drain(), [1])]),
}
CASES: list[tuple[str, Callable[[list[Operation]], Model], Table]] = [
    ("register", lambda history: RegisterModel(), REGISTER),
    ("lock", lambda history: LockModel(), LOCK),
    ("queue", QueueModel, QUEUE),
    ("queue without foresight", lambda history: QueueModel(), QUEUE),
    ("bounded queue", lambda history: QueueModel(history, maxsize=2), BOUNDED),
    ("queue with batches", QueueModel, BATCHES),
]


@pytest.mark.parametrize(
    ("make", "good", "steps"),
    [
        pytest.param(make, good, steps, id=f"{kind}: {name}")
        for kind, make, table in CASES
        for name, (good, steps) in table.items()
    ],
)
def test_what_objects_may_answer(make: Callable[[list[Operation]], Model], good: bool, steps: Steps) -> None:
    history = in_turn(*steps)
    result = check(make(history), history)
    assert result.verdict is (Verdict.LINEARIZABLE if good else Verdict.NOT_LINEARIZABLE), result.explain()
    assert naive(make(history), history) == good


@pytest.mark.parametrize("name", QUEUE)
def test_what_is_settled_beforehand_does_not_change_the_verdict(name: str) -> None:
    good, steps = QUEUE[name]
    assert (check_queue(in_turn(*steps)).verdict is Verdict.LINEARIZABLE) == good


def test_every_operation_is_answered_and_of_unknown_outcome_somewhere() -> None:
    steps = [step for _, _, table in CASES for _, case in table.values() for step in case]
    answered = {type(step[0]) for step in steps if type(step) is tuple}
    unknown = {type(step) for step in steps if type(step) is not tuple}
    assert answered ^ unknown == {Return}  # nobody is told of a return


def test_puts_of_unknown_outcome_are_settled_by_what_others_took() -> None:
    put, many = lost(0, Put(1)), lost(1, PutMany((2, 3)))
    takes = [done(2, 9, Take(), 1), done(4, 8, Take(), 2)]
    assert settled([put, many, *takes]) == [
        done(0, 9, Put(1), None),
        done(1, 8, PutMany((2, 3)), None),
        *takes,
    ]
    assert settled([put, many]) == []
    size = done(2, 3, Size(), 1)
    assert settled([put, many, size]) == [put, many, size]
    again = done(3, 4, Put(1), None)
    assert settled([put, again, *takes]) == [put, again, *takes]
    for call_at, is_like_a_put in ((9, True), (9.5, False)):
        back = lost(call_at, GiveBack((1,)))
        assert settled([put, back, *takes]) == [
            put if is_like_a_put else done(0, 9, Put(1), None),
            back,
            *takes,
        ]
    too_late = lost(10, Put(1))
    assert settled([too_late, *takes]) == [too_late, *takes]


def test_the_order_of_overlapping_puts_is_open_until_it_shows() -> None:
    puts = [done(2 * number, 2 * number + 3, Put(number), None) for number in range(30)]

    def with_takes(*values: int) -> list[Operation]:
        return puts + [
            done(100 + 2 * turn, 101 + 2 * turn, Take(), value) for turn, value in enumerate(values)
        ]

    swapped = [number ^ 1 for number in range(30)]
    good, bad = with_takes(*swapped), with_takes(*swapped[:-4], 29, *swapped[-4:-2])
    assert check(QueueModel(good), good, steps_max=200).verdict is Verdict.LINEARIZABLE
    result = check(QueueModel(bad), bad, steps_max=500)
    assert result.verdict is Verdict.NOT_LINEARIZABLE
    assert str(result.states[0]) == "<queue [{26, 27, 28, 29}]>"
    assert check(QueueModel(), bad, steps_max=20_000).verdict is Verdict.UNDECIDED


def test_a_take_of_unknown_outcome_takes_nothing_that_others_got() -> None:
    history = in_turn(*((Put(number), None) for number in range(40)))
    history += [lost(100 + number, Take()) for number in range(20)]
    for turn, value in enumerate((*range(20), 25, 24)):
        history.append(done(200 + 2 * turn, 201 + 2 * turn, Take(), value))
    assert check_queue(history[:-1], steps_max=500).verdict is Verdict.LINEARIZABLE
    assert check_queue(history, steps_max=500).verdict is Verdict.NOT_LINEARIZABLE


def test_a_size_closes_the_order() -> None:
    one, two = done(0, 9, Put(1), None), done(0, 9, Put(2), None)
    size = done(3, 4, Size(), 1)
    swapped = [done(5, 6, Take(), 1), done(10, 11, Take(), 2)]
    for first, second in ((one, two), (two, one)):
        history = [first, second, size, *swapped]
        assert check_queue(history).verdict is Verdict.LINEARIZABLE
        seen = [*history[:2], done(1, 2, Drain(), [])]
        assert check_queue(seen).verdict is Verdict.LINEARIZABLE
    early = [done(0, 1, Put(1), None), two, done(2, 3, Size(), 1), done(4, 5, Size(), 2)]
    assert check_queue([*early, done(10, 11, TakeBatch(2), [1, 2])]).verdict is Verdict.LINEARIZABLE
    assert check_queue([*early, done(10, 11, TakeBatch(2), [2, 1])]).verdict is Verdict.NOT_LINEARIZABLE
    # The puts overlap, but 1 was there alone before 2 was called.
    open_put = [done(0, 9, Put(1), None), done(3, 9, Put(2), None), done(10, 11, TakeBatch(2), [2, 1])]
    assert check_queue(open_put).verdict is Verdict.LINEARIZABLE
    assert check_queue([done(1, 2, Size(), 1), *open_put]).verdict is Verdict.NOT_LINEARIZABLE


def test_a_state_is_readable() -> None:
    history = [lost(0, Take("a")), lost(0, Return("a")), *in_turn((PutMany((1, 2)), None), (Put(3), None))]
    model = QueueModel(history)
    (put,) = model.step(model.initial(), PutMany((1, 2)), None)
    (both,) = model.step(cast("QueueState", put), Put(3), None)
    (taken,) = model.step(cast("QueueState", put), Take("a"), UNKNOWN)
    assert [str(put), str(both), str(taken)] == [
        "<queue [1, 2]>",
        "<queue [{1, 2, 3}]>",
        "<queue [2] loan 'a': [1]>",
    ]
