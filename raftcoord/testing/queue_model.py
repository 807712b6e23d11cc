"""What a queue does, one operation after the other: a model for `linearizability`, and foresight for it.

Which of two overlapping puts came first shows only when their items are taken. To a search that must decide
it when the puts take effect, every such pair doubles the number of states, and a queue of thirty items is out
of reach. So the model is given the history, and leaves the order of overlapping puts open until it shows.

What must not live here: anything of the state machine, as in `models`. What is said there of inputs, values
and unknown outcomes holds here too.

Invariants:
  1. A queue is a row of groups. An item of one group is in front of all items of later groups.
  2. A put joins the last group as long as that is open. An answer that tells how many items there are closes
     it: what is put afterwards was put later.
  3. An item may leave the first group if no put of another item there returned before its own was called.
     As calls and returns are intervals, some order of the puts then explains every order in which items left.
  4. A take of unknown outcome takes nothing that must still be there for the answers of others.
  5. Without the history every put is a group of its own, and the order is that of effect. With it the model
     allows the same histories and, rarely, more: of equal items it is left open which put is whose, and two
     puts that overlap may change places though a bound left room for one of them only. It never allows less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple, TypeAlias

from raftcoord.testing.linearizability import STEPS_MAX, UNKNOWN, Operation, Result, check

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
    is_open    whether another put may join the last group; never without a group
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
        # How often a value may come into the queue, less how often it was certainly taken out.
        self._spare: Counter[Any] = Counter()
        self._returned_loans: set[Loan] = set()
        self._has_history = False
        for operation in history:
            self._has_history = True
            self._note(operation)
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

    def _note(self, operation: Operation) -> None:
        match operation.input:
            case Put() | PutMany():
                self._note_put(operation, _values_of(operation.input))
            case GiveBack(values):
                self._spare.update(values)
            case Return(loan):
                self._returned_loans.add(loan)
            case TakeBatch():
                self._has_batches = True
        self._spare.subtract(_taken_values(operation))

    def _note_put(self, operation: Operation, values: Values) -> None:
        self._spare.update(values)
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

    def _may_vanish(self, value: Any) -> bool:
        return not self._has_history or self._spare[value] > 0

    def _loan_of(self, made: Take | TakeBatch | Drain) -> Loan | None:
        """Return by which name the items may come back; None if they are gone for good."""
        return made.loan if not self._has_history or made.loan in self._returned_loans else None

    def _without_any(self, state: QueueState, count: int, loan: Loan | None) -> Iterable[QueueState]:
        """Return the queues that remain when so many items are taken, and nobody knows which."""
        states: dict[tuple[QueueState, Values], None] = {(state, ()): None}
        for _ in range(count):
            states = {
                (rest, taken if loan is None else (*taken, head)): None
                for before, taken in states
                for head, rest in self._heads(before)
                if loan is not None or self._may_vanish(head)
            }
        for rest, taken in states:
            yield rest if loan is None else _lent(rest, loan, (((_ALONE, taken),),))

    def _take(self, state: QueueState, made: Take, output: Any) -> Iterable[QueueState]:
        if output is UNKNOWN:
            return self._without_any(state, 1, self._loan_of(made))
        return self._without(state, (output,))

    def _take_batch(self, state: QueueState, made: TakeBatch, output: Any) -> Iterable[QueueState]:
        if output is UNKNOWN:
            return self._without_any(state, made.count, self._loan_of(made))
        return self._without(state, output) if len(output) == made.count else ()

    def _drain(self, state: QueueState, made: Drain, output: Any) -> Iterable[QueueState]:
        if output is UNKNOWN:
            return self._without_all(state, self._loan_of(made))
        if not output and self._has_batches:
            return (state,)
        return [rest for rest in self._without(state, output) if not rest.groups]

    def _without_all(self, state: QueueState, loan: Loan | None) -> Iterable[QueueState]:
        rest = QueueState((), False, state.loans)
        if loan is not None:
            return (_lent(rest, loan, state.groups),)
        vanish = all(
            self._may_vanish(value) for group in state.groups for _, values in group for value in values
        )
        return (rest,) if vanish else ()

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


def check_queue(history: Iterable[Operation], *, maxsize: int = 0, steps_max: int = STEPS_MAX) -> Result:
    """Tell whether the history of one queue is linearizable; with all the foresight there is."""
    operations = settled(history)
    return check(QueueModel(operations, maxsize=maxsize), operations, steps_max=steps_max)


def settled(history: Iterable[Operation]) -> list[Operation]:
    """Settle the puts of unknown outcome as far as the answers of others tell, without changing the verdict.

    If somebody got an item that was put once, it was put by then. If nobody got any item of a put, the
    history is as good without it: an order of effect remains one without the put, and without the takes of
    unknown outcome that had its items. That is so unless sizes are told, or a batch may need the items.
    """
    operations = list(history)
    puts = Counter[Any]()
    taken_by: dict[Any, float] = {}
    for operation in operations:
        if isinstance(operation.input, Put | PutMany):
            puts.update(_values_of(operation.input))
        for value in _taken_values(operation):
            taken_by[value] = min(operation.return_at, taken_by.get(value, operation.return_at))
    for operation in operations:
        if isinstance(operation.input, GiveBack):  # one that may come before the first take is like a put
            puts.update(
                value for value in operation.input.values if operation.call_at <= taken_by.get(value, inf)
            )
    are_counted = any(isinstance(operation.input, Size | TakeBatch) for operation in operations)
    kept: list[Operation] = []
    for operation in operations:
        if isinstance(operation.input, Put | PutMany) and operation.output is UNKNOWN:
            values = _values_of(operation.input)
            if not (are_counted or taken_by.keys() & set(values)):
                continue
            known = [taken_by[value] for value in values if value in taken_by and puts[value] == 1]
            if known and min(known) >= operation.call_at:
                kept.append(replace(operation, return_at=min(known), output=None))
                continue
        kept.append(operation)
    return kept


def _taken_values(operation: Operation) -> Values:
    """Return what a client certainly took."""
    if operation.output is UNKNOWN:
        return ()
    match operation.input:
        case Take():
            return (operation.output,)
        case TakeBatch() | Drain():
            return tuple(operation.output)
    return ()


def _values_of(made: Put | PutMany) -> Values:
    return made.values if isinstance(made, PutMany) else (made.value,)


def _number(batch: _Batch) -> int:
    return batch[0]


def _lent(state: QueueState, loan: Loan, groups: _Groups) -> QueueState:
    return state._replace(loans=(*state.loans, (loan, groups)))


def _with_head(state: QueueState, groups: _Groups) -> QueueState:
    return QueueState(groups + state.groups, state.is_open, state.loans)
