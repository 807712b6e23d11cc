"""What the callers saw, judged without a look inside: the last word on linearizability.

What callers saw of queues, of what they held, and of topics is judged in files of its own.

Invariants of what is checked:
  1. The history of every variable, lock and event, and of every queue from which nobody died or walked away
     is linearizable.
  2. A call is refused only when somebody closed or deleted what it was about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from raftcoord.client.aio_variable import UNSET
from raftcoord.client.errors import SemaphoreClosed, TopicDeleted
from raftcoord.protocol.errors import QueueClosed, Rejected
from raftcoord.testing import models
from raftcoord.testing.linearizability import UNKNOWN, Model, Operation, Verdict, check
from raftcoord.testing.simulation.hold_checks import check_holds
from raftcoord.testing.simulation.model import Model as Store
from raftcoord.testing.simulation.queue_checks import check_queues
from raftcoord.testing.simulation.records import Outcome, Record, operation_of
from raftcoord.testing.simulation.topic_checks import check_topics
from raftcoord.testing.simulation.violation import Violation

STEPS_MAX: Final = 20_000  # of one search; undecided beyond that, which few histories are

_VARIABLE_KINDS: Final = frozenset(
    {"set", "get", "watch", "compare_and_set", "compare_revision_and_set", "add", "delete"}
    | {"update", "set_for_a_while", "set_ephemeral"}
)
_LOCK_KINDS: Final = frozenset({"acquire", "release"})
_EVENT_KINDS: Final = frozenset({"event_set", "event_clear", "event_wait", "event_is_set"})
_CLOSED_BY: Final[dict[type[Rejected], str]] = {
    QueueClosed: "close_queue",
    SemaphoreClosed: "close_semaphore",
    TopicDeleted: "delete_topic",
}


def check_histories(records: list[Record], store: Store, fair_clocks: bool = False) -> None:
    """Judge all calls of a run.

    Args:
        store: what is left at its end.
        fair_clocks: see `Settings`.

    Raises:
        Violation: it cannot have been so.
    """
    _check_refusals(records)
    for name in _names(records, _VARIABLE_KINDS):
        variable_records = _of(records, name, _VARIABLE_KINDS)
        operations = [op for record in variable_records for op in _variable(record, fair_clocks)]
        _require_linearizable(f"variable {name}", models.RegisterModel(), operations)
    for name in _names(records, _LOCK_KINDS):
        lock_records = _of(records, name, _LOCK_KINDS)
        operations = [op for number, record in enumerate(lock_records) for op in _lock(record, number)]
        _require_linearizable(f"lock {name}", models.LockModel(), operations)
    for name in _names(records, _EVENT_KINDS):
        operations = [op for record in _of(records, name, _EVENT_KINDS) for op in _event(record)]
        _require_linearizable(f"event {name}", models.EventModel(), operations)
    for name, model, operations in check_queues(records, store):
        _require_linearizable(f"queue {name}", model, operations)
    check_holds(records)
    check_topics(records, store, fair_clocks)


def _check_refusals(records: list[Record]) -> None:
    closes = {(record.kind, record.name) for record in records}
    for record in records:
        if not isinstance(record.result, Rejected):
            continue
        if (_CLOSED_BY.get(type(record.result)), record.name) not in closes:
            raise Violation("no call is refused without reason", f"{record}")


def _names(records: list[Record], kinds: frozenset[str]) -> list[str]:
    return sorted({record.name for record in records if record.kind in kinds})


def _of(records: list[Record], name: str, kinds: frozenset[str]) -> list[Record]:
    return [record for record in records if record.name == name and record.kind in kinds]


def _require_linearizable(what: str, model: Model, operations: list[Operation]) -> None:
    result = check(model, operations, steps_max=STEPS_MAX)
    if result.verdict is Verdict.NOT_LINEARIZABLE:
        raise Violation("linearizable", f"{what}: {result.explain()}")


# Variables.


def _versioned(record: Record) -> Operation:
    value, revision = record.result
    if value is UNSET:
        return operation_of(record, models.GetNow(), UNSET)
    return operation_of(record, models.GetVersioned(), (value, revision))


_CHANGES: Final[dict[str, Callable[[Any], Any]]] = {
    "set": models.Set,
    "compare_and_set": lambda argument: models.CompareAndSet(*argument),
    "compare_revision_and_set": lambda argument: models.CompareRevisionAndSet(*argument),
    "add": models.Add,
    "update": models.Add,  # by what its function adds
    "set_for_a_while": lambda argument: models.Set(argument[0]),
    "set_ephemeral": models.Set,
    "delete": lambda argument: models.Delete(),
}


def _variable(record: Record, fair_clocks: bool) -> Iterator[Operation]:
    if record.outcome is Outcome.FAILED:
        return
    if record.kind in _CHANGES:
        yield operation_of(record, _CHANGES[record.kind](record.argument), record.result)
        if record.kind in ("set_for_a_while", "set_ephemeral"):
            # It is unset later, or something else is set before that. The cluster's time is not fast.
            lives_s = record.argument[1] if record.kind == "set_for_a_while" and fair_clocks else 0
            yield Operation(
                client=record.client, call_at=record.call_at + lives_s, input=models.Delete(), output=UNKNOWN
            )
    elif record.outcome is Outcome.OK:
        yield _versioned(record)


# Locks. Every grant is a holder of its own, since a client's handles exclude each other.


def _lock(record: Record, number: int) -> Iterator[Operation]:
    if record.kind == "release":
        yield operation_of(record, models.Release(record.argument), None)
        return
    made = models.Acquire(number) if record.argument else models.TryAcquire(number)
    refused = record.outcome is Outcome.OK and record.result is False
    if refused and not record.argument:
        yield operation_of(record, made, None)
        return
    if refused or record.outcome is Outcome.FAILED:
        # Not in time: it may still have been granted for a moment, until the client released it by itself.
        yield Operation(client=record.client, call_at=record.call_at, input=made)
    else:
        yield operation_of(record, made, record.result)
    # Its session may end at any time, and a grant that nobody took is released in the background.
    yield Operation(client=record.client, call_at=record.call_at, input=models.SessionEnd(number))


# Events.


def _event(record: Record) -> Iterator[Operation]:
    if record.outcome is Outcome.FAILED:
        return
    if record.kind == "event_set":
        yield operation_of(record, models.SetEvent(), record.result)
    elif record.kind == "event_clear":
        yield operation_of(record, models.ClearEvent(), record.result)
    elif record.outcome is Outcome.OK and (record.kind == "event_is_set" or not record.argument):
        yield operation_of(record, models.IsSet(), record.result)
    elif record.outcome is Outcome.OK and record.result:
        yield operation_of(record, models.IsSet(), True)
