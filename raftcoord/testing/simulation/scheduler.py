"""Virtual time: one queue of events for the whole simulated world, and the hash of all that happened.

Nothing of replicas or networks is known here.

Invariants:
  1. Events run in the order of their times; equal times in the order in which they were planned.
  2. Only numbers enter the hash, so that it is the same in every process that runs the same seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any, Final

from raftcoord.testing.simulation.violation import Violation

STEPS_MAX: Final = 3_000_000  # a run that takes more goes round in circles


class Event:
    """Something planned; `cancel` makes it nothing."""

    __slots__ = ("_arguments", "_callback")

    def __init__(self, callback: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._callback: Callable[..., None] | None = callback
        self._arguments = arguments

    def __repr__(self) -> str:
        return f"<Event {self._callback!r}>"

    def cancel(self) -> None:
        """Let it not happen."""
        self._callback = None

    def happen(self) -> None:
        """Call what was planned, unless it was cancelled."""
        if self._callback is not None:
            self._callback(*self._arguments)


class Scheduler:
    """The time of the world, in seconds from 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.hash = 0
        self.failure: Violation | None = None
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def __repr__(self) -> str:
        return f"<Scheduler now={self.now:.6f} steps={self.steps} planned={len(self._heap)}>"

    def at(self, time_s: float, callback: Callable[..., None], *arguments: Any) -> Event:
        """Plan a call at a time, which may be cancelled; a time in the past is now."""
        event = Event(callback, arguments)
        self.plan(time_s, event.happen)
        return event

    def plan(self, time_s: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Plan a call at a time for good: `at` with less work."""
        self._planned += 1
        now = self.now
        heapq.heappush(self._heap, (time_s if time_s > now else now, self._planned, callback, arguments))

    def after(self, delay_s: float, callback: Callable[..., None], *arguments: Any) -> Event:
        """Plan a call for so many seconds from now."""
        return self.at(self.now + delay_s, callback, *arguments)

    def mix(self, *numbers: float) -> None:
        """Let numbers tell this run from others."""
        self.hash = hash((self.hash, self.now, *numbers))

    def fail(self, violation: Violation) -> None:
        """End the run: something that must hold does not. The first failure counts."""
        if self.failure is None:
            self.failure = violation

    def check(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a check; what it raises ends the run, and not the code in whose middle it is called."""
        try:
            function(*arguments)
        except Violation as violation:
            self.fail(violation)

    def forget(self) -> None:
        """Let go of what was planned, and of what failed: clocks, and so this, may outlive the world."""
        self._heap.clear()
        self.failure = None

    def run(self, until_s: float, is_done: Callable[[], bool] | None = None) -> None:
        """Let events happen up to a time, or until `is_done` holds, checked after every event.

        Raises:
            Violation: something failed.
        """
        heap = self._heap
        while heap and heap[0][0] <= until_s:
            self.now, _, callback, arguments = heapq.heappop(heap)
            self.steps += 1
            callback(*arguments)
            if self.failure is not None:
                raise self.failure
            if self.steps > STEPS_MAX:
                raise Violation("progress", f"more than {STEPS_MAX} steps in {self.now:.1f} s")
            if is_done is not None and is_done():
                return
        self.now = max(self.now, until_s)


def stream(seed: int, *names: object) -> random.Random:
    """Return randomness that depends on nothing but the seed and the names."""
    return random.Random(f"{seed}/{'/'.join(map(str, names))}")
