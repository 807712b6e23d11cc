"""Queues: items, loans until an answer is confirmed, and claims until they are acknowledged.

All loans and claims are one list in the order in which they were taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.testing.simulation.model.base import (
    CANCELLED,
    NOT_HOLDER,
    Answer,
    Number,
    ObjectKind,
    Store,
    Wait,
)


@dataclass(eq=False)
class Item:
    """Something that was put."""

    value: bytes
    deliveries: int = 0  # as a claim


@dataclass(eq=False)
class Queue:
    """One queue, until it is closed or forgotten."""

    maxsize: int
    items: list[Item] = field(default_factory=list)

    @property
    def values(self) -> list[bytes]:
        return [item.value for item in self.items]

    def has_room(self, count: int) -> bool:
        return not self.maxsize or len(self.items) + count <= self.maxsize


@dataclass(eq=False)
class Taken:
    """Items that one session has: on loan, or, with a fence, one of them as a claim."""

    session: int
    sequence: int
    queue: Queue
    items: list[Item]
    fence: Number | None = None
    deliveries_max: int = 0
    dead_letters: bytes = b""


class Queues(ObjectKind):
    """All queues."""

    prefix = "QUEUE"
    tag = "queues"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.table: dict[bytes, Queue] = {}
        self.taken: list[Taken] = []
        self.given_back: list[bytes] = []  # every item that ever came back from a loan
        self.returned: list[bytes] = []  # those of them that no caller had got

    def names(self) -> Iterable[bytes]:
        return self.table

    def held_by(self, session_id: int) -> Iterable[bytes]:
        names = {id(queue): name for name, queue in self.table.items()}
        loans = [one for one in self.taken if one.fence is None and one.session == session_id]
        return [names[id(loan.queue)] for loan in loans if id(loan.queue) in names]

    def forget(self) -> None:
        for name, queue in list(self.table.items()):
            is_taken_from = any(taken.queue is queue for taken in self.taken)
            if not (queue.items or queue.maxsize or is_taken_from or self.line(name)):
                del self.table[name]

    # Getters and putters.

    def _ahead(self, operation: Operation, name: bytes) -> list[Wait]:
        """Return the waits of one side of a queue: of those who put, or of those who take."""
        puts = operation is Operation.QUEUE_PUT
        return [wait for wait in self.line(name) if (wait.operation is Operation.QUEUE_PUT) == puts]

    def serve(self, wait: Wait) -> Answer | None:
        queue = self.table[wait.name]
        if wait is not self._ahead(wait.operation, wait.name)[0]:
            return None
        if wait.operation is Operation.QUEUE_PUT:
            return self._put(queue, wait.detail)
        if wait.operation is Operation.QUEUE_GET:
            return self._get(wait.session, wait.sequence, queue, wait.detail)
        return self._claim(wait.session, wait.sequence, queue, wait.detail)

    def _put(self, queue: Queue, values: list[bytes]) -> Answer | None:
        if not queue.has_room(len(values)):
            return None
        queue.items += map(Item, values)
        return Code.OK, len(queue.items)

    def _get(self, session_id: int, sequence: int, queue: Queue, count: int) -> Answer | None:
        if len(queue.items) < count:
            return None
        items, queue.items[:count] = queue.items[:count], []
        self.taken.append(Taken(session_id, sequence, queue, items))
        return Code.OK, [item.value for item in items]

    def _claim(self, session_id: int, sequence: int, queue: Queue, limits: list[Any]) -> Answer | None:
        if not queue.items:
            return None
        item = queue.items.pop(0)
        item.deliveries += 1
        claim = Taken(session_id, sequence, queue, [item], Number(), *limits)
        self.taken.append(claim)
        return Code.OK, [claim.fence, item.value, item.deliveries]

    def _too_many(self, name: bytes, maxsize: int, count: int) -> bool:
        maxsize = self.table[name].maxsize if name in self.table else maxsize
        return 0 < maxsize < count

    def do_put(
        self, session_id: int, sequence: int, name: bytes, maxsize: int, values: list[bytes], wait: bool
    ) -> Answer:
        if self._too_many(name, maxsize, len(values)):
            return Code.TOO_LARGE, "more items than the queue's maxsize"
        queue = self.table.setdefault(name, Queue(maxsize))
        answer = None if self._ahead(Operation.QUEUE_PUT, name) else self._put(queue, values)
        waiter = Wait(session_id, sequence, Operation.QUEUE_PUT, name, values)
        return self.store.or_wait(answer, waiter, wait, Code.FULL)

    def do_get(
        self, session_id: int, sequence: int, name: bytes, maxsize: int, count: int, wait: bool
    ) -> Answer:
        if self._too_many(name, maxsize, count):
            return Code.TOO_LARGE, "more items than the queue's maxsize"
        queue = self.table.setdefault(name, Queue(maxsize))
        overtakes = self._ahead(Operation.QUEUE_GET, name)
        if count == -1:
            count = 0 if overtakes else len(queue.items)
            if count == 0:
                return Code.OK, []
        answer = None if overtakes else self._get(session_id, sequence, queue, count)
        waiter = Wait(session_id, sequence, Operation.QUEUE_GET, name, count)
        return self.store.or_wait(answer, waiter, wait, Code.EMPTY)

    def do_claim(
        self, session_id: int, sequence: int, name: bytes, maxsize: int, limits: list[Any], wait: bool
    ) -> Answer:
        queue = self.table.setdefault(name, Queue(maxsize))
        overtakes = self._ahead(Operation.QUEUE_CLAIM, name)
        answer = None if overtakes else self._claim(session_id, sequence, queue, limits)
        waiter = Wait(session_id, sequence, Operation.QUEUE_CLAIM, name, limits)
        return self.store.or_wait(answer, waiter, wait, Code.EMPTY)

    def do_close(self, session_id: int, sequence: int, name: bytes) -> Answer:
        queue = self.table.pop(name, None)
        for side in (Operation.QUEUE_GET, Operation.QUEUE_PUT):
            for wait in self._ahead(side, name):
                self.store.finish(wait, (Code.CLOSED, None))
        self.taken = [one for one in self.taken if one.fence is None or one.queue is not queue]
        return Code.OK, queue is not None

    def read_size(self, name: bytes) -> Answer:
        return Code.OK, len(self.table[name].items) if name in self.table else 0

    # What was taken.

    def confirmed(self, session_id: int, sequence: int) -> None:
        """What this answer carries as a loan is the client's for good."""
        self.taken = [
            one
            for one in self.taken
            if one.fence is not None or (one.session, one.sequence) != (session_id, sequence)
        ]

    def _give_back(self, taken: Taken) -> None:
        self.taken.remove(taken)
        taken.queue.items[:0] = taken.items
        if taken.fence is None:
            self.given_back += [item.value for item in taken.items]

    def _bury(self, claim: Taken) -> None:
        self.taken.remove(claim)
        if claim.dead_letters:
            dead = self.table.setdefault(claim.dead_letters, Queue(0))
            dead.items.append(Item(claim.items[0].value))

    @staticmethod
    def _is_dead(taken: Taken) -> bool:
        return taken.fence is not None and 0 < taken.deliveries_max <= taken.items[0].deliveries

    def end(self, ended: list[int]) -> None:
        taken = [one for one in self.taken if one.session in ended and one.queue in self.table.values()]
        for one in taken:
            if self._is_dead(one):
                self._bury(one)
        for one in reversed(taken):
            if one in self.taken:
                self._give_back(one)
        self.taken = [one for one in self.taken if one.session not in ended]

    def _held(self, session_id: int, name: bytes, fence: int) -> Taken | None:
        for one in self.taken:
            if one.fence is not None and (one.session, one.fence.value) == (session_id, fence):
                return one if one.queue is self.table.get(name) else None
        return None

    def do_ack(self, session_id: int, sequence: int, name: bytes, fence: int) -> Answer:
        claim = self._held(session_id, name, fence)
        if claim is None:
            return NOT_HOLDER
        self.taken.remove(claim)
        return Code.OK, None

    def do_nack(self, session_id: int, sequence: int, name: bytes, fence: int) -> Answer:
        claim = self._held(session_id, name, fence)
        if claim is None:
            return NOT_HOLDER
        if self._is_dead(claim):
            self._bury(claim)
        else:
            self._give_back(claim)
        return Code.OK, None

    def undo(self, session_id: int, target: int) -> Answer:
        """RETURN: what was taken under this sequence goes back, as if it had not been taken."""
        for one in self.taken:
            if (one.session, one.sequence) == (session_id, target) and one.queue in self.table.values():
                session = self.store.sessions[session_id]
                if target not in session.answers:
                    continue
                if one.fence is not None:
                    one.items[0].deliveries -= 1
                else:
                    self.returned += [item.value for item in one.items]
                self._give_back(one)
                session.answers[target] = CANCELLED
                return Code.OK, len(one.items)
        return Code.OK, 0
