"""Status codes of the wire and the exceptions that users see.

Invariants:
  1. Every code has exactly one meaning and is never reused by a later release.
  2. The first split of the exception tree is what a caller must know after a failure:
     `NotApplied` (nothing happened, repeating is safe), `Indeterminate` (it may have happened),
     `Rejected` (the store said no; repeating gives the same answer until something changes).
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Status of one answer on the wire."""

    OK = 0
    WAITING = 1  # the wait is registered in the log; the answer follows under the same sequence

    # The request was not applied; the client may send it again (elsewhere).
    NOT_LEADER = 10  # payload: client address of the leader, or None
    BUSY = 11  # back pressure: too much in flight
    CANCELLED = 12  # the wait ended because its client cancelled it
    SHUTTING_DOWN = 13

    # The session is gone, and with it the knowledge of what was applied.
    SESSION_LOST = 20

    # The answer is no.
    UNSET = 30  # the variable has no value, the event is not set
    # compare_and_set: the condition does not hold; payload: [value, revision] or None. Semaphore: it exists
    # with another number of leases; payload: [max_leases].
    CONFLICT = 31
    FULL = 32  # queue is full, and the call does not wait
    EMPTY = 33  # nothing (or too little) to read, and the call does not wait
    HELD = 34  # it is held, or others are in line, and the call does not wait
    NOT_HOLDER = 35  # release by one who does not hold
    CLOSED = 36  # queue, semaphore or topic were closed or deleted while the call waited
    WRONG_TYPE = 37  # e.g. add to a value that is not a number
    OVERFLOW = 38  # the sum does not fit into 64 bits
    TOO_LARGE = 39  # value, name, frame or batch over its bound
    MALFORMED = 40  # arguments of the wrong number, type or range
    UNKNOWN_OPERATION = 41
    UNSUPPORTED_VERSION = 42
    STALE = 43  # the sequence was confirmed before; nothing is applied and nothing is known any more
    LIMIT = 44  # a table bound (sessions, waiters, connections) is reached
    UNAUTHENTICATED = 45


class RaftcoordError(Exception):
    """Root of every exception that raftcoord raises on purpose."""


class NotApplied(RaftcoordError):
    """Nothing was changed; repeating the call is safe."""


class Indeterminate(RaftcoordError):
    """The call may or may not have taken effect."""


class Rejected(RaftcoordError):
    """The store decided against the call; nothing was changed."""


class CallTimeout(NotApplied, TimeoutError):
    """The call did not finish in its time, and certainly has not taken effect."""


class OutcomeUnknown(Indeterminate, TimeoutError):
    """The call was sent, no replica answered in time, and it may yet take effect."""


class NotConnected(NotApplied, ConnectionError):
    """No replica could be reached, and the call was never sent."""


class Overloaded(NotApplied):
    """The replica refused more work for now."""


class ClientClosed(NotApplied):
    """The client was closed before the call was sent."""


class SessionLost(Indeterminate):
    """The session expired: its locks are released, and what was unanswered may have been applied."""


class LockLost(Indeterminate):
    """The session that held this lock is gone: someone else may hold it now."""


class NotHolder(Rejected, RuntimeError):
    """A release by one who does not hold the lock."""


class Conflict(Rejected):
    """The condition of a compare_and_set did not hold."""


class QueueClosed(Rejected):
    """The queue was closed."""


class WrongType(Rejected, TypeError):
    """The stored value does not support the operation."""


class NumberOverflow(Rejected, OverflowError):
    """The result does not fit into 64 bits."""


class ValueTooLarge(Rejected, ValueError):
    """A value, name or batch is over its size limit."""


class BadRequest(Rejected, ValueError):
    """The replica did not understand the request."""


class LimitReached(Rejected):
    """A table of the store is full (sessions, waiters or connections)."""


class AuthenticationFailed(Rejected, PermissionError):
    """The replica does not accept these credentials."""


class UnsupportedVersion(Rejected):
    """Client and replica have no protocol version in common."""


EXCEPTION_BY_CODE: dict[Code, type[RaftcoordError]] = {
    Code.NOT_LEADER: NotConnected,
    Code.BUSY: Overloaded,
    Code.CANCELLED: CallTimeout,
    Code.SHUTTING_DOWN: NotConnected,
    Code.SESSION_LOST: SessionLost,
    Code.UNSET: CallTimeout,
    Code.CONFLICT: Conflict,
    Code.FULL: CallTimeout,
    Code.EMPTY: CallTimeout,
    Code.HELD: CallTimeout,
    Code.NOT_HOLDER: NotHolder,
    Code.CLOSED: QueueClosed,
    Code.WRONG_TYPE: WrongType,
    Code.OVERFLOW: NumberOverflow,
    Code.TOO_LARGE: ValueTooLarge,
    Code.MALFORMED: BadRequest,
    Code.UNKNOWN_OPERATION: BadRequest,
    Code.UNSUPPORTED_VERSION: UnsupportedVersion,
    Code.STALE: SessionLost,
    Code.LIMIT: LimitReached,
    Code.UNAUTHENTICATED: AuthenticationFailed,
}


def exception_for(code: int, message: str) -> RaftcoordError:
    """Return the exception that stands for an error code; unknown codes become `BadRequest`."""
    try:
        kind = EXCEPTION_BY_CODE[Code(code)]
    except (ValueError, KeyError):
        return BadRequest(f"unknown status {code}: {message}")
    return kind(message)
