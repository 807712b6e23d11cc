"""Events: set or not."""

from __future__ import annotations

from collections.abc import Iterable

from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.testing.simulation.model.base import Answer, ObjectKind, Store, Wait


class Events(ObjectKind):
    """All events that are set."""

    prefix = "EVENT"
    tag = "events"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.set: set[bytes] = set()

    def names(self) -> Iterable[bytes]:
        return self.set

    def serve(self, wait: Wait) -> Answer | None:
        return self.read_wait(wait.name, True)

    def do_set(self, session_id: int, sequence: int, name: bytes) -> Answer:
        was_clear = name not in self.set
        self.set.add(name)
        return Code.OK, was_clear

    def do_clear(self, session_id: int, sequence: int, name: bytes) -> Answer:
        was_set = name in self.set
        self.set.discard(name)
        return Code.OK, was_set

    def do_wait(self, session_id: int, sequence: int, name: bytes, wait: bool) -> Answer:
        waiter = Wait(session_id, sequence, Operation.EVENT_WAIT, name, None)
        return self.store.or_wait(self.read_wait(name, True), waiter, wait, Code.UNSET)

    def read_wait(self, name: bytes, wait: bool) -> Answer | None:
        if name in self.set:
            return Code.OK, None
        return None if wait else (Code.UNSET, None)

    def read_is_set(self, name: bytes) -> Answer:
        return Code.OK, name in self.set
