"""MultiLocks: several names at once or none, in the order of the log wherever requests share a name."""

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


@dataclass(eq=False)
class Grant(Hold):
    """Names that a session holds together."""

    names: list[bytes] = field(default_factory=list)


class MultiLocks(ObjectKind):
    """All names of MultiLocks."""

    prefix = "MULTILOCK"
    tag = "multilocks"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.grants: list[Grant] = []

    def names(self) -> Iterable[bytes]:
        for grant in self.grants:
            yield from grant.names

    def _requests(self) -> list[Wait]:
        return [wait for wait in self.store.waits if wait.kind == "MULTILOCK"]

    def _grant(self, session_id: int, names: list[bytes], count: int, ahead: list[Wait]) -> Answer | None:
        taken = [*self.names(), *(name for wait in ahead for name in wait.detail[0])]
        free = [name for name in names if name not in taken]
        if len(free) < count:
            return None
        self.grants.append(Grant(session_id, Number(), free[:count]))
        return Code.OK, [self.grants[-1].fence, free[:count]]

    def serve(self, wait: Wait) -> Answer | None:
        requests = self._requests()
        names, count = wait.detail
        return self._grant(wait.session, names, count, requests[: requests.index(wait)])

    def end(self, ended: list[int]) -> None:
        self.grants = [grant for grant in self.grants if grant.session not in ended]

    def do_acquire(
        self, session_id: int, sequence: int, names: list[bytes], count: int, wait: bool
    ) -> Answer:
        answer = self._grant(session_id, names, count, self._requests())
        waiter = Wait(session_id, sequence, Operation.MULTILOCK_ACQUIRE, b"", (names, count))
        return self.store.or_wait(answer, waiter, wait, Code.HELD)

    def do_release(self, session_id: int, sequence: int, fence: int) -> Answer:
        for grant in self.grants:
            if (grant.session, grant.fence.value) == (session_id, fence):
                self.grants.remove(grant)
                return Code.OK, None
        return NOT_HOLDER

    def read_status(self, name: bytes) -> Answer:
        for grant in self.grants:
            if name in grant.names:
                return Code.OK, [grant.session, grant.fence]
        return Code.OK, None

    def count(self) -> int:
        return len({*self.names(), *(name for wait in self._requests() for name in wait.detail[0])})
