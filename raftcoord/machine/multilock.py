"""MultiLocks: several names at once or none, and one line of requests for each name.

A request stands in the line of every name that it asks for, and leaves them all when it is granted. A name
is offered to the first in its line; as soon as a request is offered as many names as it wants, it has them.

Invariants:
  1. A request is in the lines of its names in the order of the log, so of two requests that share a name the
     older one is served first as far as that name goes: nobody overtakes, starves or deadlocks.
  2. A name that is free and has a line is offered to the first in it. It cannot go to anyone else, so an
     offer stands until the request is granted or gone.
  3. Nobody waits who was offered enough.
  4. A name is in the table while it is held or somebody waits for it.
  5. Grants and requests never change; they are what a snapshot contains. All else follows from them.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from raftcoord.machine.context import TOO_MANY_HOLDS, Context
from raftcoord.machine.object_kind import TOO_MANY_OBJECTS, ObjectKind
from raftcoord.machine.outcome import DONE, HELD, NOT_HOLDER, OK, WAITING, Result
from raftcoord.machine.session import Session
from raftcoord.machine.snapshot import Stored
from raftcoord.machine.waiting import Waiter, Waiters
from raftcoord.protocol.operations import Operation

_GRANT, _REQUEST = 0, 1  # the first field of what is stored
_NO_NAME = b""  # of a wait: it is for several


class Grant:
    """Names that a session holds under one fence."""

    __slots__ = ("fence", "mark", "names", "session")

    def __init__(self, fence: int, session: int, names: list[bytes], mark: int) -> None:
        self.fence, self.session, self.names, self.mark = fence, session, names, mark

    def __repr__(self) -> str:
        return f"<Grant {self.fence} session={self.session} names={len(self.names)}>"

    def fields(self) -> list[Any]:
        """Return the grant as plain values."""
        return [_GRANT, self.fence, self.session, self.names]


class Request:
    """A wait for `count` of these names; `order` is its place among all requests."""

    __slots__ = ("count", "mark", "names", "offered", "order", "waiter")

    def __init__(self, names: list[bytes], count: int, mark: int) -> None:
        self.names, self.count, self.mark = names, count, mark
        self.order = 0
        self.offered = 0  # how many of its names are free, with nobody before it
        self.waiter: Waiter | None = None

    def __repr__(self) -> str:
        return f"<Request {self.order} count={self.count} of={len(self.names)} offered={self.offered}>"

    def fields(self) -> list[Any]:
        """Return the request as plain values."""
        assert self.waiter is not None
        return [_REQUEST, self.waiter.session, self.waiter.sequence, self.count, self.names]


class Name:
    """One name: who holds it, and its line."""

    __slots__ = ("grant", "line")

    def __init__(self) -> None:
        self.grant: Grant | None = None
        self.line: OrderedDict[int, Request] = OrderedDict()  # by order

    def __repr__(self) -> str:
        return f"<Name grant={self.grant!r} line={len(self.line)}>"

    def offered_to(self) -> Request | None:
        """Return the request to which the name is offered."""
        return None if self.grant is not None or not self.line else next(iter(self.line.values()))


class MultiLocks(ObjectKind[Any]):
    """All names of MultiLocks, grants and requests."""

    tag = "multilocks"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.operations = {
            Operation.MULTILOCK_ACQUIRE: self._acquire,
            Operation.MULTILOCK_RELEASE: self._release,
        }
        self.queries = {Operation.MULTILOCK_STATUS: self._status}
        self.table: dict[bytes, Name] = {}
        self._grants: dict[int, Grant] = {}  # by fence
        self._requests: Waiters = OrderedDict()  # all of the store, in the order of the log; detail: Request
        self._last_order = 0
        self._ready: list[int] = []  # a heap: the orders of those who were offered enough
        self._ready_requests: dict[int, Request] = {}

    # Operations.

    def _acquire(self, session: Session, sequence: int, names: list[bytes], count: int, wait: bool) -> Result:
        if not self.context.may_hold(session):
            return TOO_MANY_HOLDS
        table = self.table
        free = [name for name in names if name not in table]
        if len(free) >= count:
            if not self.has_room_for(count):
                return TOO_MANY_OBJECTS
            return OK, self._grant(session, free[:count])
        if not wait:
            return HELD
        if not self.has_room_for(len(free)):
            return TOO_MANY_OBJECTS
        request = Request(names, count, self.context.copies.generation)
        return self._register(request, session.id, sequence)

    def _register(self, request: Request, session_id: int, sequence: int) -> Result:
        operation = int(Operation.MULTILOCK_ACQUIRE)
        request.waiter = Waiter(self, _NO_NAME, session_id, sequence, operation, request)
        result = self.context.register(self._requests, request.waiter)
        if result == WAITING:
            self._last_order += 1
            request.order = self._last_order
            for each in request.names:
                name = self.table.get(each)
                if name is None:
                    name = self.table[each] = Name()
                name.line[request.order] = request
                if name.offered_to() is request:
                    request.offered += 1
        return result

    def _grant(self, session: Session, names: list[bytes]) -> list[Any]:
        fence = self.context.hold(session, self, _NO_NAME)
        self._put_grant(Grant(fence, session.id, names, self.context.copies.generation))
        return [fence, names]

    def _put_grant(self, grant: Grant) -> None:
        self._grants[grant.fence] = grant
        for each in grant.names:
            name = self.table.get(each)
            if name is None:
                name = self.table[each] = Name()
            name.grant = grant

    def _release(self, session: Session, sequence: int, fence: int) -> Result:
        if session.holds.get(fence) != (self, _NO_NAME):
            return NOT_HOLDER
        del session.holds[fence]
        self._free(fence)
        self.settle(_NO_NAME)
        return DONE

    def _free(self, fence: int) -> None:
        grant = self._grants[fence]
        self.context.touch(grant)
        del self._grants[fence]
        for each in grant.names:
            name = self.table[each]
            name.grant = None
            self._offer(each, name)

    def _status(self, name: bytes) -> Result:
        known = self.table.get(name)
        grant = None if known is None else known.grant
        return OK, None if grant is None else [grant.session, grant.fence]

    # Serving.

    def _offer(self, each: bytes, name: Name) -> None:
        """The name is free and its line has another head: offer it, or forget it when nobody is in line."""
        request = name.offered_to()
        if request is None:
            del self.table[each]
            return
        request.offered += 1
        if request.offered == request.count:
            heapq.heappush(self._ready, request.order)
            self._ready_requests[request.order] = request

    def settle(self, name: bytes) -> None:
        while self._ready:
            request = self._ready_requests.pop(heapq.heappop(self._ready))
            waiter = request.waiter
            assert waiter is not None
            if (waiter.session, waiter.sequence) not in self._requests:
                continue  # it was offered enough, and then ended together with others
            offered = [each for each in request.names if self.table[each].offered_to() is request]
            session = self.context.sessions[waiter.session]
            self.context.touch(request)
            payload = self._grant(session, offered[: request.count])
            self._leave(request)
            self.context.complete(self._requests, waiter, OK, payload)

    def _leave(self, request: Request) -> None:
        """Take it out of every line, and offer what was offered to it to the next ones."""
        for each in request.names:
            name = self.table[each]
            had_the_offer = name.offered_to() is request
            del name.line[request.order]
            if had_the_offer:
                self._offer(each, name)

    def remove_waiter(self, waiter: Waiter) -> None:
        request = waiter.detail
        self.context.touch(request)
        del self._requests[waiter.session, waiter.sequence]
        self._leave(request)

    def release(self, sessions: Sequence[Session], holds: Sequence[tuple[int, bytes]]) -> Iterable[bytes]:
        for fence, _ in holds:
            self._free(fence)
        return [_NO_NAME] if holds else []

    # Snapshots.

    def stored(self) -> list[Stored]:
        return [*self._grants.values(), *(waiter.detail for waiter in self._requests.values())]

    def decode(self, fields: list[Any]) -> None:
        mark = self.context.copies.generation
        if fields[0] == _GRANT:
            _, fence, session_id, names = fields
            self.context.sessions[session_id].holds[fence] = (self, _NO_NAME)
            self._put_grant(Grant(fence, session_id, names, mark))
        else:
            _, session_id, sequence, count, names = fields
            self._register(Request(names, count, mark), session_id, sequence)
