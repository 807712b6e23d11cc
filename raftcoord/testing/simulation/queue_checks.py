"""What callers saw of queues: nothing is lost, and nothing is taken twice.

Invariants of what is checked:
  1. What was put is taken once: an acknowledged item is with one caller, or still in its queue. A second
     caller may see it only if the session of the first ended in between.
  2. An item that was claimed and acknowledged is never seen again; one that was not is still there. The dead
     letters of a queue count as part of it.
  3. Each claim of an item is told a larger number of deliveries, and no number is over the queue's bound.
  4. The history of a queue from which nobody died or walked away, and nobody claims, is linearizable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from raftcoord.protocol.errors import Rejected
from raftcoord.protocol.values import pack_name, unpack_value
from raftcoord.testing.linearizability import Operation
from raftcoord.testing.queue_model import Drain, Put, PutMany, QueueModel, Size, Take, TakeBatch
from raftcoord.testing.simulation.model import Model as Store
from raftcoord.testing.simulation.objects import DEAD_LETTERS, number_in
from raftcoord.testing.simulation.records import Outcome, Record, operation_of
from raftcoord.testing.simulation.violation import Violation

_TAKES: Final = frozenset({"take", "take_batch", "drain"})
_CLAIMS: Final = frozenset({"claim", "ack", "nack"})
_QUEUE_KINDS: Final = frozenset({"put", "qsize", "close_queue"}) | _TAKES | _CLAIMS

History = tuple[str, QueueModel, list[Operation]]


def check_queues(records: list[Record], store: Store) -> Iterator[History]:
    """Judge all calls on queues; yield the histories that a search for an order is to judge as well.

    Args:
        store: what is left at the end.

    Raises:
        Violation: items were lost or doubled.
    """
    lines_may_last = _clients_that_lost_sessions(records, store)
    records = [record for record in records if record.kind in _QUEUE_KINDS]
    for name in sorted({record.name for record in records} - {DEAD_LETTERS}):
        own = [record for record in records if record.name == name]
        _check_deliveries(name, own)
        names = [name, DEAD_LETTERS] if number_in(name, "work") else [name]
        family = [record for record in records if record.name in names]
        is_certain = _check_items(name, family, _left(store, names), _given_back(store))
        in_line = (r for r in own if r.kind in _TAKES and r.outcome is Outcome.FAILED)
        if is_certain and not any((r.client, r.incarnation) in lines_may_last for r in in_line):
            yield name, *_history(own)


def _clients_that_lost_sessions(records: list[Record], store: Store) -> set[tuple[str, int]]:
    """Return the clients (with their incarnation) whose waits may have stood in line after they gave up.

    A lost session's waits stay until the replicas end it, and everybody else waits behind them.
    """
    sessions: dict[tuple[str, int], set[int | None]] = {}
    for record in records:
        sessions.setdefault((record.client, record.incarnation), set()).add(record.session)
    return {who for who, own in sessions.items() if len(own - {None}) > 1 or own & store.expired}


def _left(store: Store, names: list[str]) -> Counter[Any]:
    queues = [store.queues.table.get(pack_name(name)) for name in names]
    return Counter(unpack_value(blob) for queue in queues if queue is not None for blob in queue.values)


def _given_back(store: Store) -> Counter[Any]:
    """Return what came back at the end of a session, whose client may have got it."""
    given_back = Counter(map(unpack_value, store.queues.given_back))
    given_back.subtract(map(unpack_value, store.queues.returned))
    return given_back


def _answered(record: Record) -> bool:
    return record.outcome is Outcome.OK and not isinstance(record.result, Rejected)


def _taken(record: Record) -> list[Any]:
    """Return what a caller has for good by this call."""
    if not _answered(record):
        return []
    if record.kind == "ack":
        return [record.argument]
    if record.kind not in _TAKES:
        return []
    return [record.result] if record.kind == "take" else list(record.result)


def _check_items(name: str, records: list[Record], left: Counter[Any], given_back: Counter[Any]) -> bool:
    """Judge where all items are; tell whether nothing about their order is left open."""
    puts = [record for record in records if record.kind == "put"]
    possible = {value for put in puts if put.outcome is not Outcome.FAILED for value in put.argument}
    taken = Counter(value for record in records for value in _taken(record))
    for value in taken | left:
        count = taken[value]
        if value not in possible:
            raise Violation("items are conserved", f"queue {name}: {value!r} was taken and never put")
        if count + left[value] > 1 + given_back[value]:
            raise Violation("items are conserved", f"queue {name}: {value!r} was taken {count} times")
    _check_acknowledged(name, records, left)
    if any(record.kind == "close_queue" for record in records):
        return False
    perhaps = {r.argument for r in records if r.kind == "ack" and r.outcome is Outcome.UNKNOWN}
    acknowledged = [value for put in puts if _answered(put) for value in put.argument]
    lost = [value for value in acknowledged if not (taken[value] or left[value] or value in perhaps)]
    if lost:
        raise Violation("items are conserved", f"queue {name}: {lost} were put and are nowhere")
    unknown_takes = any(r.kind in _TAKES and r.outcome is Outcome.UNKNOWN for r in records)
    claims = any(record.kind in _CLAIMS for record in records)
    return not (unknown_takes or claims or given_back or "bounded" in name)


def _check_acknowledged(name: str, records: list[Record], left: Counter[Any]) -> None:
    done: dict[Any, Record] = {}
    for record in records:
        if record.kind == "ack" and _answered(record):
            if record.argument in done:
                raise Violation(
                    "items are conserved", f"queue {name}: both {done[record.argument]} and {record} worked"
                )
            done[record.argument] = record
    for record in records:
        seen = [record.result[0]] if record.kind == "claim" and _answered(record) else _taken(record)
        for value in seen:
            if value in done and record.call_at > done[value].return_at:
                raise Violation("items are conserved", f"queue {name}: {record} came after {done[value]}")
    for value in done:
        if left[value]:
            raise Violation("items are conserved", f"queue {name}: {value!r} is left after {done[value]}")


def _check_deliveries(name: str, records: list[Record]) -> None:
    deliveries_max = number_in(name, "work")
    claims: dict[Any, list[Record]] = {}
    for record in records:
        if record.kind == "claim" and _answered(record):
            value, deliveries = record.result
            if 0 < deliveries_max < deliveries:
                raise Violation("deliveries are counted", f"queue {name}: {record} is over its bound")
            for other in claims.setdefault(value, []):
                before, after = sorted((other, record), key=lambda claim: claim.call_at)
                is_ordered = before.return_at < after.call_at
                if deliveries == other.result[1] or (is_ordered and before.result[1] > after.result[1]):
                    raise Violation("deliveries are counted", f"queue {name}: {before} and {after}")
            claims[value].append(record)


def _history(records: list[Record]) -> tuple[QueueModel, list[Operation]]:
    operations = [op for record in records for op in _queue(record)]
    return QueueModel(operations), operations


def _queue(record: Record) -> Iterator[Operation]:
    if record.outcome is Outcome.FAILED:
        return
    if record.kind == "put":
        values = tuple(record.argument)
        yield operation_of(record, Put(values[0]) if len(values) == 1 else PutMany(values), None)
    elif record.kind == "take":
        yield operation_of(record, Take(), record.result)
    elif record.kind == "take_batch":
        yield operation_of(record, TakeBatch(record.argument), tuple(record.result))
    elif record.kind == "drain":
        yield operation_of(record, Drain(), tuple(record.result))
    elif record.outcome is Outcome.OK:
        yield operation_of(record, Size(), record.result)
