"""What the callers saw, judged without a look inside: the last word on linearizability.

Invariants of what is checked:
  1. The history of every variable, of every lock, and of every queue from which nobody died or walked away
     is linearizable.
  2. What was put is taken once: an acknowledged item is with one caller, or still in its queue. A second
     caller may see it only if the session of the first ended in between.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from raftcoord.client.aio_variable import UNSET
from raftcoord.protocol.errors import QueueClosed, Rejected
from raftcoord.protocol.values import pack_name, unpack_value
from raftcoord.testing import models
from raftcoord.testing.linearizability import UNKNOWN, Model, Operation, Verdict, check
from raftcoord.testing.queue_model import Drain, Put, PutMany, QueueModel, Size, Take, TakeBatch
from raftcoord.testing.simulation.clients import Outcome, Record
from raftcoord.testing.simulation.model import Model as Store
from raftcoord.testing.simulation.violation import Violation

STEPS_MAX: Final = 20_000  # of one search; undecided beyond that, which few histories are

_VARIABLE_KINDS: Final = frozenset(
    {"set", "get", "watch", "compare_and_set", "compare_revision_and_set", "add", "delete"}
)
_QUEUE_KINDS: Final = frozenset({"put", "take", "take_batch", "drain", "qsize", "close_queue"})
_TAKES: Final = frozenset({"take", "take_batch", "drain"})
_LOCK_KINDS: Final = frozenset({"acquire", "release"})


def check_histories(records: list[Record], store: Store) -> None:
    """Judge all calls of a run; `store` holds what is left at its end. Raises Violation."""
    for record in records:
        if isinstance(record.result, Rejected) and not isinstance(record.result, QueueClosed):
            raise Violation("no call is refused without reason", f"{record}")
    for name in _names(records, _VARIABLE_KINDS):
        operations = [op for record in _of(records, name, _VARIABLE_KINDS) for op in _variable(record)]
        _require_linearizable(f"variable {name}", models.RegisterModel(), operations)
    for name in _names(records, _LOCK_KINDS):
        lock_records = _of(records, name, _LOCK_KINDS)
        operations = [op for number, record in enumerate(lock_records) for op in _lock(record, number)]
        _require_linearizable(f"lock {name}", models.LockModel(), operations)
    for name in _names(records, _QUEUE_KINDS):
        _check_queue(name, _of(records, name, _QUEUE_KINDS), store)


def _names(records: list[Record], kinds: frozenset[str]) -> list[str]:
    return sorted({record.name for record in records if record.kind in kinds})


def _of(records: list[Record], name: str, kinds: frozenset[str]) -> list[Record]:
    return [record for record in records if record.name == name and record.kind in kinds]


def _require_linearizable(what: str, model: Model, operations: list[Operation]) -> None:
    result = check(model, operations, steps_max=STEPS_MAX)
    if result.verdict is Verdict.NOT_LINEARIZABLE:
        raise Violation("linearizable", f"{what}: {result.explain()}")


def _operation(record: Record, made: Any, output: Any) -> Operation:
    known = record.outcome is Outcome.OK
    return Operation(
        client=record.client,
        call_at=record.call_at,
        return_at=record.return_at if known else math.inf,
        input=made,
        output=output if known else UNKNOWN,
    )


# Variables.


def _versioned(record: Record) -> Operation:
    value, revision = record.result
    if value is UNSET:
        return _operation(record, models.GetNow(), UNSET)
    return _operation(record, models.GetVersioned(), (value, revision))


_CHANGES: Final[dict[str, Callable[[Any], Any]]] = {
    "set": models.Set,
    "compare_and_set": lambda argument: models.CompareAndSet(*argument),
    "compare_revision_and_set": lambda argument: models.CompareRevisionAndSet(*argument),
    "add": models.Add,
    "delete": lambda argument: models.Delete(),
}


def _variable(record: Record) -> Iterator[Operation]:
    if record.outcome is Outcome.FAILED:
        return
    if record.kind in _CHANGES:
        yield _operation(record, _CHANGES[record.kind](record.argument), record.result)
    elif record.outcome is Outcome.OK:
        yield _versioned(record)


# Locks. Every grant is a holder of its own, since a client's handles exclude each other.


def _lock(record: Record, number: int) -> Iterator[Operation]:
    if record.kind == "release":
        yield _operation(record, models.Release(record.argument), None)
        return
    made = models.Acquire(number) if record.argument else models.TryAcquire(number)
    refused = record.outcome is Outcome.OK and record.result is False
    if refused and not record.argument:
        yield _operation(record, made, None)
        return
    if refused or record.outcome is Outcome.FAILED:
        # Not in time: it may still have been granted for a moment, until the client released it by itself.
        yield Operation(client=record.client, call_at=record.call_at, input=made)
    else:
        yield _operation(record, made, record.result)
    # Its session may end at any time, and a grant that nobody took is released in the background.
    yield Operation(client=record.client, call_at=record.call_at, input=models.SessionEnd(number))


# Queues.


def _taken(record: Record) -> list[Any]:
    if record.outcome is not Outcome.OK or record.kind not in _TAKES or isinstance(record.result, Rejected):
        return []
    return [record.result] if record.kind == "take" else list(record.result)


def _check_queue(name: str, records: list[Record], store: Store) -> None:
    puts = [record for record in records if record.kind == "put"]
    acknowledged = [
        v for put in puts if put.outcome is Outcome.OK and put.result is None for v in put.argument
    ]
    possible = {value for put in puts if put.outcome is not Outcome.FAILED for value in put.argument}
    taken = Counter(value for record in records for value in _taken(record))
    given_back = Counter(map(unpack_value, store.queues.given_back))
    given_back.subtract(map(unpack_value, store.queues.returned))  # whose taker was never told of it
    queue = store.queues.table.get(pack_name(name))
    left = Counter(unpack_value(blob) for blob in (queue.values if queue is not None else ()))
    for value in taken | left:
        count = taken[value]
        if value not in possible:
            raise Violation("items are conserved", f"queue {name}: {value!r} was taken and never put")
        if count + left[value] > 1 + given_back[value]:
            raise Violation("items are conserved", f"queue {name}: {value!r} was taken {count} times")
    if any(record.kind == "close_queue" for record in records):
        return
    lost = [value for value in acknowledged if not taken[value] and not left[value]]
    if lost:
        raise Violation("items are conserved", f"queue {name}: {lost} were put and are nowhere")
    unknown_takes = any(r.kind in _TAKES and r.outcome is Outcome.UNKNOWN for r in records)
    if not unknown_takes and not store.queues.given_back and "bounded" not in name:
        operations = [op for record in records for op in _queue(record)]
        _require_linearizable(f"queue {name}", QueueModel(operations), operations)


def _queue(record: Record) -> Iterator[Operation]:
    if record.outcome is Outcome.FAILED:
        return
    if record.kind == "put":
        values = tuple(record.argument)
        yield _operation(record, Put(values[0]) if len(values) == 1 else PutMany(values), None)
    elif record.kind == "take":
        yield _operation(record, Take(), record.result)
    elif record.kind == "take_batch":
        yield _operation(record, TakeBatch(record.argument), tuple(record.result))
    elif record.kind == "drain":
        yield _operation(record, Drain(), tuple(record.result))
    elif record.outcome is Outcome.OK:
        yield _operation(record, Size(), record.result)
