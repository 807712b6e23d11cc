"""Read-write locks: one writer or many readers, in the strict order of the line.

Invariants:
  1. There is a writer, or there are readers (at most `LEASES_MAX`), never both.
  2. Nobody overtakes: who comes while somebody waits, waits behind. Readers that are neighbours in the line
     hold the lock together.
  3. A lock that nobody holds has no waiters, and is not in the table.
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
from raftcoord.protocol.operations import LEASES_MAX, Operation


class RWLock:
    """A read-write lock that is held. `writer` is a fence, 0 when there is none."""

    __slots__ = ("mark", "name", "readers", "waiters", "writer", "writer_session")

    def __init__(self, name: bytes, mark: int) -> None:
        self.name = name
        self.mark = mark
        self.writer = 0
        self.writer_session = 0
        self.readers: dict[int, int] = {}  # fence -> session, in the order of the grants
        self.waiters: Waiters = OrderedDict()  # detail: shared

    def __repr__(self) -> str:
        return (
            f"<RWLock {self.name!r} writer={self.writer} readers={len(self.readers)} "
            f"waiters={len(self.waiters)}>"
        )

    def fields(self) -> list[Any]:
        """Return the lock as plain values."""
        return [
            self.name,
            self.writer,
            self.writer_session,
            list(self.readers),
            list(self.readers.values()),
            encode_waiters(self.waiters),
        ]

    def is_free_for(self, shared: bool) -> bool:
        """Whether it can be granted to the first in line."""
        if self.writer:
            return False
        return len(self.readers) < LEASES_MAX if shared else not self.readers


class RWLocks(ObjectKind[RWLock]):
    """All read-write locks."""

    tag = "rwlocks"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.operations = {
            Operation.RWLOCK_ACQUIRE: self._acquire,
            Operation.RWLOCK_RELEASE: self._release,
        }
        self.queries = {Operation.RWLOCK_STATUS: self._status}

    def _acquire(self, session: Session, sequence: int, name: bytes, shared: bool, wait: bool) -> Result:
        if not self.context.may_hold(session):
            return TOO_MANY_HOLDS
        lock = self.table.get(name)
        if lock is None:
            if self.is_full:
                return TOO_MANY_OBJECTS
            lock = self.table[name] = RWLock(name, self.context.copies.generation)
        elif lock.waiters or not lock.is_free_for(shared):
            if not wait:
                return HELD
            self.context.touch(lock)
            waiter = Waiter(self, name, session.id, sequence, int(Operation.RWLOCK_ACQUIRE), shared)
            return self.context.register(lock.waiters, waiter)
        self.context.touch(lock)
        return OK, self._grant(lock, session, shared)

    def _grant(self, lock: RWLock, session: Session, shared: bool) -> int:
        fence = self.context.hold(session, self, lock.name)
        if shared:
            lock.readers[fence] = session.id
        else:
            lock.writer, lock.writer_session = fence, session.id
        return fence

    def _release(self, session: Session, sequence: int, name: bytes, fence: int) -> Result:
        if session.holds.get(fence) != (self, name):
            return NOT_HOLDER
        del session.holds[fence]
        self._free(name, fence)
        self.settle(name)
        return DONE

    def _free(self, name: bytes, fence: int) -> None:
        lock = self.table[name]
        self.context.touch(lock)
        if lock.writer == fence:
            lock.writer = lock.writer_session = 0
        else:
            del lock.readers[fence]

    def _status(self, name: bytes) -> Result:
        lock = self.table.get(name)
        if lock is None:
            return OK, None
        return OK, [lock.writer or None, list(lock.readers), len(lock.waiters)]

    def settle(self, name: bytes) -> None:
        lock = self.table.get(name)
        if lock is None:
            return
        while lock.waiters:
            waiter = next(iter(lock.waiters.values()))
            if not lock.is_free_for(waiter.detail):
                break
            fence = self._grant(lock, self.context.sessions[waiter.session], waiter.detail)
            self.context.complete(lock.waiters, waiter, OK, fence)
        if not lock.writer and not lock.readers:
            del self.table[name]

    def remove_waiter(self, waiter: Waiter) -> None:
        lock = self.table[waiter.name]
        self.context.touch(lock)
        del lock.waiters[waiter.session, waiter.sequence]

    def release(self, sessions: Sequence[Session], holds: Sequence[tuple[int, bytes]]) -> Iterable[bytes]:
        for fence, name in holds:
            self._free(name, fence)
        return [name for _, name in holds]

    def decode(self, fields: list[Any]) -> None:
        name, writer, writer_session, fences, holders, waiters = fields
        lock = self.table[name] = RWLock(name, self.context.copies.generation)
        lock.writer, lock.writer_session = writer, writer_session
        if writer:
            self.context.sessions[writer_session].holds[writer] = (self, name)
        for fence, holder in zip(fences, holders, strict=True):
            lock.readers[fence] = holder
            self.context.sessions[holder].holds[fence] = (self, name)
        self.restore_waiters(lock.waiters, name, waiters)
