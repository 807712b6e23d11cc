"""Events: a flag, and those who wait until it is set.

Invariants:
  1. Nobody waits for an event that is set.
  2. An event is in the table while it is set or somebody waits for it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from raftcoord.machine.context import Context
from raftcoord.machine.object_kind import TOO_MANY_OBJECTS, ObjectKind
from raftcoord.machine.outcome import DONE, OK, Result
from raftcoord.machine.session import Session
from raftcoord.machine.waiting import Waiter, Waiters, encode_waiters
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation

_UNSET: Result = (int(Code.UNSET), None)


class Event:
    """A named flag."""

    __slots__ = ("is_set", "mark", "name", "waiters")

    def __init__(self, name: bytes, mark: int) -> None:
        self.name = name
        self.mark = mark
        self.is_set = False
        self.waiters: Waiters = OrderedDict()

    def __repr__(self) -> str:
        return f"<Event {self.name!r} set={self.is_set} waiters={len(self.waiters)}>"

    def fields(self) -> list[Any]:
        """Return the event as plain values."""
        return [self.name, self.is_set, encode_waiters(self.waiters)]


class Events(ObjectKind[Event]):
    """All events."""

    tag = "events"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.operations = {
            Operation.EVENT_SET: self._set,
            Operation.EVENT_CLEAR: self._clear,
            Operation.EVENT_WAIT: self._wait,
        }
        self.queries = {
            Operation.EVENT_WAIT: self._query_wait,
            Operation.EVENT_IS_SET: self._is_set,
        }

    def _open(self, name: bytes) -> Event | None:
        """Return the event, ready to be changed; None when there is no room for another one."""
        event = self.table.get(name)
        if event is not None:
            self.context.touch(event)
        elif not self.is_full:
            event = self.table[name] = Event(name, self.context.copies.generation)
        return event

    def _set(self, session: Session, sequence: int, name: bytes) -> Result:
        event = self._open(name)
        if event is None:
            return TOO_MANY_OBJECTS
        was_clear = not event.is_set
        event.is_set = True
        for waiter in list(event.waiters.values()):
            self.context.complete(event.waiters, waiter, *DONE)
        return OK, was_clear

    def _clear(self, session: Session, sequence: int, name: bytes) -> Result:
        event = self.table.get(name)
        if event is None or not event.is_set:
            return OK, False
        self.context.touch(event)
        del self.table[name]
        return OK, True

    def _wait(self, session: Session, sequence: int, name: bytes, wait: bool) -> Result:
        answer = self._query_wait(name, wait)
        if answer is not None:
            return answer
        event = self._open(name)
        if event is None:
            return TOO_MANY_OBJECTS
        waiter = Waiter(self, name, session.id, sequence, int(Operation.EVENT_WAIT), None)
        return self.context.register(event.waiters, waiter)

    def _query_wait(self, name: bytes, wait: bool) -> Result | None:
        event = self.table.get(name)
        if event is not None and event.is_set:
            return DONE
        return None if wait else _UNSET

    def _is_set(self, name: bytes) -> Result:
        event = self.table.get(name)
        return OK, event is not None and event.is_set

    def remove_waiter(self, waiter: Waiter) -> None:
        event = self.table[waiter.name]
        self.context.touch(event)
        del event.waiters[waiter.session, waiter.sequence]

    def settle(self, name: bytes) -> None:
        event = self.table.get(name)
        if event is not None and not event.is_set and not event.waiters:
            del self.table[name]

    def decode(self, fields: list[Any]) -> None:
        name, is_set, waiters = fields
        event = self.table[name] = Event(name, self.context.copies.generation)
        event.is_set = is_set
        self.restore_waiters(event.waiters, name, waiters)
