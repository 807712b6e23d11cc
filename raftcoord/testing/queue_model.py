"""What a queue does, one operation after the other: a model for `linearizability`.

Which of two overlapping puts came first shows only when their items are taken. To a search that must decide it
when the puts take effect, every such pair doubles the number of states, and a queue of thirty items is out of
reach. So the model is given the history, and leaves the order of overlapping puts open until it shows.

What must not live here: anything of the state machine, as in `models`. What is said there of inputs, of values
and of unknown outcomes holds here too.

Invariants:
  1. A queue is a row of groups. An item of one group is in front of all items of later groups.
  2. A put joins the last group as long as that is open. An answer that tells how many items there are closes
     it: what is put afterwards was put later.
  3. An item may leave the first group if no put of another item there returned before its own was called.
     As calls and returns are intervals, some order of the puts then explains every order in which items left.
  4. Without the history every put is a group of its own, and the order is that of effect. With it the model
     allows the same histories, apart from bounds: a bounded queue may be taken for full a little later.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from raftcoord.testing.linearizability import UNKNOWN, Operation

Loan: TypeAlias = int | str
Values: TypeAlias = tuple[Any, ...]
_Batch: TypeAlias = tuple[int, Values]
_Groups: TypeAlias = tuple[tuple[_Batch, ...], ...]

_ALONE = -1  # instead of the number of a put: in a group of its own


@dataclass(frozen=True, slots=True)
class Put:
    """`put(value)`; any output but UNKNOWN says that it was done. Waits while the queue is full."""

    value: Any


@dataclass(frozen=True, slots=True)
class PutMany:
    """`put_many(values)`: all of them, with nothing in between."""

    values: Values


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

    values: Values


@dataclass(frozen=True, slots=True)
class Return:
    """What a take of unknown outcome took, if anything, returns to the head. Itself mostly one of these."""

    loan: Loan


class QueueState(NamedTuple):
    """A queue.

    groups     the items, each with those that were put with it, and the number of that put
    is_open    whether another put may join the last group
    loans      what named takes of unknown outcome took, in their order
    """

    groups: _Groups = ()
    is_open: bool = False
    loans: tuple[tuple[Loan, _Groups], ...] = ()

    def __repr__(self) -> str:
        loans = "".join(f" loan {loan!r}: {_text(groups)}" for loan, groups in self.loans)
        return f"<queue {_text(self.groups)}{loans}>"

    @property
    def size(self) -> int:
        return sum(len(values) for group in self.groups for _, values in group)


def _text(groups: _Groups) -> str:
    """Return items as text; what is in braces is there in any order."""
    texts = []
    for group in groups:
        items = ", ".join(repr(value) for _, values in group for value in values)
        texts.append(items if len(group) == 1 else f"{{{items}}}")
    return f"[{', '.join(texts)}]"


class QueueModel:
    """A `Queue`.

    Args:
        history: what is going to be checked; without it long histories are out of reach.
        maxsize: how many items fit; 0 for no bound. Items that return may exceed it.
    """

    def __init__(self, history: Iterable[Operation] = (), *, maxsize: int = 0) -> None:
        self._maxsize = maxsize
        self._numbers: dict[Values, int] = {}
        self._calls: list[float] = []
        self._returns: list[float] = []
        # While a batch waits for more items than there are a drain gets none: then an empty one says nothing.
        self._has_batches = False
        for operation in history:
            self._has_batches |= isinstance(operation.input, TakeBatch)
            if isinstance(operation.input, Put | PutMany):
                self._note_put(operation, _values_of(operation.input))
        self._steps: Mapping[type, Callable[[QueueState, Any, Any], Iterable[Hashable]]] = {
            Put: self._put,
            PutMany: self._put,
            Take: self._take,
            TakeBatch: self._take_batch,
            Drain: self._drain,
            Size: self._size,
            GiveBack: self._give_back,
            Return: self._return,
        }

    def _note_put(self, operation: Operation, values: Values) -> None:
        number = self._numbers.setdefault(values, len(self._numbers))
        if number == len(self._calls):
            self._calls.append(operation.call_at)
            self._returns.append(operation.return_at)
        else:  # the same values again: which of the puts it was is left open as well
            self._calls[number] = min(self._calls[number], operation.call_at)
            self._returns[number] = max(self._returns[number], operation.return_at)

    def initial(self) -> QueueState:
        return QueueState()

    def step(self, state: QueueState, operation_input: Any, output: Any) -> Iterable[Hashable]:
        return self._steps[type(operation_input)](state, operation_input, output)

    def _put(self, state: QueueState, made: Put | PutMany, output: Any) -> Iterable[QueueState]:
        values = _values_of(made)
        if self._maxsize and state.size + len(values) > self._maxsize:
            return ()
        if not values:
            return (state,)
        number = self._numbers.get(values, _ALONE)
        groups, batch = state.groups, (number, values)
        if state.is_open and number != _ALONE:
            # Sorted, so that the order of effect makes no difference to the state.
            groups = (*groups[:-1], tuple(sorted((*groups[-1], batch), key=_number)))
        else:
            groups = (*groups, (batch,))
        return (QueueState(groups, number != _ALONE, state.loans),)

    def _heads(self, state: QueueState) -> Iterator[tuple[Any, QueueState]]:
        """Yield what may be the first item, and the queue without it."""
        if not state.groups:
            return
        first, later = state.groups[0], state.groups[1:]
        for index, (number, values) in enumerate(first):
            others = first[:index] + first[index + 1 :]
            if any(self._returns[other] < self._calls[number] for other, _ in others):
                continue
            groups = (others, *later) if others else later
            is_open = state.is_open and bool(groups)
            if len(values) > 1:
                groups = (((number, values[1:]),), *groups)
            yield values[0], QueueState(groups, is_open, state.loans)

    def _without(self, state: QueueState, expected: Iterable[Any]) -> list[QueueState]:
        """Return the queues that remain when these items are taken."""
        states = [state]
        for value in expected:
            states = [rest for before in states for head, rest in self._heads(before) if head == value]
        return states

    def _without_any(self, state: QueueState, count: int, loan: Loan | None) -> Iterable[QueueState]:
        """Return the queues that remain when so many items are taken, and nobody knows which."""
        states: dict[tuple[QueueState, Values], None] = {(state, ()): None}
        for _ in range(count):
            states = {
                (rest, taken if loan is None else (*taken, head)): None
                for before, taken in states
                for head, rest in self._heads(before)
            }
        for rest, taken in states:
            yield rest if loan is None else _lent(rest, loan, (((_ALONE, taken),),))

    def _take(self, state: QueueState, made: Take, output: Any) -> Iterable[QueueState]:
        return (
            self._without_any(state, 1, made.loan) if output is UNKNOWN else self._without(state, (output,))
        )

    def _take_batch(self, state: QueueState, made: TakeBatch, output: Any) -> Iterable[QueueState]:
        if output is UNKNOWN:
            return self._without_any(state, made.count, made.loan)
        return self._without(state, output) if len(output) == made.count else ()

    def _drain(self, state: QueueState, made: Drain, output: Any) -> Iterable[QueueState]:
        if output is UNKNOWN:
            rest = QueueState((), False, state.loans)
            return (rest if made.loan is None or not state.groups else _lent(rest, made.loan, state.groups),)
        if not output and self._has_batches:
            return (state,)
        return [rest for rest in self._without(state, output) if not rest.groups]

    def _size(self, state: QueueState, made: Size, output: Any) -> Iterable[QueueState]:
        if output is UNKNOWN:
            return (state,)
        return (state._replace(is_open=False),) if output == state.size else ()

    def _give_back(self, state: QueueState, made: GiveBack, output: Any) -> Iterable[QueueState]:
        return (_with_head(state, (((_ALONE, made.values),),) if made.values else ()),)

    def _return(self, state: QueueState, made: Return, output: Any) -> Iterable[QueueState]:
        for loan, groups in state.loans:
            if loan == made.loan:
                kept = tuple(lent for lent in state.loans if lent[0] != made.loan)
                return (_with_head(state, groups)._replace(loans=kept),)
        return (state,)


def _values_of(made: Put | PutMany) -> Values:
    return made.values if isinstance(made, PutMany) else (made.value,)


def _number(batch: _Batch) -> int:
    return batch[0]


def _lent(state: QueueState, loan: Loan, groups: _Groups) -> QueueState:
    return state._replace(loans=(*state.loans, (loan, groups)))


def _with_head(state: QueueState, groups: _Groups) -> QueueState:
    return QueueState(groups + state.groups, state.is_open and bool(state.groups), state.loans)
