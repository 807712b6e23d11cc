"""What all kinds of objects share: sessions, the line of waits, dedupe, confirmation, ends, and time.

All waits are one list in the order of the log. After every command the model goes through all of them and
serves whoever can be served. Numbers (revisions, fences) are boxes that get their value from the machine's
answer; all that is asked of it is to be larger than every number before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import OPERATIONS, Kind, Operation

Answer = tuple[Code, Any]
EXPIRIES_PER_BATCH_MAX = 10_000
WAITING: Answer = (Code.WAITING, None)
CANCELLED: Answer = (Code.CANCELLED, None)
NOT_HOLDER: Answer = (Code.NOT_HOLDER, None)


class Number:
    """A revision or a fence; None until the machine has named it."""

    def __init__(self) -> None:
        self.value: int | None = None

    def __repr__(self) -> str:
        return f"Number({self.value})"

    @property
    def known(self) -> int:
        """Its value, which the machine has named by now."""
        assert self.value is not None
        return self.value


@dataclass(frozen=True)
class Offset:
    """So many places after a number."""

    start: Number
    places: int


def compare(expected: Any, actual: Any, on_new: Callable[[Any], None]) -> bool:
    """Tell whether the machine's answer is the model's; numbers that it names are told to `on_new`."""
    if isinstance(expected, Number):
        if expected.value is None:
            on_new(actual)
            expected.value = actual
        return bool(actual == expected.value)
    if isinstance(expected, Offset):
        return type(actual) is int and compare(expected.start, actual - expected.places, on_new)
    if isinstance(expected, list | tuple):
        return (
            isinstance(actual, list | tuple)
            and len(actual) == len(expected)
            and all(compare(one, other, on_new) for one, other in zip(expected, actual, strict=True))
        )
    return bool(actual == expected) and isinstance(actual, bool) == isinstance(expected, bool)


@dataclass(eq=False)
class Wait:
    """A wait that is registered."""

    session: int
    sequence: int
    operation: Operation
    name: bytes
    detail: Any

    @property
    def kind(self) -> str:
        """The kind of object that it waits for."""
        return kind_of(self.operation)

    @property
    def place(self) -> tuple[str, bytes]:
        """The object that it waits for."""
        return self.kind, self.name


@dataclass(eq=False)
class Hold:
    """Something that a session was granted."""

    session: int
    fence: Number


@dataclass
class Session:
    """One session."""

    name: str = ""
    floor: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    answered_waits: list[int] = field(default_factory=list)


def kind_of(operation: Operation) -> str:
    """Return the kind of object that an operation is for."""
    return operation.name.split("_")[0]


class ObjectKind:
    """One kind of object.

    `do_…` are its operations, `read_…` what may be read of it, both named like the operation. A `do_…`
    is called with session and sequence; a `read_…` returns None when only a wait in the log can answer.
    """

    prefix: ClassVar[str]  # as in the names of operations
    tag: ClassVar[str]  # as in counts

    def __init__(self, store: Store) -> None:
        self.store = store

    def serve(self, wait: Wait) -> Answer | None:
        """Do what this wait waits for, if that can be done now."""
        raise NotImplementedError

    def end(self, ended: list[int]) -> None:
        """Take from sessions what they hold; they have no waits any more."""

    def held_by(self, session_id: int) -> Iterable[bytes]:
        """Return the names of the objects of which this session holds something."""
        return ()

    def forget(self) -> None:
        """Forget objects of which nothing is left."""

    def due(self) -> Iterable[tuple[int, int, bytes]]:
        """Return deadline, number and name of all that changes by time."""
        return ()

    def expire(self, name: bytes) -> None:
        """The deadline of this object has come."""
        raise NotImplementedError

    def names(self) -> Iterable[bytes]:
        """Return the names of the objects that there are, but for those that are only waited for."""
        raise NotImplementedError

    def line(self, name: bytes) -> list[Wait]:
        """Return the waits for one object, in order."""
        return [wait for wait in self.store.waits if wait.kind == self.prefix and wait.name == name]

    def count(self) -> int:
        """Return how many objects there are."""
        waited_for = (wait.name for wait in self.store.waits if wait.kind == self.prefix)
        return len({*self.names(), *waited_for})


class Store:
    """All but the kinds of objects."""

    def __init__(self) -> None:
        self.kinds: dict[str, ObjectKind] = {}
        self.sessions: dict[int, Session] = {}
        self.expired: set[int] = set()  # sessions that ended because nothing was heard of them
        self.waits: list[Wait] = []
        self.effects: list[tuple[Wait, Answer]] = []
        self.now_ms = 0

    # One command.

    def apply(self, session_id: int, sequence: int, acked: Any, words: list[Any]) -> Answer:
        """Apply a well-formed command of a session; `effects` then holds the waits that it completed."""
        self.effects = []
        operation, arguments = Operation(words[0]), words[1:]
        session = self.sessions.get(session_id)
        if session is None:
            return Code.SESSION_LOST, None
        if OPERATIONS[operation].kind is Kind.READ:
            return Code.MALFORMED, "not an operation that a session may log"
        self._confirm(session_id, session, acked)
        answer = self._once(session_id, session, sequence, operation, arguments)
        self._serve_all()
        return answer

    def _once(
        self, session_id: int, session: Session, sequence: int, operation: Operation, arguments: list[Any]
    ) -> Answer:
        if sequence in session.answers:
            return session.answers[sequence]
        if self.wait_of(session_id, sequence):
            return WAITING
        if sequence <= session.floor:
            return Code.STALE, None
        answer: Answer = self._method("do", operation)(session_id, sequence, *arguments)
        if answer != WAITING:
            session.answers[sequence] = answer
        return answer

    def _method(self, verb: str, operation: Operation) -> Callable[..., Any]:
        kind, _, rest = operation.name.partition("_")
        owner, name = (self.kinds[kind], rest) if kind in self.kinds else (self, operation.name)
        method: Callable[..., Any] = getattr(owner, f"{verb}_{name.lower()}")
        return method

    def read(self, operation: Operation, *arguments: Any) -> Answer | None:
        """Return what a read must answer; None when only a wait in the log can."""
        answer: Answer | None = self._method("read", operation)(*arguments)
        return answer

    def _confirm(self, session_id: int, session: Session, acked: Any) -> None:
        floor, *listed = acked if type(acked) is list else [acked]
        session.floor = max(session.floor, floor)
        for sequence in list(session.answers):
            if sequence > session.floor or (sequence in session.answered_waits and sequence not in listed):
                continue
            del session.answers[sequence]
            self.confirmed(session_id, sequence)
            if sequence in session.answered_waits:
                session.answered_waits.remove(sequence)
        self._forget()

    def confirmed(self, session_id: int, sequence: int) -> None:
        """The client has this answer for good."""

    def counts(self) -> dict[str, int]:
        """Return how many of everything there are."""
        counts = {kind.tag: kind.count() for kind in self.kinds.values()}
        counts["sessions"] = len(self.sessions)
        counts["waiters"] = len(self.waits)
        counts["answers"] = sum(len(session.answers) for session in self.sessions.values())
        return counts

    # Time, and the end of sessions.

    def advance(self, now_ms: int) -> None:
        """A batch with this stamp begins; `effects` then holds the waits that were completed by time."""
        self.effects = []
        self.now_ms = max(self.now_ms, now_ms)
        for _ in range(EXPIRIES_PER_BATCH_MAX):
            due = sorted(
                (deadline, number, name, prefix)
                for prefix, kind in self.kinds.items()
                for deadline, number, name in kind.due()
                if deadline <= self.now_ms
            )
            if not due:
                break
            _, _, name, prefix = due[0]
            self.kinds[prefix].expire(name)
            self._serve_all()

    def next_deadline_ms(self) -> int | None:
        """Return when something changes by time."""
        return min((due[0] for kind in self.kinds.values() for due in kind.due()), default=None)

    def end(self, session_ids: list[int]) -> None:
        """End these sessions."""
        self.effects = []
        ended = [one for one in dict.fromkeys(session_ids) if one in self.sessions]
        self.waits = [wait for wait in self.waits if wait.session not in ended]
        for kind in self.kinds.values():
            kind.end(ended)
        for one in ended:
            del self.sessions[one]
        self._serve_all()

    # Waiting.

    def wait_of(self, session_id: int, sequence: int) -> Wait | None:
        """Return the wait under this sequence."""
        return next((w for w in self.waits if (w.session, w.sequence) == (session_id, sequence)), None)

    def or_wait(self, answer: Answer | None, wait: Wait, waits: bool, refusal: Code) -> Answer:
        """Return the answer, or register the wait, or refuse it."""
        if answer is not None:
            return answer
        if not waits:
            return refusal, None
        self.waits.append(wait)
        return WAITING

    def finish(self, wait: Wait, answer: Answer) -> None:
        """A wait has its final answer."""
        self.waits.remove(wait)
        self.sessions[wait.session].answers[wait.sequence] = answer
        self.sessions[wait.session].answered_waits.append(wait.sequence)
        self.effects.append((wait, answer))

    def _serve_all(self) -> None:
        # Where a getter and a putter of one queue can both be served, it is the getter's turn.
        while any(
            map(self._serve, sorted(self.waits, key=lambda wait: wait.operation is Operation.QUEUE_PUT))
        ):
            pass
        self._forget()

    def _serve(self, wait: Wait) -> bool:
        answer = self.kinds[wait.kind].serve(wait)
        if answer is not None:
            self.finish(wait, answer)
        return answer is not None

    def _forget(self) -> None:
        for kind in self.kinds.values():
            kind.forget()

    # Operations of sessions.

    def do_confirm(self, session_id: int, sequence: int) -> Answer:
        return Code.OK, None

    def do_close_session(self, session_id: int, sequence: int) -> Answer:
        self.end([session_id])
        return Code.OK, None

    def do_cancel(self, session_id: int, sequence: int, target: int) -> Answer:
        session = self.sessions[session_id]
        wait = self.wait_of(session_id, target)
        if target in session.answers:
            return Code.OK, list(session.answers[target])
        if wait is not None:
            self.waits.remove(wait)
            session.answered_waits.append(target)
        elif target <= session.floor or target == sequence:
            return Code.STALE, None
        session.answers[target] = CANCELLED
        return Code.OK, list(CANCELLED)

    def read_session_names(self, session_ids: list[int]) -> Answer:
        known = [self.sessions.get(session_id) for session_id in session_ids]
        return Code.OK, ["" if session is None else session.name for session in known]
