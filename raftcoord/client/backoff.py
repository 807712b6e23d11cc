"""How long to pause between two rounds over the replicas.

While a leader is being elected, a round of refusals is cheap and a fresh leader is worth finding early; the
pause therefore starts small and grows by a constant factor, so that a client finds the new leader late by at
most about a third of the time that the election took. Pure: randomness is handed in.
"""

from __future__ import annotations

from typing import Final

from raftcoord.runtime import Rng

PAUSE_FIRST_S: Final = 0.005
PAUSE_LAST_S: Final = 0.5
_GROWTH: Final = 1.3
_JITTER: Final = 0.25  # so that many clients do not knock at the same moment


class Backoff:
    """Growing pauses with jitter; the first one after `reset` is short."""

    __slots__ = ("_pause_s", "_rng")

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._pause_s = PAUSE_FIRST_S

    def __repr__(self) -> str:
        return f"<Backoff next={self._pause_s:.3f}s>"

    def reset(self) -> None:
        self._pause_s = PAUSE_FIRST_S

    def next_s(self) -> float:
        """Return the pause to make now, in seconds, and lengthen the following one."""
        pause_s = self._pause_s
        self._pause_s = min(PAUSE_LAST_S, pause_s * _GROWTH)
        return pause_s * (1 + _JITTER * (2 * self._rng.random() - 1))
