"""Read-write locks: readers together or one writer, strictly in the order of the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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


@dataclass(eq=False)
class Use(Hold):
    """A reader or the writer."""

    name: bytes
    shared: bool


class RWLocks(ObjectKind):
    """All read-write locks, as who holds them."""

    prefix = "RWLOCK"
    tag = "rwlocks"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.uses: list[Use] = []

    def names(self) -> Iterable[bytes]:
        return [use.name for use in self.uses]

    def _of(self, name: bytes) -> list[Use]:
        return [use for use in self.uses if use.name == name]

    def _grant(self, session_id: int, name: bytes, shared: bool) -> Answer | None:
        if any(not shared or not use.shared for use in self._of(name)):
            return None
        self.uses.append(Use(session_id, Number(), name, shared))
        return Code.OK, self.uses[-1].fence

    def serve(self, wait: Wait) -> Answer | None:
        if wait is not self.line(wait.name)[0]:
            return None
        return self._grant(wait.session, wait.name, wait.detail)

    def end(self, ended: list[int]) -> None:
        self.uses = [use for use in self.uses if use.session not in ended]

    def do_acquire(self, session_id: int, sequence: int, name: bytes, shared: bool, wait: bool) -> Answer:
        answer = None if self.line(name) else self._grant(session_id, name, shared)
        waiter = Wait(session_id, sequence, Operation.RWLOCK_ACQUIRE, name, shared)
        return self.store.or_wait(answer, waiter, wait, Code.HELD)

    def do_release(self, session_id: int, sequence: int, name: bytes, fence: int) -> Answer:
        for use in self._of(name):
            if (use.session, use.fence.value) == (session_id, fence):
                self.uses.remove(use)
                return Code.OK, None
        return NOT_HOLDER

    def read_status(self, name: bytes) -> Answer:
        uses = self._of(name)
        if not uses:
            return Code.OK, None
        readers = [use.fence for use in uses if use.shared]
        writer = None if readers else uses[0].fence
        return Code.OK, [writer, readers, len(self.line(name))]
