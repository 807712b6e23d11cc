"""What variables and locks do, one operation after the other: models for `linearizability`.

Queues are in `queue_model`. The models are written from what the objects promise to their users. Nothing of
the state machine is used here, and nothing must be: a model that shares its code would share its mistakes.

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


# Events.


@dataclass(frozen=True, slots=True)
class SetEvent:
    """`set()` -> whether it was clear."""


@dataclass(frozen=True, slots=True)
class ClearEvent:
    """`clear()` -> whether it was set."""


@dataclass(frozen=True, slots=True)
class IsSet:
    """`is_set()`; also a `wait()` that ended in time, whose output is True."""


class EventModel:
    """An `Event`: its state is whether it is set."""

    def initial(self) -> bool:
        return False

    def step(self, state: bool, operation_input: Any, output: Any) -> Iterable[Hashable]:
        if isinstance(operation_input, IsSet):
            return (state,) if output in (UNKNOWN, state) else ()
        becomes = isinstance(operation_input, SetEvent)
        return (becomes,) if output in (UNKNOWN, state != becomes) else ()
