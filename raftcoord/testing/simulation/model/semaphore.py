"""Semaphores: a number of leases that the first acquire decides, until it is closed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

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


@dataclass
class Semaphore:
    """One semaphore."""

    max_leases: int
    leases: list[Hold] = field(default_factory=list)


class Semaphores(ObjectKind):
    """All semaphores."""

    prefix = "SEMAPHORE"
    tag = "semaphores"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.table: dict[bytes, Semaphore] = {}

    def names(self) -> Iterable[bytes]:
        return self.table

    def _grant(self, session_id: int, semaphore: Semaphore) -> Answer | None:
        if len(semaphore.leases) == semaphore.max_leases:
            return None
        semaphore.leases.append(Hold(session_id, Number()))
        return Code.OK, semaphore.leases[-1].fence

    def serve(self, wait: Wait) -> Answer | None:
        return self._grant(wait.session, self.table[wait.name])

    def end(self, ended: list[int]) -> None:
        for semaphore in self.table.values():
            semaphore.leases = [lease for lease in semaphore.leases if lease.session not in ended]

    def do_acquire(self, session_id: int, sequence: int, name: bytes, max_leases: int, wait: bool) -> Answer:
        semaphore = self.table.setdefault(name, Semaphore(max_leases))
        if semaphore.max_leases != max_leases:
            return Code.CONFLICT, [semaphore.max_leases]
        answer = None if self.line(name) else self._grant(session_id, semaphore)
        waiter = Wait(session_id, sequence, Operation.SEMAPHORE_ACQUIRE, name, None)
        return self.store.or_wait(answer, waiter, wait, Code.HELD)

    def do_release(self, session_id: int, sequence: int, name: bytes, fence: int) -> Answer:
        for semaphore in [self.table[name]] if name in self.table else []:
            for lease in semaphore.leases:
                if (lease.session, lease.fence.value) == (session_id, fence):
                    semaphore.leases.remove(lease)
                    return Code.OK, None
        return NOT_HOLDER

    def do_close(self, session_id: int, sequence: int, name: bytes) -> Answer:
        existed = self.table.pop(name, None) is not None
        for wait in self.line(name):
            self.store.finish(wait, (Code.CLOSED, None))
        return Code.OK, existed

    def read_status(self, name: bytes) -> Answer:
        semaphore = self.table.get(name)
        if semaphore is None:
            return Code.OK, None
        return Code.OK, [semaphore.max_leases, len(semaphore.leases), len(self.line(name))]
