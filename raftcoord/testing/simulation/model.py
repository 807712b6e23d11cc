"""What the store means, written to be obviously right and for nothing else.

All waits are one list in the order of the log, all loans another. After every command the model goes through
all objects and serves whoever can be served. Numbers (revisions, fences) are boxes that get their value from
the machine's answer; all that is asked of it is to be larger than every number before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from raftcoord.protocol.errors import BadRequest, Code
from raftcoord.protocol.operations import OPERATIONS, Kind, Operation
from raftcoord.protocol.values import pack_value, unpack_value

Answer = tuple[Code, Any]
WAITING: Answer = (Code.WAITING, None)
CANCELLED: Answer = (Code.CANCELLED, None)


class Number:
    """A revision or a fence; None until the machine has named it."""

    def __init__(self) -> None:
        self.value: int | None = None

    def __repr__(self) -> str:
        return f"Number({self.value})"


@dataclass(eq=False)
class Wait:
    session: int
    sequence: int
    operation: Operation
    name: bytes
    detail: Any

    @property
    def place(self) -> tuple[str, bytes]:
        """The object that it waits for."""
        return self.operation.name.split("_")[0], self.name


@dataclass(eq=False)
class Loan:
    session: int
    sequence: int
    queue: Queue
    values: list[bytes]


@dataclass(eq=False)
class Queue:
    maxsize: int
    items: list[bytes] = field(default_factory=list)

    def has_room(self, count: int) -> bool:
        return not self.maxsize or len(self.items) + count <= self.maxsize


@dataclass
class Session:
    floor: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    answered_waits: list[int] = field(default_factory=list)


class Model:
    """The whole store."""

    def __init__(self) -> None:
        self.sessions: dict[int, Session] = {}
        self.variables: dict[bytes, tuple[bytes, Number]] = {}
        self.queues: dict[bytes, Queue] = {}
        self.locks: dict[bytes, tuple[int, Number]] = {}
        self.waits: list[Wait] = []
        self.loans: list[Loan] = []
        self.effects: list[tuple[Wait, Answer]] = []
        self.given_back: list[bytes] = []  # every item that ever came back from a loan

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
        if self._wait(session_id, sequence):
            return WAITING
        if sequence <= session.floor:
            return Code.STALE, None
        answer: Answer = getattr(self, f"do_{operation.name.lower()}")(session_id, sequence, *arguments)
        if answer != WAITING:
            session.answers[sequence] = answer
        return answer

    def end(self, session_ids: list[int]) -> None:
        """End these sessions."""
        self.effects = []
        ended = {one for one in session_ids if one in self.sessions}
        self.waits = [wait for wait in self.waits if wait.session not in ended]
        self.locks = {name: held for name, held in self.locks.items() if held[0] not in ended}
        for loan in [loan for loan in self.loans if loan.session in ended][::-1]:
            self._give_back(loan)
        for one in ended:
            del self.sessions[one]
        self._serve_all()

    def _confirm(self, session_id: int, session: Session, acked: Any) -> None:
        floor, *listed = acked if type(acked) is list else [acked]
        session.floor = max(session.floor, floor)
        for sequence in list(session.answers):
            if sequence > session.floor or (sequence in session.answered_waits and sequence not in listed):
                continue
            del session.answers[sequence]
            self.loans = [x for x in self.loans if (x.session, x.sequence) != (session_id, sequence)]
            if sequence in session.answered_waits:
                session.answered_waits.remove(sequence)
        self._forget_queues()

    # Waiting.

    def _wait(self, session_id: int, sequence: int) -> Wait | None:
        return next((w for w in self.waits if (w.session, w.sequence) == (session_id, sequence)), None)

    def _waits_for(self, operation: Operation, name: bytes) -> list[Wait]:
        return [wait for wait in self.waits if (wait.operation, wait.name) == (operation, name)]

    def _finish(self, wait: Wait, answer: Answer) -> None:
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
        self._forget_queues()

    def _forget_queues(self) -> None:
        used = [wait.name for wait in self.waits if wait.place[0] == "QUEUE"]
        lent = [loan.queue for loan in self.loans]
        for name, queue in list(self.queues.items()):
            if not (queue.items or queue.maxsize or name in used or queue in lent):
                del self.queues[name]

    def _serve(self, wait: Wait) -> bool:
        answer: Answer | None = None
        is_first = wait is self._waits_for(wait.operation, wait.name)[0]
        if wait.operation is Operation.VARIABLE_GET:
            answer = self._state(wait.name)
        elif wait.operation is Operation.VARIABLE_WATCH:
            answer = self._news(wait.name, wait.detail)
        elif not is_first:
            return False
        elif wait.operation is Operation.QUEUE_GET:
            answer = self._take(wait.session, wait.sequence, self.queues[wait.name], wait.detail)
        elif wait.operation is Operation.QUEUE_PUT:
            answer = self._store(self.queues[wait.name], wait.detail)
        elif wait.name not in self.locks:
            answer = self._grant(wait.session, wait.name)
        if answer is not None:
            self._finish(wait, answer)
        return answer is not None

    def _or_wait(self, answer: Answer | None, wait: Wait, waits: bool, refusal: Code) -> Answer:
        if answer is not None:
            return answer
        if not waits:
            return refusal, None
        self.waits.append(wait)
        return WAITING

    # Operations of sessions.

    def do_confirm(self, session_id: int, sequence: int) -> Answer:
        return Code.OK, None

    def do_close_session(self, session_id: int, sequence: int) -> Answer:
        self.end([session_id])
        return Code.OK, None

    def do_cancel(self, session_id: int, sequence: int, target: int) -> Answer:
        session = self.sessions[session_id]
        wait = self._wait(session_id, target)
        if target in session.answers:
            return Code.OK, list(session.answers[target])
        if wait is not None:
            self.waits.remove(wait)
            session.answered_waits.append(target)
        elif target <= session.floor or target == sequence:
            return Code.STALE, None
        session.answers[target] = CANCELLED
        return Code.OK, list(CANCELLED)

    def do_return(self, session_id: int, sequence: int, target: int) -> Answer:
        for loan in self.loans:
            if (loan.session, loan.sequence) == (session_id, target) and loan.queue in self.queues.values():
                self._give_back(loan)
                self.sessions[session_id].answers[target] = CANCELLED
                return Code.OK, len(loan.values)
        return Code.OK, 0

    # Variables.

    def _state(self, name: bytes) -> Answer | None:
        return (Code.OK, list(self.variables[name])) if name in self.variables else None

    def _news(self, name: bytes, seen_revision: int) -> Answer | None:
        value, revision = self.variables.get(name, (None, None))
        current = 0 if revision is None else revision.value
        return None if current == seen_revision else (Code.OK, [value, revision or 0])

    def do_variable_set(self, session_id: int, sequence: int, name: bytes, value: bytes) -> Answer:
        self.variables[name] = value, Number()
        return Code.OK, self.variables[name][1]

    def do_variable_get(self, session_id: int, sequence: int, name: bytes, wait: bool) -> Answer:
        waiter = Wait(session_id, sequence, Operation.VARIABLE_GET, name, None)
        return self._or_wait(self._state(name), waiter, wait, Code.UNSET)

    def do_variable_watch(self, session_id: int, sequence: int, name: bytes, seen: int, wait: bool) -> Answer:
        waiter = Wait(session_id, sequence, Operation.VARIABLE_WATCH, name, seen)
        return self._or_wait(self._news(name, seen), waiter, wait, Code.EMPTY)

    def do_variable_compare_and_set(
        self, session_id: int, sequence: int, name: bytes, condition: list[Any], value: bytes
    ) -> Answer:
        current = self.variables.get(name)
        if current is None:
            holds = condition == []
        elif condition == []:
            holds = False
        elif type(condition[0]) is int:
            holds = current[1].value == condition[0]
        else:
            holds = current[0] == condition[0] or self._equal(current[0], condition[0])
        if holds:
            return self.do_variable_set(session_id, sequence, name, value)
        return Code.CONFLICT, None if current is None else list(current)

    @staticmethod
    def _equal(left: bytes, right: bytes) -> bool:
        try:
            return bool(unpack_value(left) == unpack_value(right))
        except BadRequest:
            return False

    def do_variable_add(self, session_id: int, sequence: int, name: bytes, delta: bytes) -> Answer:
        numbers = []
        for blob in (self.variables.get(name, (pack_value(0),))[0], delta):
            try:
                numbers.append(unpack_value(blob))
            except BadRequest:
                return Code.WRONG_TYPE, None
        if not {type(number) for number in numbers} <= {int, float}:
            return Code.WRONG_TYPE, None
        number = numbers[0] + numbers[1]
        try:
            total = pack_value(math.nan if math.isnan(number) else number)
        except ValueError:
            return Code.OVERFLOW, None
        code, revision = self.do_variable_set(session_id, sequence, name, total)
        return code, [total, revision]

    def do_variable_delete(self, session_id: int, sequence: int, name: bytes) -> Answer:
        return Code.OK, self.variables.pop(name, None) is not None

    # Queues.

    def _give_back(self, loan: Loan) -> None:
        self.loans.remove(loan)
        loan.queue.items[:0] = loan.values
        self.given_back += loan.values

    def _take(self, session_id: int, sequence: int, queue: Queue, count: int) -> Answer | None:
        if len(queue.items) < count:
            return None
        values, queue.items[:count] = queue.items[:count], []
        self.loans.append(Loan(session_id, sequence, queue, values))
        return Code.OK, values

    def _store(self, queue: Queue, values: list[bytes]) -> Answer | None:
        if not queue.has_room(len(values)):
            return None
        queue.items += values
        return Code.OK, len(queue.items)

    def _too_many(self, name: bytes, maxsize: int, count: int) -> bool:
        maxsize = self.queues[name].maxsize if name in self.queues else maxsize
        return 0 < maxsize < count

    def do_queue_put(
        self, session_id: int, sequence: int, name: bytes, maxsize: int, values: list[bytes], wait: bool
    ) -> Answer:
        if self._too_many(name, maxsize, len(values)):
            return Code.TOO_LARGE, "more items than the queue's maxsize"
        queue = self.queues.setdefault(name, Queue(maxsize))
        overtakes = self._waits_for(Operation.QUEUE_PUT, name)
        answer = None if overtakes else self._store(queue, values)
        waiter = Wait(session_id, sequence, Operation.QUEUE_PUT, name, values)
        return self._or_wait(answer, waiter, wait, Code.FULL)

    def do_queue_get(
        self, session_id: int, sequence: int, name: bytes, maxsize: int, count: int, wait: bool
    ) -> Answer:
        if self._too_many(name, maxsize, count):
            return Code.TOO_LARGE, "more items than the queue's maxsize"
        queue = self.queues.setdefault(name, Queue(maxsize))
        overtakes = self._waits_for(Operation.QUEUE_GET, name)
        if count == -1:
            count = 0 if overtakes else len(queue.items)
            if count == 0:
                return Code.OK, []
        answer = None if overtakes else self._take(session_id, sequence, queue, count)
        waiter = Wait(session_id, sequence, Operation.QUEUE_GET, name, count)
        return self._or_wait(answer, waiter, wait, Code.EMPTY)

    def do_queue_close(self, session_id: int, sequence: int, name: bytes) -> Answer:
        existed = self.queues.pop(name, None) is not None
        for operation in (Operation.QUEUE_GET, Operation.QUEUE_PUT):
            for wait in self._waits_for(operation, name):
                self._finish(wait, (Code.CLOSED, None))
        return Code.OK, existed

    # Locks.

    def _grant(self, session_id: int, name: bytes) -> Answer:
        self.locks[name] = session_id, Number()
        return Code.OK, self.locks[name][1]

    def do_lock_acquire(self, session_id: int, sequence: int, name: bytes, wait: bool) -> Answer:
        answer = None if name in self.locks else self._grant(session_id, name)
        waiter = Wait(session_id, sequence, Operation.LOCK_ACQUIRE, name, None)
        return self._or_wait(answer, waiter, wait, Code.HELD)

    def do_lock_release(self, session_id: int, sequence: int, name: bytes, fence: int) -> Answer:
        holder, held = self.locks.get(name, (0, Number()))
        if holder != session_id or held.value != fence:
            return Code.NOT_HOLDER, None
        del self.locks[name]
        return Code.OK, None
