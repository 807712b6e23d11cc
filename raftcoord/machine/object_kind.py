"""What a kind of object is: a table of objects by name, operations on them, and their life in snapshots.

A new kind is one file with a subclass, and one line in `machine.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic, TypeVar

from raftcoord.machine.context import Context
from raftcoord.machine.outcome import Result
from raftcoord.machine.session import Session
from raftcoord.machine.waiting import Waiter

_Object = TypeVar("_Object")
Handler = Callable[..., Result]  # (session, sequence, *arguments)
Query = Callable[..., "Result | None"]  # (*arguments); None: only the log can answer


class ObjectKind(ABC, Generic[_Object]):
    """All objects of one kind.

    Attributes:
        tag: names the kind in snapshots and counts.
        operations: what goes through the log.
        queries: what may be answered from the state.
    """

    tag: ClassVar[str]

    def __init__(self, context: Context) -> None:
        self.context = context
        self.table: dict[bytes, _Object] = {}
        self.operations: dict[int, Handler] = {}
        self.queries: dict[int, Query] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} objects={len(self.table)}>"

    @abstractmethod
    def remove_waiter(self, waiter: Waiter) -> None:
        """Take a wait out of its object's line, without serving those behind it."""

    @abstractmethod
    def settle(self, name: bytes) -> None:
        """Serve whoever can be served now, and drop the object if nothing is left of it."""

    def release(self, session: Session) -> Iterable[bytes]:
        """Free what an ending session holds; return the names of the objects to settle."""
        return ()

    @abstractmethod
    def encode(self, item: _Object) -> list[Any]:
        """Return one object as plain values, its waiters included."""

    @abstractmethod
    def decode(self, fields: list[Any]) -> None:
        """Put what `encode` gave into the table; sessions are there already."""

    def restore_waiters(self, waiters: Any, name: bytes, encoded: list[Any]) -> None:
        """Register waits anew, in order."""
        for session, sequence, operation, detail in encoded:
            self.context.register(waiters, Waiter(self, name, session, sequence, operation, detail))
