"""One timer that follows a deadline which mostly moves away, without being re-armed every time it does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from raftcoord.runtime import Clock

_MARGIN_S: Final = 0.0005  # the core acts only once a deadline has passed


class DeadlineTimer:
    """Calls `on_due` at the earliest deadline given since it last did, or a little after."""

    def __init__(self, clock: Clock, on_due: Callable[[], None]) -> None:
        self._clock, self._on_due = clock, on_due
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0

    def __repr__(self) -> str:
        return f"<DeadlineTimer armed={self._handle is not None} due={self._due:.3f}>"

    def arm(self, due: float) -> None:
        """Fire at `due`, unless it fires earlier anyway: then it is armed again from there."""
        if self._handle is not None:
            if self._due <= due:
                return
            self._handle.cancel()
        self._due = due
        delay_s = max(due - self._clock.now(), 0.0) + _MARGIN_S
        self._handle = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def cancel(self) -> None:
        """Fire no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._on_due()
