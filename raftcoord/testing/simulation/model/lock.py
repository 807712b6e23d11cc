"""Locks: one holder at a time."""

from __future__ import annotations

from collections.abc import Iterable

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.testing.simulation.model.base import (
    NOT_HOLDER,
    Answer,
    Hold,
    Number,
    ObjectKind,
    Store,
    Wait,
)


class Locks(ObjectKind):
    """All locks that are held."""

    prefix = "LOCK"
    tag = "locks"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.table: dict[bytes, Hold] = {}

    def names(self) -> Iterable[bytes]:
        return self.table

    def _grant(self, session_id: int, name: bytes) -> Answer | None:
        if name in self.table:
            return None
        self.table[name] = Hold(session_id, Number())
        return Code.OK, self.table[name].fence

    def serve(self, wait: Wait) -> Answer | None:
        return self._grant(wait.session, wait.name)

    def held_by(self, session_id: int) -> Iterable[bytes]:
        return [name for name, hold in self.table.items() if hold.session == session_id]

    def end(self, ended: list[int]) -> None:
        self.table = {name: hold for name, hold in self.table.items() if hold.session not in ended}

    def do_acquire(self, session_id: int, sequence: int, name: bytes, wait: bool) -> Answer:
        waiter = Wait(session_id, sequence, Operation.LOCK_ACQUIRE, name, None)
        return self.store.or_wait(self._grant(session_id, name), waiter, wait, Code.HELD)

    def do_release(self, session_id: int, sequence: int, name: bytes, fence: int) -> Answer:
        hold = self.table.get(name)
        if hold is None or (hold.session, hold.fence.value) != (session_id, fence):
            return NOT_HOLDER
        del self.table[name]
        return Code.OK, None

    def read_status(self, name: bytes) -> Answer:
        hold = self.table.get(name)
        return Code.OK, None if hold is None else [hold.session, hold.fence, len(self.line(name))]

    def read_waiters(self, name: bytes) -> Answer:
        return Code.OK, [wait.session for wait in self.line(name)]
