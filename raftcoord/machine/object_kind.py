"""What a kind of object is: a table of objects by name, operations on them, and their life in snapshots.

A new kind is one file with a subclass, and one line in `machine.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, Generic, TypeVar

from raftcoord.machine.context import Context
from raftcoord.machine.outcome import Result
from raftcoord.machine.session import Session
from raftcoord.machine.snapshot import Stored
from raftcoord.machine.waiting import Waiter
from raftcoord.protocol.errors import Code

OBJECTS_PER_KIND_MAX: Final = 10_000_000
TOO_MANY_OBJECTS: Final[Result] = (int(Code.LIMIT), "too many objects of this kind")

_Object = TypeVar("_Object", bound=Stored)
Handler = Callable[..., Result]  # (session, sequence, *arguments)
Query = Callable[..., "Result | None"]  # (*arguments); None: only the log can answer


class ObjectKind(ABC, Generic[_Object]):
    """All objects of one kind.

    Attributes:
        tag: names the kind in snapshots and counts.
        operations: what goes through the log.
        queries: what may be answered from the state.
        fields_since_1: the last fields of an object as they are in a snapshot of version 1, which lacks them.
    """

    tag: ClassVar[str]
    fields_since_1: ClassVar[tuple[Any, ...]] = ()

    def __init__(self, context: Context) -> None:
        self.context = context
        self.table: dict[bytes, _Object] = {}
        self.operations: dict[int, Handler] = {}
        self.queries: dict[int, Query] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} objects={len(self.table)}>"

    @property
    def is_full(self) -> bool:
        """Whether no further object can be made."""
        return not self.has_room_for(1)

    def has_room_for(self, count: int) -> bool:
        """Whether so many further objects can be made."""
        return len(self.table) + count <= OBJECTS_PER_KIND_MAX

    @abstractmethod
    def remove_waiter(self, waiter: Waiter) -> None:
        """Take a wait out of its object's line, without serving those behind it."""

    @abstractmethod
    def settle(self, name: bytes) -> None:
        """Serve whoever can be served now, and drop the object if nothing is left of it."""

    def release(self, sessions: Sequence[Session], holds: Sequence[tuple[int, bytes]]) -> Iterable[bytes]:
        """Free what sessions that end together hold; return the names of the objects to settle.

        Args:
            holds: fence and name of each, in the order of the fences.
        """
        return ()

    def expire(self, name: bytes) -> None:
        """The deadline of this object has come: change it, and serve."""
        raise AssertionError(f"{self.tag} have no deadlines")

    def stored(self) -> list[Stored]:
        """Return what a snapshot contains of this kind, in an order that the log decides."""
        return list(self.table.values())

    @abstractmethod
    def decode(self, fields: list[Any]) -> None:
        """Put an object with these fields into the table; sessions are there already."""

    def restore_waiters(self, waiters: Any, name: bytes, encoded: list[Any]) -> None:
        """Register waits anew, in order."""
        for session, sequence, operation, detail in encoded:
            self.context.register(waiters, Waiter(self, name, session, sequence, operation, detail))
