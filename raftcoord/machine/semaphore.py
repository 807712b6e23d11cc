"""Semaphores: so many leases and no more, and a line of those who wait for one.

Invariants:
  1. There are never more leases than `max_leases`, which the first acquire decides.
  2. Nobody waits while a lease is free.
  3. A semaphore is in the table from its first acquire until it is closed; a later one of that name is
     another one, with leases of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from raftcoord.machine.context import TOO_MANY_HOLDS, Context
from raftcoord.machine.object_kind import TOO_MANY_OBJECTS, ObjectKind
from raftcoord.machine.outcome import DONE, HELD, NOT_HOLDER, OK, Result
from raftcoord.machine.session import Session
from raftcoord.machine.waiting import Waiter, Waiters, encode_waiters
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation


class Semaphore:
    """A named semaphore."""

    __slots__ = ("leases", "mark", "max_leases", "name", "waiters")

    def __init__(self, name: bytes, max_leases: int, mark: int) -> None:
        self.name = name
        self.max_leases = max_leases
        self.mark = mark
        self.leases: dict[int, int] = {}  # fence -> session, in the order of the grants
        self.waiters: Waiters = OrderedDict()

    def __repr__(self) -> str:
        return (
            f"<Semaphore {self.name!r} leases={len(self.leases)} of {self.max_leases} "
            f"waiters={len(self.waiters)}>"
        )

    def fields(self) -> list[Any]:
        """Return the semaphore as plain values."""
        return [
            self.name,
            self.max_leases,
            list(self.leases),
            list(self.leases.values()),
            encode_waiters(self.waiters),
        ]


class Semaphores(ObjectKind[Semaphore]):
    """All semaphores."""

    tag = "semaphores"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.operations = {
            Operation.SEMAPHORE_ACQUIRE: self._acquire,
            Operation.SEMAPHORE_RELEASE: self._release,
            Operation.SEMAPHORE_CLOSE: self._close,
        }
        self.queries = {Operation.SEMAPHORE_STATUS: self._status}

    def _acquire(self, session: Session, sequence: int, name: bytes, max_leases: int, wait: bool) -> Result:
        semaphore = self.table.get(name)
        if semaphore is not None and semaphore.max_leases != max_leases:
            return int(Code.CONFLICT), [semaphore.max_leases]
        if not self.context.may_hold(session):
            return TOO_MANY_HOLDS
        if semaphore is None:
            if self.is_full:
                return TOO_MANY_OBJECTS
            semaphore = self.table[name] = Semaphore(name, max_leases, self.context.copies.generation)
        elif len(semaphore.leases) >= max_leases:
            if not wait:
                return HELD
            self.context.touch(semaphore)
            waiter = Waiter(self, name, session.id, sequence, int(Operation.SEMAPHORE_ACQUIRE), None)
            return self.context.register(semaphore.waiters, waiter)
        self.context.touch(semaphore)
        return OK, self._grant(semaphore, session)

    def _grant(self, semaphore: Semaphore, session: Session) -> int:
        fence = self.context.hold(session, self, semaphore.name)
        semaphore.leases[fence] = session.id
        return fence

    def _release(self, session: Session, sequence: int, name: bytes, fence: int) -> Result:
        if session.holds.get(fence) != (self, name):
            return NOT_HOLDER
        semaphore = self.table[name]
        self.context.touch(semaphore)
        del session.holds[fence], semaphore.leases[fence]
        self.settle(name)
        return DONE

    def _status(self, name: bytes) -> Result:
        semaphore = self.table.get(name)
        if semaphore is None:
            return OK, None
        return OK, [semaphore.max_leases, len(semaphore.leases), len(semaphore.waiters)]

    def _close(self, session: Session, sequence: int, name: bytes) -> Result:
        semaphore = self.table.get(name)
        if semaphore is None:
            return OK, False
        self.context.touch(semaphore)
        del self.table[name]
        for fence, holder in semaphore.leases.items():
            self.context.let_go(holder, fence)
        for waiter in list(semaphore.waiters.values()):
            self.context.complete(semaphore.waiters, waiter, int(Code.CLOSED), None)
        return OK, True

    def settle(self, name: bytes) -> None:
        semaphore = self.table.get(name)
        if semaphore is None:
            return
        while semaphore.waiters and len(semaphore.leases) < semaphore.max_leases:
            waiter = next(iter(semaphore.waiters.values()))
            fence = self._grant(semaphore, self.context.sessions[waiter.session])
            self.context.complete(semaphore.waiters, waiter, OK, fence)

    def remove_waiter(self, waiter: Waiter) -> None:
        semaphore = self.table[waiter.name]
        self.context.touch(semaphore)
        del semaphore.waiters[waiter.session, waiter.sequence]

    def release(self, sessions: Sequence[Session], holds: Sequence[tuple[int, bytes]]) -> Iterable[bytes]:
        for fence, name in holds:
            semaphore = self.table[name]
            self.context.touch(semaphore)
            del semaphore.leases[fence]
        return [name for _, name in holds]

    def decode(self, fields: list[Any]) -> None:
        name, max_leases, fences, holders, waiters = fields
        semaphore = self.table[name] = Semaphore(name, max_leases, self.context.copies.generation)
        for fence, holder in zip(fences, holders, strict=True):
            semaphore.leases[fence] = holder
            self.context.sessions[holder].holds[fence] = (self, name)
        self.restore_waiters(semaphore.waiters, name, waiters)
