"""Locks: one holder at a time, named by (session, fence), and a line of those who wait.

Invariants:
  1. A lock without a holder has no waiters, and is not in the table.
  2. Every grant has a fence larger than every earlier one in the whole store.
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
from raftcoord.protocol.operations import Operation


class Lock:
    """A lock that is held; `holder` is a session id, 0 only while it passes on."""

    __slots__ = ("fence", "holder", "mark", "name", "waiters")

    def __init__(self, name: bytes, mark: int) -> None:
        self.name = name
        self.mark = mark
        self.holder = 0
        self.fence = 0
        self.waiters: Waiters = OrderedDict()

    def __repr__(self) -> str:
        return f"<Lock {self.name!r} holder={self.holder} fence={self.fence} waiters={len(self.waiters)}>"

    def fields(self) -> list[Any]:
        """Return the lock as plain values."""
        return [self.name, self.holder, self.fence, encode_waiters(self.waiters)]


class Locks(ObjectKind[Lock]):
    """All locks."""

    tag = "locks"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.operations = {
            Operation.LOCK_ACQUIRE: self._acquire,
            Operation.LOCK_RELEASE: self._release,
        }
        self.queries = {Operation.LOCK_STATUS: self._status, Operation.LOCK_WAITERS: self._waiters}

    def _acquire(self, session: Session, sequence: int, name: bytes, wait: bool) -> Result:
        lock = self.table.get(name)
        if not self.context.may_hold(session):
            return TOO_MANY_HOLDS
        if lock is None:
            if self.is_full:
                return TOO_MANY_OBJECTS
            lock = self.table[name] = Lock(name, self.context.copies.generation)
            return OK, self._grant(lock, session)
        if not wait:
            return HELD
        self.context.touch(lock)
        waiter = Waiter(self, name, session.id, sequence, int(Operation.LOCK_ACQUIRE), None)
        return self.context.register(lock.waiters, waiter)

    def _grant(self, lock: Lock, session: Session) -> int:
        lock.holder = session.id
        lock.fence = self.context.hold(session, self, lock.name)
        return lock.fence

    def _release(self, session: Session, sequence: int, name: bytes, fence: int) -> Result:
        lock = self.table.get(name)
        if lock is None or lock.holder != session.id or lock.fence != fence:
            return NOT_HOLDER
        self.context.touch(lock)
        del session.holds[fence]
        lock.holder = 0
        self.settle(name)
        return DONE

    def _status(self, name: bytes) -> Result:
        lock = self.table.get(name)
        return OK, None if lock is None else [lock.holder, lock.fence, len(lock.waiters)]

    def _waiters(self, name: bytes) -> Result:
        lock = self.table.get(name)
        return OK, [] if lock is None else [waiter.session for waiter in lock.waiters.values()]

    def settle(self, name: bytes) -> None:
        lock = self.table.get(name)
        if lock is None or lock.holder:
            return
        if not lock.waiters:
            del self.table[name]
            return
        waiter = next(iter(lock.waiters.values()))
        session = self.context.sessions[waiter.session]
        self.context.touch(session)
        fence = self._grant(lock, session)
        self.context.complete(lock.waiters, waiter, OK, fence)

    def remove_waiter(self, waiter: Waiter) -> None:
        lock = self.table[waiter.name]
        self.context.touch(lock)
        del lock.waiters[waiter.session, waiter.sequence]

    def release(self, sessions: Sequence[Session], holds: Sequence[tuple[int, bytes]]) -> Iterable[bytes]:
        for _, name in holds:
            lock = self.table[name]
            self.context.touch(lock)
            lock.holder = 0
        return [name for _, name in holds]

    def decode(self, fields: list[Any]) -> None:
        name, holder, fence, waiters = fields
        lock = self.table[name] = Lock(name, self.context.copies.generation)
        lock.holder, lock.fence = holder, fence
        self.context.sessions[holder].holds[fence] = (self, name)
        self.restore_waiters(lock.waiters, name, waiters)
