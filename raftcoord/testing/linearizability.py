"""Is a recorded history linearizable? A black-box checker that knows only calls, returns and a model.

The algorithm is the published one of Wing and Gong with Lowe's memory of what was tried, as Porcupine has it:
the calls and returns are in a doubly linked list in the order of their times. A call that comes before the
first return may take effect next: the model says whether it can, and its call and return leave the list. When
none of them can, the last choice is undone and the next one tried. What is added here concerns operations of
unknown outcome, of which a store that fails over has many: see `_Search`.

What an object does is in `models` and `queue_model`. What must not live here: clocks, I/O, randomness, or
anything that knows raftcoord.

Invariants:
  1. An answered operation takes effect between its call and its return, both included: a call and a return
     at the same time overlap, so that coarse clocks never make a good history look bad.
  2. An operation of unknown outcome takes effect at any time after its call, or never.
  3. The search ends: it makes at most `steps_max` steps, and then says UNDECIDED.
  4. The same operations in the same order give the same result; nothing depends on the order of a set.
  5. States that are equal are one state to the search, and so are inputs that are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol, TypeVar

STEPS_MAX: Final = 2_000_000  # some seconds
EXPLAINED_OPERATIONS_MAX: Final = 20

_Key = TypeVar("_Key", bound=Hashable)


class Unknown(Enum):
    """Stands for the output of an operation whose outcome its client never learned."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation as its client saw it. Without an output it is one of unknown outcome.

    What certainly had no effect and told nothing, such as a call that was never sent, is left out.

    Args:
        client: who made it; only for reading.
        call_at, return_at: numbers of one clock. An operation of unknown outcome never returns. One that is
            known to happen, but not by when, has an output and returns at `math.inf`.
        input: what the model understands.

    Raises:
        ValueError: it returns before it is called, or it returns without an output.
    """

    client: int | str
    call_at: float
    return_at: float = math.inf
    input: Any
    output: Any = UNKNOWN

    def __post_init__(self) -> None:
        if not self.call_at <= self.return_at:
            raise ValueError(f"an operation cannot return at {self.return_at} when called at {self.call_at}")
        if self.output is UNKNOWN and self.return_at != math.inf:
            # It would be held against the history, though it may take effect long after its client gave up.
            raise ValueError("an operation of unknown outcome returns at math.inf")

    def __str__(self) -> str:
        ends = "never" if self.return_at == math.inf else self.return_at
        return f"[{self.call_at}, {ends}] client {self.client}: {self.input!r} -> {self.output!r}"


class Model(Protocol):
    """What an object does, one operation after the other."""

    def initial(self) -> Hashable:
        """Return the first state."""

    def step(self, state: Any, operation_input: Any, output: Any) -> Iterable[Hashable]:
        """Return the states in which the object may be after the operation; none if it cannot answer so.

        With UNKNOWN as output: all states to which any answer leads. States without an effect may be missing.
        """


class Verdict(Enum):
    """What a check found; UNDECIDED when it made as many steps as it was allowed to."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A verdict and the grounds for it.

    Args:
        longest: an order of effect that explains as many answered operations as any other that was tried.
        states: the states in which the object may be after it.
        blocked: the answered operations of which one had to come next and, if the history is not
            linearizable, none could; the first of them is the first to return.
        operations_count: how many operations there are.
        steps: how many times an operation was tried.
    """

    verdict: Verdict
    longest: tuple[Operation, ...]
    states: tuple[Hashable, ...]
    blocked: tuple[Operation, ...]
    operations_count: int
    steps: int

    def explain(self) -> str:
        """Return in a few lines how far the best order goes, and what could not be placed after it."""
        placed_count = len(self.longest)
        lines = [
            f"{self.verdict.value}: {placed_count} of {self.operations_count} operations placed "
            f"in {self.steps} steps",
            "order of effect:",
        ]
        hidden_count = max(0, placed_count - EXPLAINED_OPERATIONS_MAX)
        if hidden_count:
            lines.append(f"  ... {hidden_count} operations")
        shown = self.longest[hidden_count:]
        lines += [f"  {place}. {operation}" for place, operation in enumerate(shown, start=hidden_count + 1)]
        lines.append("state after it: " + " or ".join(map(repr, self.states)))
        if self.blocked:
            refused = self.verdict is Verdict.NOT_LINEARIZABLE
            lines.append(
                "one of these had to come next, and none could:" if refused else "next to be placed:"
            )
            lines += [f"  - {operation}" for operation in self.blocked[:EXPLAINED_OPERATIONS_MAX]]
            more_count = len(self.blocked) - EXPLAINED_OPERATIONS_MAX
            lines += [f"  ... {more_count} more"] if more_count > 0 else []
        return "\n".join(lines)


def check(model: Model, operations: Iterable[Operation], *, steps_max: int = STEPS_MAX) -> Result:
    """Tell whether there is an order of effect that explains every answer.

    Args:
        model: what the object does; its states must be hashable.
        operations: what was done to one object, in any order.
        steps_max: how many times an operation may be tried.
    """
    search = _Search(model, tuple(operations), steps_max)
    verdict = search.run()
    return search.result(verdict)


def partition(
    operations: Iterable[Operation], key: Callable[[Operation], _Key]
) -> dict[_Key, list[Operation]]:
    """Group operations, by their object say, in the order in which they come.

    A history of several objects is linearizable if the history of each is, and that is far less to search.
    """
    groups: dict[_Key, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(key(operation), []).append(operation)
    return groups


class _Entry:
    """A call or a return in one of the lists; also the ends of the lists.

    place      in the order of time, of calls and returns together
    index      of its operation
    bit        what stands for its operation in a set of operations
    returns    of the call of an answered operation: its return
    twin       of the call of an operation of unknown outcome: the one before it with the same input
    """

    __slots__ = ("bit", "index", "next", "place", "previous", "returns", "twin")

    def __init__(self, place: int, index: int) -> None:
        self.place = place
        self.index = index
        self.bit = 1 << index
        self.returns: _Entry | None = None
        self.twin: _Entry | None = None
        self.previous = self.next = self

    def insert_before(self, other: _Entry) -> None:
        self.previous, self.next = other.previous, other
        self.relink()

    def unlink(self) -> None:
        self.previous.next = self.next
        self.next.previous = self.previous

    def relink(self) -> None:
        """Undo `unlink`. The last one that was unlinked must be the first to return."""
        self.previous.next = self
        self.next.previous = self


class _Search:
    """The search through the orders of effect, depth first, without recursion.

    Each operation of unknown outcome that takes effect without need doubles what there is to search. So these
    are in a list of their own, without returns, and are tried last; the search is over when the last answered
    one is placed. What is reached with more of them is not searched again (`_is_new`), nor is what the last
    one of them does as well without the one just before it (`_moves`).
    """

    def __init__(self, model: Model, operations: tuple[Operation, ...], steps_max: int) -> None:
        self.model = model
        self.operations = operations
        self.steps = 0
        self.steps_max = steps_max
        self.placed = 0  # the answered operations in `order`, as bits
        self.used = 0  # those of unknown outcome in `order`, as bits
        self.missing = sum(operation.output is not UNKNOWN for operation in operations)
        self.order: list[_Entry] = []
        self.best: list[_Entry] = []
        self.best_missing = self.missing
        # The ends of the two circular lists. That of the second one is later than everything.
        self.answered = _Entry(0, len(operations))
        self.unknown = _Entry(2 * len(operations), len(operations))
        self._fill()
        # What was tried: operations placed and the state after them -> sets of unknown ones used on the way.
        self.tried: dict[tuple[int, Hashable], list[int]] = {}

    def _fill(self) -> None:
        # At one time calls come before returns: invariant 1.
        events = [(operation.call_at, 0, index) for index, operation in enumerate(self.operations)]
        events += [(operation.return_at, 1, index) for index, operation in enumerate(self.operations)]
        events.sort()
        calls: dict[int, _Entry] = {}
        twins: dict[Any, _Entry] = {}
        for place, (_, is_return, index) in enumerate(events):
            operation = self.operations[index]
            if operation.output is not UNKNOWN:
                entry = _Entry(place, index)
                if is_return:
                    calls[index].returns = entry
                else:
                    calls[index] = entry
                entry.insert_before(self.answered)
            elif not is_return:
                entry = _Entry(place, index)
                entry.twin = _twin_of(twins, operation.input, entry)
                entry.insert_before(self.unknown)

    def run(self) -> Verdict:
        first = self.model.initial()
        self.tried[0, first] = [0]
        levels = [(first, self._moves(first))]
        while self.missing:
            before, moves = levels[-1]
            move = next(moves, None)
            if move is not None:
                entry, state = move
                self._place(entry)
                levels.append((state, self._moves(state, () if entry.returns else (before,))))
                continue
            if self.missing < self.best_missing:
                self._keep_best()
            if self.steps >= self.steps_max:
                return Verdict.UNDECIDED
            levels.pop()
            if not levels:
                return Verdict.NOT_LINEARIZABLE
            self._take_back(self.order.pop())
        self._keep_best()
        return Verdict.LINEARIZABLE

    def _moves(
        self, state: Hashable, skipping: tuple[Hashable, ...] = ()
    ) -> Iterator[tuple[_Entry, Hashable]]:
        """Yield what may take effect next, and the state after it. Finds the lists as they were on return.

        If the operation before is of unknown outcome, `skipping` has the state before that one.
        """
        step = self.model.step
        for entry in self._candidates():
            if self.steps >= self.steps_max:
                return
            self.steps += 1
            operation = self.operations[entry.index]
            for following in step(state, operation.input, operation.output):
                if entry.returns is None and any(
                    following in step(earlier, operation.input, UNKNOWN) for earlier in skipping
                ):
                    continue  # the one before was for nothing
                if self._is_new(entry, following):
                    yield entry, following

    def _candidates(self) -> Iterator[_Entry]:
        """Yield every operation that was called before the first return in the list."""
        entry = self.answered.next
        while entry.returns is not None:
            yield entry
            entry = entry.next
        first_return = entry.place
        entry = self.unknown.next
        while entry.place < first_return:
            # Of two with the same input the later one may always do what the earlier one did.
            if entry.twin is None or entry.twin.bit & self.used:
                yield entry
            entry = entry.next

    def _is_new(self, entry: _Entry, state: Hashable) -> bool:
        """Note that a state is reached; False if it was before, with no more unknown ones used than now.

        Whatever leads to an end from here led to it from there: one of unknown outcome need not take effect.
        """
        if entry.returns is None:
            placed, used = self.placed, self.used | entry.bit
        else:
            placed, used = self.placed | entry.bit, self.used
        tried = self.tried.setdefault((placed, state), [])
        for earlier in tried:
            if earlier & used == earlier:
                return False
        tried.append(used)
        return True

    def _place(self, entry: _Entry) -> None:
        self.order.append(entry)
        entry.unlink()
        if entry.returns is None:
            self.used |= entry.bit
        else:
            entry.returns.unlink()
            self.placed |= entry.bit
            self.missing -= 1

    def _take_back(self, entry: _Entry) -> None:
        if entry.returns is None:
            self.used ^= entry.bit
        else:
            entry.returns.relink()
            self.placed ^= entry.bit
            self.missing += 1
        entry.relink()

    def _keep_best(self) -> None:
        self.best = self.order.copy()
        self.best_missing = self.missing
        while self.best and self.best[-1].returns is None:
            self.best.pop()  # it explains nothing

    def result(self, verdict: Verdict) -> Result:
        while self.order:
            self._take_back(self.order.pop())
        states: dict[Hashable, None] = {self.model.initial(): None}  # a set that keeps its order
        for entry in self.best:
            self._place(entry)
            operation = self.operations[entry.index]
            states = {
                following: None
                for state in states
                for following in self.model.step(state, operation.input, operation.output)
            }
        blocked = [(entry.returns.place, entry.index) for entry in self._candidates() if entry.returns]
        return Result(
            verdict=verdict,
            longest=tuple(self.operations[entry.index] for entry in self.best),
            states=tuple(states),
            blocked=tuple(self.operations[index] for _, index in sorted(blocked)),
            operations_count=len(self.operations),
            steps=self.steps,
        )


def _twin_of(twins: dict[Any, _Entry], operation_input: Any, entry: _Entry) -> _Entry | None:
    """Return the entry with the same input that came last, and be the next one's."""
    try:
        earlier, twins[operation_input] = twins.get(operation_input), entry
    except TypeError:  # not hashable: then it has no twin, which costs time and nothing else
        return None
    return earlier
