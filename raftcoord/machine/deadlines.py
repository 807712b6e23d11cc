"""When objects change by time alone: what is due, in the order (deadline, number).

Invariants:
  1. Nothing of this is state: it follows from the objects, which set their deadlines anew when restored.
  2. An object has one deadline at most. The heap may hold older ones too, which are skipped, but never more
     than `_STALE_MAX` of them or as many as there are deadlines.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from raftcoord.machine.object_kind import ObjectKind

_STALE_MAX: Final = 1000

_Place: TypeAlias = "tuple[str, bytes]"  # tag of the kind, name


class Deadlines:
    """The deadlines of all objects that have one."""

    __slots__ = ("_current", "_heap", "_kinds")

    def __init__(self) -> None:
        self._current: dict[_Place, tuple[int, int]] = {}
        self._heap: list[tuple[int, int, _Place]] = []
        self._kinds: dict[str, ObjectKind[Any]] = {}

    def __repr__(self) -> str:
        return f"<Deadlines objects={len(self._current)} next={self.next_ms()}>"

    def __bool__(self) -> bool:
        return bool(self._heap)

    def set(self, kind: ObjectKind[Any], name: bytes, deadline_ms: int, number: int) -> None:
        """The object changes at this time, unless it is told otherwise; `number` orders equal times."""
        self._kinds[kind.tag] = kind
        place = kind.tag, name
        if self._current.get(place) == (deadline_ms, number):
            return
        self._current[place] = deadline_ms, number
        heapq.heappush(self._heap, (deadline_ms, number, place))
        if len(self._heap) > 2 * len(self._current) + _STALE_MAX:
            self._heap = [(*due, place) for place, due in self._current.items()]
            heapq.heapify(self._heap)

    def clear(self, kind: ObjectKind[Any], name: bytes) -> None:
        """The object does not change by time any more."""
        self._current.pop((kind.tag, name), None)

    def next_ms(self) -> int | None:
        """Return when the next object changes."""
        heap = self._heap
        while heap:
            deadline_ms, number, place = heap[0]
            if self._current.get(place) == (deadline_ms, number):
                return deadline_ms
            heapq.heappop(heap)
        return None

    def take_due(self, now_ms: int) -> tuple[ObjectKind[Any], bytes] | None:
        """Return the object that is due first, and forget its deadline; None when nothing is due."""
        deadline_ms = self.next_ms()
        if deadline_ms is None or deadline_ms > now_ms:
            return None
        tag, name = place = heapq.heappop(self._heap)[2]
        del self._current[place]
        return self._kinds[tag], name
