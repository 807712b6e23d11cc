"""Short ways to write histories down, and a search for an order of effect that is too simple to be wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from raftcoord.testing.linearizability import UNKNOWN, Model, Operation, Verdict, check


def done(call_at: float, return_at: float, made: Any, output: Any, client: int = 0) -> Operation:
    return Operation(client=client, call_at=call_at, return_at=return_at, input=made, output=output)


def lost(call_at: float, made: Any, client: int = 0) -> Operation:
    return Operation(client=client, call_at=call_at, input=made)


def in_turn(*steps: Any) -> list[Operation]:
    """Build a history in which nothing overlaps: (input, output), or an input alone: unknown outcome."""
    return [
        done(2 * number, 2 * number + 1, *step) if type(step) is tuple else lost(2 * number, step)
        for number, step in enumerate(steps)
    ]


def is_linearizable(model: Model, operations: Iterable[Operation]) -> bool:
    verdict = check(model, operations).verdict
    assert verdict is not Verdict.UNDECIDED
    return verdict is Verdict.LINEARIZABLE


def naive(model: Model, operations: Sequence[Operation]) -> bool:
    """Tell whether a history is linearizable, by trying every order that the times allow."""
    return _explains(model, model.initial(), list(operations))


def _explains(model: Model, state: Hashable, rest: list[Operation]) -> bool:
    if all(operation.output is UNKNOWN for operation in rest):
        return True
    for number, operation in enumerate(rest):
        others = rest[:number] + rest[number + 1 :]
        if any(other.return_at < operation.call_at for other in others):
            continue
        for following in model.step(state, operation.input, operation.output):
            if _explains(model, following, others):
                return True
    return False
