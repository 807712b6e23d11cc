"""One timer for many deadlines that mostly move away before they are due.

Renewing a deadline costs nothing here: the owner just changes its item, and the heap finds out when the
old time comes. That keeps work per request at one assignment, with tens of thousands of sessions.

Invariants:
  1. An item is reported at or after its deadline, never before, and at most once per `add`.
  2. Deadlines only move later while an item is in the heap.
  3. After a stall of the whole process nothing is reported before the loop had a chance to read what
     arrived meanwhile: a stopped and resumed process must not take its own silence for that of others.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from raftcoord.runtime import Clock

# A timer that fires later than this shows that the process did not run, e.g. was stopped and resumed.
STALL_S: Final = 0.1
STALL_GRACE_S: Final = 0.1
# Items that were dropped by their owner are forgotten no later than this.
REVISIT_S: Final = 30.0

T = TypeVar("T")


class Deadlines(Generic[T]):
    """A lazy heap of items with a deadline each.

    Args:
        deadline_of: the item's deadline in seconds of `clock`, or None when it is to be forgotten.
        on_due: takes the items whose deadline has passed; they are no longer in the heap.
    """

    __slots__ = ("_clock", "_count", "_deadline_of", "_due_at", "_graced", "_heap", "_on_due", "_timer")

    def __init__(
        self,
        clock: Clock,
        deadline_of: Callable[[T], float | None],
        on_due: Callable[[list[T]], None],
    ) -> None:
        self._clock = clock
        self._deadline_of = deadline_of
        self._on_due = on_due
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._graced = False

    def __repr__(self) -> str:
        return f"<Deadlines items={len(self._heap)} timer={'on' if self._timer else 'off'}>"

    def add(self, item: T) -> None:
        """Watch an item until it is due or forgotten."""
        deadline = self._deadline_of(item)
        if deadline is None:
            return
        self._push(deadline, item)
        self._schedule()

    def clear(self) -> None:
        """Forget all items."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _push(self, deadline: float, item: T) -> None:
        self._count += 1  # breaks ties, so that items themselves are never compared
        revisit = min(deadline, self._clock.now() + REVISIT_S)
        heapq.heappush(self._heap, (revisit, self._count, item))

    def _schedule(self) -> None:
        if not self._heap:
            return
        due_at = self._heap[0][0]
        if self._timer is not None:
            if self._due_at <= due_at:
                return
            self._timer.cancel()
        self._arm(due_at)

    def _arm(self, due_at: float) -> None:
        self._due_at = due_at
        delay_s = max(0.0, due_at - self._clock.now())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._clock.now()
        if now - self._due_at > STALL_S and not self._graced:
            self._graced = True  # once only: a loop that is always late must still make progress
            self._arm(now + STALL_GRACE_S)
            return
        self._graced = False
        due = []
        while self._heap and self._heap[0][0] <= now:
            item = heapq.heappop(self._heap)[2]
            deadline = self._deadline_of(item)
            if deadline is None:
                continue
            if deadline > now:
                self._push(deadline, item)
            else:
                due.append(item)
        self._schedule()
        if due:
            self._on_due(due)
