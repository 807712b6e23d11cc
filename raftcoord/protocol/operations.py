"""The operations of the store: code, arguments, and whether the log must carry them.

This table is the single definition that client, gateway and machine share.

A command in the log is `[session, sequence, acked, operation, *arguments]`:
  session    int, given by the log when the session was opened; 0 is the leader itself.
  sequence   int > 0, chosen by the client, unique in its session. 0 for commands of session 0.
  acked      int N, or [N, c1, c2, …]: the client holds the answers of all sequences <= N, except of
             waits that it knows to be registered (it got `Code.WAITING`); c1, c2, … are waits whose
             final answers it now holds as well.

Invariants:
  1. `validate` is total: for any decoded msgpack value it returns an error text or None.
  2. A request that passes `validate` can be applied by every replica without an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Final

from raftcoord.protocol.values import NAME_BYTES_MAX, VALUE_BYTES_MAX

SEQUENCE_MAX: Final = 2**62
BATCH_ITEMS_MAX: Final = 10_000
DRAIN_BYTES_MAX: Final = 4 * 1024 * 1024  # one QUEUE_GET of count -1 takes no more, and BATCH_ITEMS_MAX items
QUEUE_MAXSIZE_MAX: Final = 2**31
CLIENT_NAME_BYTES_MAX: Final = 128
SESSION_TTL_MS_MIN: Final = 500
SESSION_TTL_MS_MAX: Final = 3_600_000
NONCE_BYTES: Final = 16


class Operation(IntEnum):
    """Wire code of each operation; never reused."""

    EXPIRE_SESSIONS = 1  # leader only: (sessions: list[int]) -> None
    OPEN_SESSION = 2  # leader, for a hello: (nonce, ttl_ms, client_name) -> session id
    CLOSE_SESSION = 3  # () -> None; releases everything that the session holds
    CONFIRM = 4  # () -> None; carries nothing but its `acked`
    CANCEL = 5  # (target sequence) -> the target's [code, payload] if it is final, else its wait is ended
    RETURN = 6  # (target sequence) -> items given back: a QUEUE_GET that nobody wanted any more is undone

    VARIABLE_SET = 16  # (name, value) -> revision
    VARIABLE_GET = 17  # (name, wait) -> [value, revision]; UNSET
    VARIABLE_COMPARE_AND_SET = 18  # (name, condition, value) -> revision; CONFLICT
    VARIABLE_ADD = 19  # (name, delta blob) -> [sum blob, revision]; unset counts as 0; WRONG_TYPE, OVERFLOW
    VARIABLE_DELETE = 20  # (name) -> bool: existed
    VARIABLE_WATCH = 21  # (name, seen_revision, wait) -> [value | None, revision] once it differs; EMPTY

    QUEUE_PUT = 32  # (name, maxsize, values, wait) -> size after; all or none; FULL
    QUEUE_GET = 33  # (name, maxsize, count, wait) -> list of values; count -1 drains; EMPTY
    QUEUE_SIZE = 34  # (name) -> int
    QUEUE_CLOSE = 35  # (name) -> bool: existed; waiting calls end with CLOSED

    LOCK_ACQUIRE = 48  # (name, wait) -> fence; HELD
    LOCK_RELEASE = 49  # (name, fence) -> None; NOT_HOLDER
    LOCK_STATUS = 50  # (name) -> [session, fence, waiters] or None


class Kind(Enum):
    """How an operation reaches the machine."""

    READ = "read"  # never logged; answered behind a read barrier
    WRITE = "write"  # always logged
    WAIT = "wait"  # logged; may answer WAITING first
    READ_OR_WAIT = "read or wait"  # answered from state when it can be, logged as a wait otherwise
    SYSTEM = "system"  # only the replica itself may propose it


Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """One row of the table."""

    operation: Operation
    kind: Kind
    argument_names: tuple[str, ...]
    argument_checks: tuple[Check, ...]


def _is_int(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_name(value: Any) -> bool:
    return type(value) is bytes and 0 < len(value) <= NAME_BYTES_MAX


def _is_blob(value: Any) -> bool:
    return type(value) is bytes and 0 < len(value) <= VALUE_BYTES_MAX


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_condition(value: Any) -> bool:
    """[] unset; [revision] at this revision; [blob] holds an equal value."""
    if type(value) is not list or len(value) > 1:
        return False
    return not value or _is_counter(value[0]) or _is_blob(value[0])


def _is_counter(value: Any) -> bool:
    return _is_int(value, 0, SEQUENCE_MAX)


def _is_maxsize(value: Any) -> bool:
    return _is_int(value, 0, QUEUE_MAXSIZE_MAX)


def _is_item_count(value: Any) -> bool:
    return _is_int(value, -1, BATCH_ITEMS_MAX) and value != 0


def _is_blob_list(value: Any) -> bool:
    return type(value) is list and 0 < len(value) <= BATCH_ITEMS_MAX and all(map(_is_blob, value))


def _is_session_list(value: Any) -> bool:
    return type(value) is list and all(map(_is_counter, value))


def _is_nonce(value: Any) -> bool:
    return type(value) is bytes and len(value) == NONCE_BYTES


def _is_ttl(value: Any) -> bool:
    return _is_int(value, SESSION_TTL_MS_MIN, SESSION_TTL_MS_MAX)


def _is_client_name(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        return len(value.encode()) <= CLIENT_NAME_BYTES_MAX
    except UnicodeEncodeError:  # a lone surrogate, which no snapshot could carry
        return False


def _spec(operation: Operation, kind: Kind, **arguments: Check) -> OperationSpec:
    return OperationSpec(operation, kind, tuple(arguments), tuple(arguments.values()))


_O, _K = Operation, Kind
OPERATIONS: Final[dict[int, OperationSpec]] = {
    int(spec.operation): spec
    for spec in (
        _spec(_O.EXPIRE_SESSIONS, _K.SYSTEM, sessions=_is_session_list),
        _spec(_O.OPEN_SESSION, _K.SYSTEM, nonce=_is_nonce, ttl_ms=_is_ttl, client_name=_is_client_name),
        _spec(_O.CLOSE_SESSION, _K.WRITE),
        _spec(_O.CONFIRM, _K.WRITE),
        _spec(_O.CANCEL, _K.WRITE, target=_is_counter),
        _spec(_O.RETURN, _K.WRITE, target=_is_counter),
        _spec(_O.VARIABLE_SET, _K.WRITE, name=_is_name, value=_is_blob),
        _spec(_O.VARIABLE_GET, _K.READ_OR_WAIT, name=_is_name, wait=_is_bool),
        _spec(_O.VARIABLE_COMPARE_AND_SET, _K.WRITE, name=_is_name, condition=_is_condition, value=_is_blob),
        _spec(_O.VARIABLE_ADD, _K.WRITE, name=_is_name, delta=_is_blob),
        _spec(_O.VARIABLE_DELETE, _K.WRITE, name=_is_name),
        _spec(_O.VARIABLE_WATCH, _K.READ_OR_WAIT, name=_is_name, seen_revision=_is_counter, wait=_is_bool),
        _spec(_O.QUEUE_PUT, _K.WAIT, name=_is_name, maxsize=_is_maxsize, values=_is_blob_list, wait=_is_bool),
        _spec(_O.QUEUE_GET, _K.WAIT, name=_is_name, maxsize=_is_maxsize, count=_is_item_count, wait=_is_bool),
        _spec(_O.QUEUE_SIZE, _K.READ, name=_is_name),
        _spec(_O.QUEUE_CLOSE, _K.WRITE, name=_is_name),
        _spec(_O.LOCK_ACQUIRE, _K.WAIT, name=_is_name, wait=_is_bool),
        _spec(_O.LOCK_RELEASE, _K.WRITE, name=_is_name, fence=_is_counter),
        _spec(_O.LOCK_STATUS, _K.READ, name=_is_name),
    )
}


def validate(operation: Any, arguments: list[Any]) -> str | None:
    """Return None when the operation exists and its arguments are well formed, else a one-line reason."""
    spec = OPERATIONS.get(operation) if type(operation) is int else None
    if spec is None:
        # No repr of what is not an int: it may be nested so deep that repr itself fails.
        return f"unknown operation {operation if type(operation) is int else type(operation).__name__}"
    checks = spec.argument_checks
    if type(arguments) is not list:
        return f"{spec.operation.name}: arguments are not a list"
    if len(arguments) != len(checks):
        return f"{spec.operation.name} takes {len(checks)} arguments, not {len(arguments)}"
    for position, check in enumerate(checks):
        if not check(arguments[position]):
            return f"{spec.operation.name}: bad argument {spec.argument_names[position]!r}"
    return None


def validate_acked(acked: Any) -> bool:
    """Tell whether a command's `acked` field is an int, or a list of ints that starts with one."""
    if type(acked) is int:
        return 0 <= acked <= SEQUENCE_MAX
    return (
        type(acked) is list
        and 0 < len(acked) <= BATCH_ITEMS_MAX
        and all(type(item) is int and 0 <= item <= SEQUENCE_MAX for item in acked)
    )
