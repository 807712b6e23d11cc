"""Waiters: the registered waits of one object, in the order in which the log saw them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from raftcoord.machine.object_kind import ObjectKind

WAITERS_PER_OBJECT_MAX: Final = 100_000


class Waiter:
    """One registered wait: who, for which object, and what the object must know of it."""

    __slots__ = ("detail", "kind", "name", "operation", "sequence", "session")

    def __init__(
        self, kind: ObjectKind[Any], name: bytes, session: int, sequence: int, operation: int, detail: Any
    ) -> None:
        self.kind, self.name = kind, name
        self.session, self.sequence = session, sequence
        self.operation, self.detail = operation, detail

    def __repr__(self) -> str:
        return f"<Waiter session={self.session} sequence={self.sequence} operation={self.operation}>"


# An OrderedDict, not a dict: taking the first of a dict again and again walks over all that were taken.
Waiters: TypeAlias = "OrderedDict[tuple[int, int], Waiter]"


def encode_waiters(waiters: Waiters) -> list[Any]:
    """Return waiters as plain values, in order."""
    return [[w.session, w.sequence, w.operation, w.detail] for w in waiters.values()]
