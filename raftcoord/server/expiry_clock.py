"""Lets time pass in the machine when something is due there; on the ready leader only.

What expires by time (a variable's time to live, the age of a topic's messages) expires at the beginning of
the next batch. While commands arrive that is soon enough; when none do, this file proposes a batch of none.
Sessions are not its business: how long they live is not in the log (`session_clock.py`).

Invariants:
  1. Nothing is proposed while the machine has no deadline.
  2. While it has one, the log learns the time at least every `STAMP_EVERY_S`: a new leader counts on from the
     last stamp, so that what passed since is lost, and would come on top of every time to live.
  3. A deadline is proposed for again only after `RETRY_S`, whatever became of the first proposal, or when a
     batch of its time was applied and was not enough for all that was due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from raftcoord.server.batcher import Batcher

RETRY_S: Final = 1.0
_RETRY_MS: Final = int(RETRY_S * 1000)
STAMP_EVERY_S: Final = 5.0
_DELAY_S_MIN: Final = 0.001  # a timer may fire a little early, and must not fire again at once


class ExpiryClock:
    """One timer for the machine's next deadline.

    Args:
        next_deadline_ms: returns it, in cluster time; None when nothing will be due.
        machine_now_ms: returns the time of the last batch that was applied.
    """

    __slots__ = ("_batcher", "_deadline_ms", "_leading", "_machine_now_ms", "_next_deadline_ms", "_timer")

    def __init__(
        self,
        *,
        batcher: Batcher,
        next_deadline_ms: Callable[[], int | None],
        machine_now_ms: Callable[[], int],
    ) -> None:
        self._batcher = batcher
        self._next_deadline_ms = next_deadline_ms
        self._machine_now_ms = machine_now_ms
        self._leading = False
        self._deadline_ms: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<ExpiryClock leading={self._leading} deadline_ms={self._deadline_ms}>"

    def lead(self) -> None:
        """Start with the deadlines that the machine has."""
        self._leading = True
        self.look()

    def stop_leading(self) -> None:
        """Another replica counts now."""
        self._leading = False
        self._set(None)

    def look(self) -> None:
        """Set the timer anew if the next deadline is another one; called after every delivery."""
        if self._leading:
            deadline_ms = self._next_deadline_ms()
            if deadline_ms != self._deadline_ms:
                self._set(deadline_ms)
            elif deadline_ms is not None and deadline_ms <= self._machine_now_ms():
                self._batcher.submit_time()

    def _set(self, deadline_ms: int | None) -> None:
        self._deadline_ms = deadline_ms
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline_ms is not None:
            self._wait(self._left_ms(deadline_ms))

    def _wait(self, delay_ms: int) -> None:
        delay_s = min(max(delay_ms / 1000, _DELAY_S_MIN), STAMP_EVERY_S)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _left_ms(self, deadline_ms: int) -> int:
        """Return how long nothing need be proposed; not above 0 when something must be."""
        stale_ms = self._machine_now_ms() + int(STAMP_EVERY_S * 1000)
        return min(deadline_ms, stale_ms) - self._batcher.now_ms()

    def _on_timer(self) -> None:
        deadline_ms = self._deadline_ms
        assert deadline_ms is not None
        left_ms = self._left_ms(deadline_ms)
        if left_ms > 0:
            self._wait(left_ms)
            return
        self._batcher.submit_time()
        until_due_ms = deadline_ms - self._batcher.now_ms()
        self._wait(min(until_due_ms, _RETRY_MS) if until_due_ms > 0 else _RETRY_MS)
