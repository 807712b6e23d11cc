"""What a read may see: the state of each object, and how it reads.

Invariants:
  1. A state is a value: what happens later does not change what an older state reads as.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.testing.simulation.model import Model

Place: TypeAlias = "tuple[str, bytes]"  # kind of object as in the names of operations, name
Answer: TypeAlias = "tuple[int, Any]"

_SESSIONS: Final[Place] = ("SESSION", b"")


def place_of(operation: Operation, arguments: list[Any]) -> Place:
    """Return which object a read is about."""
    if operation is Operation.SESSION_NAMES:
        return _SESSIONS
    return operation.name.split("_")[0], arguments[0]


def states(model: Model) -> Iterator[tuple[Place, Any]]:
    """Yield every object that there is, with its state; what is not there has the state None."""
    yield _SESSIONS, {number: session.name for number, session in model.sessions.items()} or None
    for name, variable in model.variables.table.items():
        yield ("VARIABLE", name), (variable.value, variable.revision.value)
    for name, queue in model.queues.table.items():
        yield ("QUEUE", name), len(queue.items)
    for name, hold in model.locks.table.items():
        waiting = tuple(wait.session for wait in model.locks.line(name))
        yield ("LOCK", name), (hold.session, hold.fence.value, waiting)
    for name in model.events.set:
        yield ("EVENT", name), True
    for name, semaphore in model.semaphores.table.items():
        waiting_count = len(model.semaphores.line(name))
        yield ("SEMAPHORE", name), (semaphore.max_leases, len(semaphore.leases), waiting_count)
    for grant in model.multilocks.grants:
        for name in grant.names:
            yield ("MULTILOCK", name), (grant.session, grant.fence.value)
    for name in dict.fromkeys(model.rwlocks.names()):
        fences = [(use.fence.value, use.shared) for use in model.rwlocks.uses if use.name == name]
        yield ("RWLOCK", name), (tuple(fences), len(model.rwlocks.line(name)))
    for name, topic in model.topics.table.items():
        # The list of all messages ever is shared, and only grows: its length makes it a value.
        yield ("TOPIC", name), (topic.start.value, topic.gone, len(topic.messages), topic.messages)


def reads_as(operation: Operation, arguments: list[Any], state: Any) -> Answer:
    """Return what this read answers in this state."""
    read = _READS.get(operation)
    return (Code.OK, None if state is None else list(state)) if read is None else read(arguments, state)


def _variable_get(arguments: list[Any], state: Any) -> Answer:
    return (Code.UNSET, None) if state is None else (Code.OK, list(state))


def _variable_watch(arguments: list[Any], state: Any) -> Answer:
    value, revision = (None, 0) if state is None else state
    return (Code.EMPTY, None) if revision == arguments[1] else (Code.OK, [value, revision])


def _queue_size(arguments: list[Any], state: Any) -> Answer:
    return Code.OK, state or 0


def _lock_status(arguments: list[Any], state: Any) -> Answer:
    return Code.OK, None if state is None else [*state[:2], len(state[2])]


def _lock_waiters(arguments: list[Any], state: Any) -> Answer:
    return Code.OK, [] if state is None else list(state[2])


def _event_wait(arguments: list[Any], state: Any) -> Answer:
    return (Code.OK if state else Code.UNSET), None


def _event_is_set(arguments: list[Any], state: Any) -> Answer:
    return Code.OK, state is not None


def _rwlock_status(arguments: list[Any], state: Any) -> Answer:
    if state is None:
        return Code.OK, None
    uses, waiting = state
    writers = [fence for fence, shared in uses if not shared]
    return Code.OK, [writers[0] if writers else None, [fence for fence, shared in uses if shared], waiting]


def _topic_read(arguments: list[Any], state: Any) -> Answer:
    _, offset, count_max, _ = arguments
    start, gone, count, messages = (None, 0, 0, []) if state is None else state
    if offset and (start is None or offset < start):
        return Code.CLOSED, None
    wanted = offset - start if offset else 0
    begin = max(wanted, gone)
    values = [value for value, _ in messages[begin : min(begin + count_max, count)]]
    return (Code.OK, [start + begin + len(values), begin - wanted, values]) if values else (Code.EMPTY, None)


def _topic_status(arguments: list[Any], state: Any) -> Answer:
    if state is None:
        return Code.OK, [0, 0, 0]
    start, gone, count, messages = state
    return Code.OK, [start + gone, start + count, sum(len(value) for value, _ in messages[gone:count])]


def _session_names(arguments: list[Any], state: Any) -> Answer:
    names = state or {}
    return Code.OK, [names.get(session, "") for session in arguments[0]]


_READS: Final[dict[Operation, Callable[[list[Any], Any], Answer]]] = {
    Operation.VARIABLE_GET: _variable_get,
    Operation.VARIABLE_WATCH: _variable_watch,
    Operation.QUEUE_SIZE: _queue_size,
    Operation.LOCK_STATUS: _lock_status,
    Operation.LOCK_WAITERS: _lock_waiters,
    Operation.EVENT_WAIT: _event_wait,
    Operation.EVENT_IS_SET: _event_is_set,
    Operation.RWLOCK_STATUS: _rwlock_status,
    Operation.TOPIC_READ: _topic_read,
    Operation.TOPIC_STATUS: _topic_status,
    Operation.SESSION_NAMES: _session_names,
}
