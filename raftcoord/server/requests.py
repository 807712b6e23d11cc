"""Requests on an open connection: checked here, then to the log, behind a barrier, or to `control.py`.

Invariants:
  1. What reaches the log passed `validate` and `validate_acked`, and carries the session of the connection
     it came from; no client can name another one.
  2. A request that is refused here was not applied and leaves no trace in the log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import (
    OPERATIONS,
    SEQUENCE_MAX,
    Kind,
    validate,
    validate_acked,
)
from raftcoord.protocol.values import VALUE_BYTES_MAX
from raftcoord.server.connection import Connection, ConnectionState, ProtocolViolation, shown
from raftcoord.server.control import handle_control

if TYPE_CHECKING:
    from raftcoord.server.gateway import Gateway

logger = logging.getLogger(__name__)

_READ_KINDS: Final = frozenset({Kind.READ, Kind.READ_OR_WAIT})
# Whether an operation is tried as a read first; what a client may not ask for is not in here.
_IS_READ: Final = {
    code: spec.kind in _READ_KINDS for code, spec in OPERATIONS.items() if spec.kind is not Kind.SYSTEM
}
_OK: Final = int(Code.OK)


def handle_session_message(gateway: Gateway, connection: Connection, message: Any) -> None:
    """Handle a message of a connection with a session."""
    if type(message) is not list or len(message) < 2 or type(message[0]) is not int:
        raise ProtocolViolation("request", "a request is an array that starts with its number")
    sequence = message[0]
    if sequence <= 0:
        handle_control(gateway, connection, message)
        return
    if sequence > SEQUENCE_MAX:
        raise ProtocolViolation("request", "a sequence is over its bound")
    if len(message) < 3:
        connection.answer(sequence, Code.MALFORMED, "a request is [sequence, acked, operation, ...]")
        return
    acked, operation = message[1], message[2]
    is_read = _IS_READ.get(operation) if type(operation) is int else None
    if is_read is None:
        connection.answer(sequence, Code.UNKNOWN_OPERATION, f"unknown operation {shown(operation)}")
        return
    arguments = message[3:]
    error = validate(operation, arguments)
    if error is not None or not validate_acked(acked):
        _refuse(connection, sequence, error or "bad acked", arguments)
        return
    entry = connection.entry
    if entry is None:
        return
    if not connection.accept(sequence):
        connection.send((sequence, Code.BUSY, "too many requests in flight"))
        return
    if is_read:
        taken = gateway.reads.add(gateway.answer_read, connection, message)
    else:
        taken = gateway.batcher.submit(connection, [entry.identifier, sequence, acked, operation, *arguments])
    if not taken:
        connection.answer(sequence, Code.BUSY, "too much work is waiting")


def handle_observer_message(gateway: Gateway, connection: Connection, message: Any) -> None:
    """Handle a message of a connection without a session: only connection-level requests."""
    if type(message) is not list or len(message) < 2 or type(message[0]) is not int:
        raise ProtocolViolation("request", "a request is an array that starts with its number")
    if message[0] > 0:
        connection.answer(message[0], Code.MALFORMED, "an observer has no session")
    else:
        handle_control(gateway, connection, message)


def answer_read(gateway: Gateway, connection: Connection, message: list[Any]) -> None:
    """Answer a checked read from the state machine; behind a barrier only."""
    entry = connection.entry
    if entry is None or connection.state is not ConnectionState.SESSION:
        return
    sequence, operation = message[0], message[2]
    if connection.is_congested:
        connection.answer(sequence, Code.BUSY, "answers are not being read")
        return
    answer = gateway.machine.query(operation, message[3:])
    if answer is not None:
        code, payload = answer
        gateway.metrics.operations[operation << 8 | code] += 1
        connection.answer(sequence, code, payload)
    elif not gateway.batcher.submit(connection, [entry.identifier, *message]):
        connection.answer(sequence, Code.BUSY, "too much work is waiting")


def _refuse(connection: Connection, sequence: int, text: str, arguments: list[Any]) -> None:
    parts: list[Any] = []
    for argument in arguments:
        parts += argument if type(argument) is list else [argument]
    too_large = any(type(part) is bytes and len(part) > VALUE_BYTES_MAX for part in parts)
    connection.answer(sequence, Code.TOO_LARGE if too_large else Code.MALFORMED, text)
