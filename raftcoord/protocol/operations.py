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
DELIVERIES_MAX: Final = 2**31
LEASES_MAX: Final = 100_000  # of one semaphore; also readers of one RWLock, and claims of one queue
MULTILOCK_NAMES_MAX: Final = 1000  # of one request
TOPIC_MESSAGES_MAX: Final = 1_000_000  # that a topic may retain
TOPIC_BYTES_MAX: Final = 2**30
FOLLOW_HOLD_S: Final = 5.0  # how long a replica lets a "follow" wait for a message
TTL_MS_MAX: Final = 10 * 365 * 24 * 3_600_000  # of a variable; also the age of a topic's messages
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
    RETURN = 6  # (target sequence) -> items given back: a QUEUE_GET or _CLAIM that nobody wanted is undone
    SESSION_NAMES = 8  # (sessions) -> list of client names, "" for the unknown

    VARIABLE_SET = 16  # (name, value) -> revision
    VARIABLE_GET = 17  # (name, wait) -> [value, revision]; UNSET
    VARIABLE_COMPARE_AND_SET = 18  # (name, condition, value) -> revision; CONFLICT
    VARIABLE_ADD = 19  # (name, delta blob) -> [sum blob, revision]; unset counts as 0; WRONG_TYPE, OVERFLOW
    VARIABLE_DELETE = 20  # (name) -> bool: existed
    VARIABLE_WATCH = 21  # (name, seen_revision, wait) -> [value | None, revision] once it differs; EMPTY
    VARIABLE_SET_WITH = 22  # (name, value, ttl_ms, ephemeral) -> revision; ttl_ms 0: none

    QUEUE_PUT = 32  # (name, maxsize, values, wait) -> size after; all or none; FULL
    QUEUE_GET = 33  # (name, maxsize, count, wait) -> list of values; count -1 drains; EMPTY
    QUEUE_SIZE = 34  # (name) -> int
    QUEUE_CLOSE = 35  # (name) -> bool: existed; waiting calls end with CLOSED
    QUEUE_CLAIM = 36  # (name, maxsize, limits, wait) -> [fence, value, deliveries]; EMPTY
    QUEUE_ACK = 37  # (name, fence) -> None; NOT_HOLDER
    QUEUE_NACK = 38  # (name, fence) -> None; NOT_HOLDER

    LOCK_ACQUIRE = 48  # (name, wait) -> fence; HELD
    LOCK_RELEASE = 49  # (name, fence) -> None; NOT_HOLDER
    LOCK_STATUS = 50  # (name) -> [session, fence, waiters] or None
    LOCK_WAITERS = 51  # (name) -> list of session ids, in line

    EVENT_SET = 64  # (name) -> bool: it was clear
    EVENT_CLEAR = 65  # (name) -> bool: it was set
    EVENT_WAIT = 66  # (name, wait) -> None once it is set; UNSET
    EVENT_IS_SET = 67  # (name) -> bool

    SEMAPHORE_ACQUIRE = 80  # (name, max_leases, wait) -> fence; HELD; CONFLICT [max_leases]
    SEMAPHORE_RELEASE = 81  # (name, fence) -> None; NOT_HOLDER
    SEMAPHORE_STATUS = 82  # (name) -> [max_leases, leases, waiters] or None
    SEMAPHORE_CLOSE = 83  # (name) -> bool: existed; waiting calls end with CLOSED

    MULTILOCK_ACQUIRE = 96  # (names, count, wait) -> [fence, names granted]; HELD
    MULTILOCK_RELEASE = 97  # (fence) -> None; NOT_HOLDER
    MULTILOCK_STATUS = 98  # (name) -> [session, fence] or None

    RWLOCK_ACQUIRE = 112  # (name, shared, wait) -> fence; HELD
    RWLOCK_RELEASE = 113  # (name, fence) -> None; NOT_HOLDER
    RWLOCK_STATUS = 114  # (name) -> [writer's fence or None, readers' fences, waiters] or None

    TOPIC_PUBLISH = 128  # (name, retention, values) -> [first offset, next offset]
    TOPIC_READ = 129  # (name, offset, count_max, wait) -> [next offset, missed, values]; EMPTY; CLOSED
    TOPIC_STATUS = 130  # (name) -> [first offset, next offset, bytes]; [0, 0, 0] if there is none
    TOPIC_DELETE = 131  # (name) -> bool: existed; waiting calls end with CLOSED


class Kind(Enum):
    """How an operation reaches the machine."""

    READ = "read"  # never logged; answered behind a read barrier
    WRITE = "write"  # always logged
    WAIT = "wait"  # logged; may answer WAITING first
    READ_OR_WAIT = "read or wait"  # answered from state when it can be, logged as a wait otherwise
    SYSTEM = "system"  # only the replica itself may propose it


Check = Callable[[Any], bool]
Together = Callable[..., "str | None"]  # (*arguments), each of which passed its check


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """One row of the table."""

    operation: Operation
    kind: Kind
    argument_names: tuple[str, ...]
    argument_checks: tuple[Check, ...]
    together: Together | None = None


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


def _is_known_list(value: Any) -> bool:
    return _is_session_list(value) and len(value) <= BATCH_ITEMS_MAX


def _is_limits(value: Any) -> bool:
    """[deliveries_max or 0, name of the dead-letter queue or b""]."""
    if type(value) is not list or len(value) != 2:
        return False
    return _is_int(value[0], 0, DELIVERIES_MAX) and (value[1] == b"" or _is_name(value[1]))


def _is_lease_count(value: Any) -> bool:
    return _is_int(value, 1, LEASES_MAX)


def _is_name_list(value: Any) -> bool:
    """Distinct names, at least one."""
    return (
        type(value) is list
        and 0 < len(value) <= MULTILOCK_NAMES_MAX
        and all(map(_is_name, value))
        and len(set(value)) == len(value)
    )


def _is_lock_count(value: Any) -> bool:
    return _is_int(value, 1, MULTILOCK_NAMES_MAX)


def _enough_names(names: list[bytes], count: int, wait: bool) -> str | None:
    return None if count <= len(names) else "count is over the number of names"


def _is_retention(value: Any) -> bool:
    """[count_max, bytes_max, age_ms_max or 0]."""
    if type(value) is not list or len(value) != 3:
        return False
    return (
        _is_int(value[0], 1, TOPIC_MESSAGES_MAX)
        and _is_int(value[1], 1, TOPIC_BYTES_MAX)
        and _is_int(value[2], 0, TTL_MS_MAX)
    )


def _is_message_count(value: Any) -> bool:
    return _is_int(value, 1, BATCH_ITEMS_MAX)


def _is_value_ttl(value: Any) -> bool:
    return _is_int(value, 0, TTL_MS_MAX)


def _spec(
    operation: Operation, kind: Kind, together: Together | None = None, **arguments: Check
) -> OperationSpec:
    return OperationSpec(operation, kind, tuple(arguments), tuple(arguments.values()), together)


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
        _spec(_O.SESSION_NAMES, _K.READ, known_sessions=_is_known_list),
        _spec(_O.VARIABLE_SET, _K.WRITE, name=_is_name, value=_is_blob),
        _spec(_O.VARIABLE_GET, _K.READ_OR_WAIT, name=_is_name, wait=_is_bool),
        _spec(_O.VARIABLE_COMPARE_AND_SET, _K.WRITE, name=_is_name, condition=_is_condition, value=_is_blob),
        _spec(_O.VARIABLE_ADD, _K.WRITE, name=_is_name, delta=_is_blob),
        _spec(_O.VARIABLE_DELETE, _K.WRITE, name=_is_name),
        _spec(_O.VARIABLE_WATCH, _K.READ_OR_WAIT, name=_is_name, seen_revision=_is_counter, wait=_is_bool),
        _spec(
            _O.VARIABLE_SET_WITH,
            _K.WRITE,
            name=_is_name,
            value=_is_blob,
            value_ttl_ms=_is_value_ttl,
            ephemeral=_is_bool,
        ),
        _spec(_O.QUEUE_PUT, _K.WAIT, name=_is_name, maxsize=_is_maxsize, values=_is_blob_list, wait=_is_bool),
        _spec(_O.QUEUE_GET, _K.WAIT, name=_is_name, maxsize=_is_maxsize, count=_is_item_count, wait=_is_bool),
        _spec(_O.QUEUE_SIZE, _K.READ, name=_is_name),
        _spec(_O.QUEUE_CLOSE, _K.WRITE, name=_is_name),
        _spec(_O.QUEUE_CLAIM, _K.WAIT, name=_is_name, maxsize=_is_maxsize, limits=_is_limits, wait=_is_bool),
        _spec(_O.QUEUE_ACK, _K.WRITE, name=_is_name, fence=_is_counter),
        _spec(_O.QUEUE_NACK, _K.WRITE, name=_is_name, fence=_is_counter),
        _spec(_O.LOCK_ACQUIRE, _K.WAIT, name=_is_name, wait=_is_bool),
        _spec(_O.LOCK_RELEASE, _K.WRITE, name=_is_name, fence=_is_counter),
        _spec(_O.LOCK_STATUS, _K.READ, name=_is_name),
        _spec(_O.LOCK_WAITERS, _K.READ, name=_is_name),
        _spec(_O.EVENT_SET, _K.WRITE, name=_is_name),
        _spec(_O.EVENT_CLEAR, _K.WRITE, name=_is_name),
        _spec(_O.EVENT_WAIT, _K.READ_OR_WAIT, name=_is_name, wait=_is_bool),
        _spec(_O.EVENT_IS_SET, _K.READ, name=_is_name),
        _spec(_O.SEMAPHORE_ACQUIRE, _K.WAIT, name=_is_name, max_leases=_is_lease_count, wait=_is_bool),
        _spec(_O.SEMAPHORE_RELEASE, _K.WRITE, name=_is_name, fence=_is_counter),
        _spec(_O.SEMAPHORE_STATUS, _K.READ, name=_is_name),
        _spec(_O.SEMAPHORE_CLOSE, _K.WRITE, name=_is_name),
        _spec(
            _O.MULTILOCK_ACQUIRE,
            _K.WAIT,
            _enough_names,
            names=_is_name_list,
            lock_count=_is_lock_count,
            wait=_is_bool,
        ),
        _spec(_O.MULTILOCK_RELEASE, _K.WRITE, fence=_is_counter),
        _spec(_O.MULTILOCK_STATUS, _K.READ, name=_is_name),
        _spec(_O.RWLOCK_ACQUIRE, _K.WAIT, name=_is_name, shared=_is_bool, wait=_is_bool),
        _spec(_O.RWLOCK_RELEASE, _K.WRITE, name=_is_name, fence=_is_counter),
        _spec(_O.RWLOCK_STATUS, _K.READ, name=_is_name),
        _spec(_O.TOPIC_PUBLISH, _K.WRITE, name=_is_name, retention=_is_retention, values=_is_blob_list),
        _spec(
            _O.TOPIC_READ,
            _K.READ_OR_WAIT,
            name=_is_name,
            offset=_is_counter,
            count_max=_is_message_count,
            wait=_is_bool,
        ),
        _spec(_O.TOPIC_STATUS, _K.READ, name=_is_name),
        _spec(_O.TOPIC_DELETE, _K.WRITE, name=_is_name),
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
    reason = None if spec.together is None else spec.together(*arguments)
    return None if reason is None else f"{spec.operation.name}: {reason}"


def validate_acked(acked: Any) -> bool:
    """Tell whether a command's `acked` field is an int, or a list of ints that starts with one."""
    if type(acked) is int:
        return 0 <= acked <= SEQUENCE_MAX
    return (
        type(acked) is list
        and 0 < len(acked) <= BATCH_ITEMS_MAX
        and all(type(item) is int and 0 <= item <= SEQUENCE_MAX for item in acked)
    )
