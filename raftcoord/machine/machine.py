"""The machine: one batch of commands in, results and effects out.

Invariants:
  1. Deterministic: equal batches in equal order give equal results, effects and snapshots.
  2. Total: a command of any shape gives a result; only an entry that is no batch at all raises.
  3. Time is what the batches say, and never goes back. A batch first expires what is due at its time (at
     most `EXPIRIES_PER_BATCH_MAX`; the rest is for the next one), and then applies its commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import msgspec

from raftcoord.machine.context import Context
from raftcoord.machine.event import Events
from raftcoord.machine.lock import Locks
from raftcoord.machine.multilock import MultiLocks
from raftcoord.machine.object_kind import Handler, ObjectKind, Query
from raftcoord.machine.outcome import (
    CANCELLED,
    DONE,
    OK,
    WAITING,
    Applied,
    Result,
    SessionView,
)
from raftcoord.machine.queue import Queues
from raftcoord.machine.rwlock import RWLocks
from raftcoord.machine.semaphore import Semaphores
from raftcoord.machine.session import Session
from raftcoord.machine.snapshot import (
    FORMAT,
    FORMAT_VERSION,
    FORMAT_VERSIONS_READ,
    read_values,
    write_slices,
)
from raftcoord.machine.topic import Topics
from raftcoord.machine.variable import Variables
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import (
    OPERATIONS,
    SEQUENCE_MAX,
    Kind,
    Operation,
    validate,
    validate_acked,
)

SESSIONS_MAX: Final = 100_000
TIME_MS_MAX: Final = 2**62
EXPIRIES_PER_BATCH_MAX: Final = 10_000  # more of them would keep a replica from its heartbeats
_SESSIONS: Final = "sessions"

_SESSION_LOST: Final[Result] = (int(Code.SESSION_LOST), None)
_STALE: Final[Result] = (int(Code.STALE), None)
_FULL: Final[Result] = (int(Code.LIMIT), "too many unconfirmed sequences in this session")
_WAITING_CODE: Final = int(Code.WAITING)
_SYSTEM_OPERATIONS: Final = frozenset(code for code, spec in OPERATIONS.items() if spec.kind is Kind.SYSTEM)
_NOT_LOGGED: Final = "not an operation that a session may log"

_decode_entry: Final = msgspec.msgpack.Decoder(tuple[int, list[Any]]).decode


class MachineError(Exception):
    """An entry of the log is no batch of commands: a bug, on which the replica must stop."""


def _malformed(reason: str) -> Result:
    return int(Code.MALFORMED), reason


class Machine:
    """The replicated state."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._context = context = Context()
        self._queues = Queues(context)
        self._topics = Topics(context)
        self._kinds: tuple[ObjectKind[Any], ...] = (
            Variables(context),
            self._queues,
            Locks(context),
            Events(context),
            Semaphores(context),
            MultiLocks(context),
            RWLocks(context),
            self._topics,
        )
        self._handlers: dict[int, Handler] = {
            Operation.CLOSE_SESSION: self._close_session,
            Operation.CONFIRM: lambda session, sequence: DONE,
            Operation.CANCEL: self._cancel,
            Operation.RETURN: self._return,
        }
        self._queries: dict[int, Query] = {Operation.SESSION_NAMES: self._session_names}
        for kind in self._kinds:
            self._handlers.update(kind.operations)
            self._queries.update(kind.queries)
        self._by_nonce: dict[bytes, int] = {}

    def __repr__(self) -> str:
        return f"<Machine now_ms={self.now_ms} {self.counts()}>"

    @property
    def now_ms(self) -> int:
        """The largest stamp of all batches so far."""
        return self._context.now_ms

    def next_deadline_ms(self) -> int | None:
        """Return the time at which a batch, even an empty one, would expire something; None: never.

        It is not after `now_ms` only when more was due than one batch expires.
        """
        return self._context.deadlines.next_ms()

    # Applying.

    def apply_entry(self, payload: bytes) -> Applied:
        """Apply one log entry: msgpack of `[now_ms, [command, …]]`.

        Raises:
            MachineError: it is not of that shape; nothing was changed.
        """
        try:
            now_ms, commands = _decode_entry(payload)
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
            raise MachineError(f"not a batch of commands: {error}") from None
        if not 0 <= now_ms <= TIME_MS_MAX:
            raise MachineError(f"not a time in milliseconds: {now_ms}")
        return self.apply(now_ms, commands)

    def apply(self, now_ms: int, commands: list[Any]) -> Applied:
        """Apply the commands of one batch in order.

        Args:
            now_ms: cluster time in milliseconds, as the leader stamped it.
        """
        context = self._context
        applied = context.applied = Applied()
        context.now_ms = max(context.now_ms, now_ms)
        if context.deadlines:
            self._expire()
        for command in commands:
            applied.results.append(self._apply_command(command))
        return applied

    def _expire(self) -> None:
        context = self._context
        for _ in range(EXPIRIES_PER_BATCH_MAX):
            due = context.deadlines.take_due(context.now_ms)
            if due is None:
                return
            kind, name = due
            kind.expire(name)

    def _apply_command(self, command: Any) -> Result:
        if type(command) is not list or len(command) < 4:
            return _malformed("a command has at least four fields")
        session_id, sequence, acked, operation, *arguments = command
        reason = validate(operation, arguments)
        if reason is not None:
            return _malformed(reason)
        if type(session_id) is not int or type(sequence) is not int or not validate_acked(acked):
            return _malformed("session, sequence or acked")
        session = self._context.sessions.get(session_id)
        if session is None:
            return self._apply_without_session(session_id, operation, arguments)
        handler = self._handlers.get(operation)
        if handler is None:
            return _malformed(_NOT_LOGGED)
        if not 0 < sequence <= SEQUENCE_MAX:
            return _malformed("a sequence is above 0")
        self._context.touch(session)
        if acked != session.floor:
            for loan in session.confirm(acked):
                self._queues.loan_confirmed(loan)
        known = self._known(session, sequence)
        if known is not None:
            return known
        if session.is_full and operation != Operation.CLOSE_SESSION:
            return _FULL
        result = handler(session, sequence, *arguments)
        if result[0] != _WAITING_CODE:
            session.answers[sequence] = result
        return result

    @staticmethod
    def _known(session: Session, sequence: int) -> Result | None:
        """Return the answer to a sequence that must not be applied (any more), None to a new one."""
        answer = session.answers.get(sequence)
        if answer is not None:
            return answer
        if sequence in session.waits:
            return WAITING
        return _STALE if sequence <= session.floor else None

    def _apply_without_session(self, session_id: int, operation: int, arguments: list[Any]) -> Result:
        if operation not in _SYSTEM_OPERATIONS:
            return _SESSION_LOST
        if session_id != 0:
            return _malformed(_NOT_LOGGED)
        if operation == Operation.OPEN_SESSION:
            return self._open_session(*arguments)
        sessions = self._context.sessions
        self._end([sessions[one] for one in dict.fromkeys(arguments[0]) if one in sessions])
        return DONE

    # Sessions.

    def _open_session(self, nonce: bytes, ttl_ms: int, client_name: str) -> Result:
        context = self._context
        existing = self._by_nonce.get(nonce)
        if existing is not None:
            return OK, existing
        if len(context.sessions) >= SESSIONS_MAX:
            return int(Code.LIMIT), "too many sessions"
        session_id = context.next_number()
        context.sessions[session_id] = Session(
            session_id, nonce, ttl_ms, client_name, context.copies.generation
        )
        self._by_nonce[nonce] = session_id
        context.applied.opened.append(SessionView(session_id, ttl_ms, client_name, nonce))
        return OK, session_id

    def _close_session(self, session: Session, sequence: int) -> Result:
        self._end([session])
        return DONE

    def _end(self, sessions: list[Session]) -> None:
        """Forget sessions: first all their waits, so that none of them is served, then what they hold."""
        context = self._context
        unsettled: dict[tuple[ObjectKind[Any], bytes], None] = {}
        for session in sessions:
            context.touch(session)
            for sequence in sorted(session.waits):
                waiter = session.waits[sequence]
                waiter.kind.remove_waiter(waiter)
                context.forget(session, waiter)
                unsettled[waiter.kind, waiter.name] = None
        for kind, holds in self._holds_of(sessions).items():
            for name in kind.release(sessions, holds):
                unsettled[kind, name] = None
        for session in sessions:
            del context.sessions[session.id]
            del self._by_nonce[session.nonce]
            context.applied.ended.append(session.id)
        for kind, name in unsettled:
            kind.settle(name)

    def _holds_of(self, sessions: list[Session]) -> dict[ObjectKind[Any], list[tuple[int, bytes]]]:
        """Return what the sessions hold by kind, in the order of the fences."""
        holds: dict[ObjectKind[Any], list[tuple[int, bytes]]] = {kind: [] for kind in self._kinds}
        for fence, (kind, name) in sorted(
            (hold for session in sessions for hold in session.holds.items()), key=lambda hold: hold[0]
        ):
            holds[kind].append((fence, name))
        return holds

    def _cancel(self, session: Session, sequence: int, target: int) -> Result:
        answer = session.answers.get(target)
        if answer is not None:
            return OK, list(answer)
        waiter = session.waits.get(target)
        if waiter is None:
            if target <= session.floor or target == sequence:
                return _STALE
            session.answers[target] = CANCELLED  # should the request still arrive, it is not applied
            return OK, list(CANCELLED)
        waiter.kind.remove_waiter(waiter)
        self._context.forget(session, waiter)
        session.answers[target] = CANCELLED
        session.registered.add(target)
        waiter.kind.settle(waiter.name)
        return OK, list(CANCELLED)

    def _return(self, session: Session, sequence: int, target: int) -> Result:
        count = self._queues.take_back(session, target)
        if count:
            session.answers[target] = CANCELLED
        return OK, count

    # Reading.

    def query(self, operation: int, arguments: list[Any]) -> Result | None:
        """Answer a valid read from the state as it is; None when only a logged wait can answer it."""
        return self._queries[operation](*arguments)

    def follow_topic(self, name: bytes, offset: int, count_max: int) -> Result | None:
        """See `Topics.follow`: what a subscriber may read here whether this replica leads or not."""
        return self._topics.follow(name, offset, count_max)

    def has_reached(self, name: bytes, offset: int) -> bool:
        """See `Topics.has_reached`: whether this replica is new enough for a subscriber that stands there."""
        return self._topics.has_reached(name, offset)

    def _session_names(self, identifiers: list[int]) -> Result:
        known = (self._context.sessions.get(identifier) for identifier in identifiers)
        return OK, ["" if session is None else session.client_name for session in known]

    def has_session(self, session_id: int) -> bool:
        """Whether the session is alive."""
        return session_id in self._context.sessions

    def sessions(self) -> Iterator[SessionView]:
        """Yield all sessions in the order in which they were opened."""
        for session in self._context.sessions.values():
            yield SessionView(session.id, session.ttl_ms, session.client_name, session.nonce)

    def counts(self) -> dict[str, int]:
        """Return how many of everything there are."""
        sessions = self._context.sessions
        counts = {kind.tag: len(kind.table) for kind in self._kinds}
        counts["sessions"] = len(sessions)
        counts["waiters"] = self._context.waiter_count
        counts["answers"] = sum(len(session.answers) for session in sessions.values())
        return counts

    # Snapshots.

    def begin_snapshot(self) -> Iterator[bytes]:
        """Freeze the state as of now and return its bytes in slices; one snapshot at a time.

        The first snapshot is given up when a second one is begun: its iterator then raises RuntimeError.
        """
        context = self._context
        tables: list[tuple[str, list[Any]]] = [(_SESSIONS, list(context.sessions.values()))]
        tables += [(kind.tag, kind.stored()) for kind in self._kinds]
        header = [
            FORMAT,
            FORMAT_VERSION,
            context.now_ms,
            context.number,
            [[tag, len(items)] for tag, items in tables],
        ]
        items = chain.from_iterable(items for _, items in tables)
        return write_slices(header, items, context.copies, context.copies.begin())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by a snapshot.

        Raises:
            ValueError: the snapshot is damaged or of another format; the state is then undefined.
        """
        values = read_values(chunks)
        self._reset()  # a snapshot under way goes on: nothing changes any more what it reads
        try:
            self._restore_values(values)
        except (TypeError, KeyError, IndexError, AttributeError, StopIteration) as error:
            raise ValueError(f"not a snapshot of this machine: {error!r}") from None

    def _restore_values(self, values: Iterator[Any]) -> None:
        context = self._context
        name, version, context.now_ms, number, sections = next(values)
        if name != FORMAT or version not in FORMAT_VERSIONS_READ:
            raise ValueError(f"snapshot format {name!r} version {version}, not {FORMAT} {FORMAT_VERSION}")
        kinds = {kind.tag: kind for kind in self._kinds}
        for tag, count in sections:
            for _ in range(count):
                fields = next(values)
                if tag == _SESSIONS:
                    session = Session.decode(fields, context.copies.generation)
                    context.sessions[session.id] = session
                    self._by_nonce[session.nonce] = session.id
                else:
                    kind = kinds[tag]
                    kind.decode([*fields, *kind.fields_since_1] if version == 1 else fields)
        context.number = number
        for _ in values:
            raise ValueError("the snapshot goes on after its last object")
