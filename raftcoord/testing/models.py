"""What variables, locks and queues do, one operation after the other: models for `linearizability`.

They are written from what the objects promise to their users, so nothing of the state machine is used here,
and nothing must be: a model that shares its code would share its mistakes.

Inputs are dataclasses, named after the calls. Values must be hashable and equal to themselves; as everywhere
in Python 1, 1.0 and True are equal. A call that raised an error which says that nothing happened is left out
of the history.

Invariants:
  1. A model never refuses what the object may answer. Where it does not know it allows more: a revision or
     fence that nobody has read is only known to be larger than the one before.
  2. An operation of unknown outcome has every effect that it may have, whatever its answer would be.
  3. States are as few as can be: with an unknown outcome nothing is counted that an answer would be needed
     for, so that orders which come to the same give the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from raftcoord.client.aio_variable import UNSET
from raftcoord.testing.linearizability import UNKNOWN

Client: TypeAlias = int | str
Loan: TypeAlias = int | str
_Steps: TypeAlias = Mapping[type, Callable[[Any, Any, Any], Iterable[Hashable]]]

# Variables.


@dataclass(frozen=True, slots=True)
class Set:
    """`set(value)`; any output but UNKNOWN says that it was done."""

    value: Any


@dataclass(frozen=True, slots=True)
class Get:
    """`get()` -> value; waits while the variable is unset."""


@dataclass(frozen=True, slots=True)
class GetVersioned:
    """`get_versioned()` -> (value, revision)."""


@dataclass(frozen=True, slots=True)
class GetNow:
    """`get(timeout=0)` -> value or UNSET."""


@dataclass(frozen=True, slots=True)
class CompareAndSet:
    """`compare_and_set(expected, value)` -> bool; `expected` may be UNSET."""

    expected: Any
    value: Any


@dataclass(frozen=True, slots=True)
class CompareRevisionAndSet:
    """`compare_and_set(value=value, revision=revision)` -> bool; revision 0 stands for unset."""

    revision: int
    value: Any


@dataclass(frozen=True, slots=True)
class Add:
    """`add(n)` -> total."""

    n: float


@dataclass(frozen=True, slots=True)
class Delete:
    """`delete()` -> whether there was a value."""


class RegisterState(NamedTuple):
    """A variable. `revision` is that of the last set: exactly, or it is at least so large."""

    value: Any
    revision: int
    exact: bool


class RegisterModel:
    """A `Variable`. Revisions grow with every set, also across deletions; other objects use them up too."""

    def initial(self) -> RegisterState:
        return RegisterState(UNSET, 0, True)

    def step(self, state: RegisterState, operation_input: Any, output: Any) -> Iterable[Hashable]:
        return _REGISTER_STEPS[type(operation_input)](state, operation_input, output)


def _larger(number: int, exact: bool, output: Any) -> int:
    """Return the least number that may follow on a number that is known exactly, or to be at least so large.

    With an unknown outcome a bound stays as it is. If it grew, every set of unknown outcome that has been
    overwritten since would make two states out of one.
    """
    return number if output is UNKNOWN and not exact else number + 1


def _assigned(state: RegisterState, value: Any, output: Any) -> tuple[RegisterState]:
    return (RegisterState(value, _larger(state.revision, state.exact, output), False),)


def _set(state: RegisterState, made: Set, output: Any) -> Iterable[RegisterState]:
    return _assigned(state, made.value, output)


def _get(state: RegisterState, made: Get, output: Any) -> Iterable[RegisterState]:
    return (state,) if output is UNKNOWN or output == state.value is not UNSET else ()


def _get_now(state: RegisterState, made: GetNow, output: Any) -> Iterable[RegisterState]:
    return (state,) if output is UNKNOWN or output == state.value else ()


def _has_revision(state: RegisterState, revision: int) -> bool:
    """Tell whether a variable may have a revision."""
    if revision == 0 or state.value is UNSET:
        return revision == 0 and state.value is UNSET
    return revision == state.revision if state.exact else revision >= state.revision


def _get_versioned(state: RegisterState, made: GetVersioned, output: Any) -> Iterable[RegisterState]:
    if output is UNKNOWN:
        return (state,)
    value, revision = output
    if value != state.value or not revision or not _has_revision(state, revision):
        return ()
    return (RegisterState(state.value, revision, True),)


def _compare_and_set(state: RegisterState, made: CompareAndSet, output: Any) -> Iterable[RegisterState]:
    holds = state.value == made.expected
    if output is UNKNOWN or output is holds:
        return _assigned(state, made.value, output) if holds else (state,)
    return ()


def _compare_revision_and_set(
    state: RegisterState, made: CompareRevisionAndSet, output: Any
) -> Iterable[RegisterState]:
    may_hold = _has_revision(state, made.revision)
    if output is False:
        surely_holds = may_hold and (state.exact or not made.revision)
        return () if surely_holds else (state,)
    if not may_hold:
        return (state,) if output is UNKNOWN else ()
    # A revision that is not known is now: with unknown outcome this is the one answer that has an effect.
    seen = state if not made.revision else RegisterState(state.value, made.revision, True)
    return _assigned(seen, made.value, output)


def _add(state: RegisterState, made: Add, output: Any) -> Iterable[RegisterState]:
    value = 0 if state.value is UNSET else state.value
    if type(value) not in (int, float):
        return (state,) if output is UNKNOWN else ()
    total = value + made.n
    return _assigned(state, total, output) if output is UNKNOWN or output == total else ()


def _delete(state: RegisterState, made: Delete, output: Any) -> Iterable[RegisterState]:
    existed = state.value is not UNSET
    return (state._replace(value=UNSET),) if output is UNKNOWN or output is existed else ()


_REGISTER_STEPS: Final[_Steps] = {
    Set: _set,
    Get: _get,
    GetNow: _get_now,
    GetVersioned: _get_versioned,
    CompareAndSet: _compare_and_set,
    CompareRevisionAndSet: _compare_revision_and_set,
    Add: _add,
    Delete: _delete,
}


# Locks.


@dataclass(frozen=True, slots=True)
class Acquire:
    """`acquire()` -> fence; waits while the lock is held, by the same client also."""

    client: Client


@dataclass(frozen=True, slots=True)
class TryAcquire:
    """`acquire(blocking=False)` -> fence, or None when the lock is held."""

    client: Client


@dataclass(frozen=True, slots=True)
class Release:
    """`release()` of the grant with this fence; any output but UNKNOWN says that it was held and is free."""

    fence: int


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The session of a client ends, and what it holds is free.

    Mostly one of unknown outcome, called when the session was last known to be alive. Also stands for the end
    of an `acquire` that was given up: it may have been granted, and then the client releases it by itself.
    """

    client: Client


class LockState(NamedTuple):
    """A lock. `fence` is that of the last grant: exactly, or it is at least so large."""

    holder: Client | None
    fence: int
    exact: bool


class LockModel:
    """A `Lock`. Every grant has a fence larger than every earlier one."""

    def initial(self) -> LockState:
        return LockState(None, 0, True)

    def step(self, state: LockState, operation_input: Any, output: Any) -> Iterable[Hashable]:
        return _LOCK_STEPS[type(operation_input)](state, operation_input, output)


def _acquire(state: LockState, made: Acquire | TryAcquire, output: Any) -> Iterable[LockState]:
    if state.holder is not None:
        return ()
    if output is UNKNOWN:
        return (LockState(made.client, _larger(state.fence, state.exact, output), False),)
    return (LockState(made.client, output, True),) if output > state.fence else ()


def _try_acquire(state: LockState, made: TryAcquire, output: Any) -> Iterable[LockState]:
    if output is None:
        return () if state.holder is None else (state,)
    return _acquire(state, made, output)


def _release(state: LockState, made: Release, output: Any) -> Iterable[LockState]:
    may_be = made.fence == state.fence if state.exact else made.fence >= state.fence
    if state.holder is None or not may_be:
        return (state,) if output is UNKNOWN else ()
    return (LockState(None, made.fence, True),)


def _session_end(state: LockState, made: SessionEnd, output: Any) -> Iterable[LockState]:
    return (state if state.holder != made.client else state._replace(holder=None),)


_LOCK_STEPS: Final[_Steps] = {
    Acquire: _acquire,
    TryAcquire: _try_acquire,
    Release: _release,
    SessionEnd: _session_end,
}


# Queues.


@dataclass(frozen=True, slots=True)
class Put:
    """`put(value)`; any output but UNKNOWN says that it was done. Waits while the queue is full."""

    value: Any


@dataclass(frozen=True, slots=True)
class PutMany:
    """`put_many(values)`: all of them, with nothing in between."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Take:
    """`get()` -> value; waits while the queue is empty.

    `loan` is for a take of unknown outcome whose client died or gave up: the name by which `Return` knows it.
    """

    loan: Loan | None = None


@dataclass(frozen=True, slots=True)
class TakeBatch:
    """`get(batch=count)` -> list; waits until there are so many. `loan` as for `Take`."""

    count: int
    loan: Loan | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """`get(batch=True)` -> list of what is there. `loan` as for `Take`.

    Atomic only as long as it fits into one answer, so histories must keep their queues short enough.
    """

    loan: Loan | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """`qsize()` -> int."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Items return to the head: their client died before it confirmed them, though it had them.

    Mostly one of unknown outcome, called when the client had the items. One for each take, since what several
    clients lose together returns in the order in which it was taken.
    """

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Return:
    """What a take of unknown outcome took, if anything, returns to the head. Itself mostly one of these."""

    loan: Loan


class QueueState(NamedTuple):
    """A queue. `loans` are what named takes of unknown outcome took, in their order."""

    items: tuple[Any, ...]
    loans: tuple[tuple[Loan, tuple[Any, ...]], ...]


class QueueModel:
    """A `Queue`.

    Args:
        maxsize: how many items fit; 0 for no bound. Items that return may exceed it.
        batch_getters: whether the history has a `TakeBatch`. While one waits for more items than there are a
            drain gets none, so that an empty one says nothing.
    """

    def __init__(self, maxsize: int = 0, *, batch_getters: bool = False) -> None:
        self._maxsize = maxsize
        self._batch_getters = batch_getters
        self._steps: _Steps = {
            Put: self._put,
            PutMany: self._put_many,
            Take: self._take,
            TakeBatch: self._take_batch,
            Drain: self._drain,
            Size: self._size,
            GiveBack: self._give_back,
            Return: self._return,
        }

    def initial(self) -> QueueState:
        return QueueState((), ())

    def step(self, state: QueueState, operation_input: Any, output: Any) -> Iterable[Hashable]:
        return self._steps[type(operation_input)](state, operation_input, output)

    def _append(self, state: QueueState, values: tuple[Any, ...]) -> Iterable[QueueState]:
        if self._maxsize and len(state.items) + len(values) > self._maxsize:
            return ()
        return (QueueState(state.items + values, state.loans),)

    def _put(self, state: QueueState, made: Put, output: Any) -> Iterable[QueueState]:
        return self._append(state, (made.value,))

    def _put_many(self, state: QueueState, made: PutMany, output: Any) -> Iterable[QueueState]:
        return self._append(state, made.values)

    def _remove(
        self, state: QueueState, count: int, loan: Loan | None, expected: tuple[Any, ...] | None
    ) -> Iterable[QueueState]:
        """Take `count` items, which must be the expected ones; None: nobody knows which they were."""
        taken = state.items[:count]
        if len(taken) < count or (expected is not None and taken != expected):
            return ()
        loans = state.loans
        if expected is None and loan is not None and taken:
            loans += ((loan, taken),)
        return (QueueState(state.items[count:], loans),)

    def _take(self, state: QueueState, made: Take, output: Any) -> Iterable[QueueState]:
        return self._remove(state, 1, made.loan, None if output is UNKNOWN else (output,))

    def _take_batch(self, state: QueueState, made: TakeBatch, output: Any) -> Iterable[QueueState]:
        return self._remove(state, made.count, made.loan, None if output is UNKNOWN else tuple(output))

    def _drain(self, state: QueueState, made: Drain, output: Any) -> Iterable[QueueState]:
        if output is not UNKNOWN and not output and self._batch_getters:
            return (state,)
        expected = None if output is UNKNOWN else tuple(output)
        return self._remove(state, len(state.items), made.loan, expected)

    def _size(self, state: QueueState, made: Size, output: Any) -> Iterable[QueueState]:
        return (state,) if output is UNKNOWN or output == len(state.items) else ()

    def _give_back(self, state: QueueState, made: GiveBack, output: Any) -> Iterable[QueueState]:
        return (QueueState(made.values + state.items, state.loans),)

    def _return(self, state: QueueState, made: Return, output: Any) -> Iterable[QueueState]:
        returned = tuple(value for loan, values in state.loans if loan == made.loan for value in values)
        kept = tuple(lent for lent in state.loans if lent[0] != made.loan)
        return (QueueState(returned + state.items, kept),)
