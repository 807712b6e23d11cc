"""Time that only moves forward. Wall clocks are never consulted."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since an arbitrary moment; never goes back."""

    def now(self) -> float: ...


class MonotonicClock:
    """The clock of this machine (CLOCK_MONOTONIC), the one that asyncio's timers use as well."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<MonotonicClock>"

    def now(self) -> float:
        return time.monotonic()
