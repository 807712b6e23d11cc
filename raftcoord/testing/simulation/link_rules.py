"""How long what one host sends to another takes, and whether it gets there at all.

Invariants:
  1. A direction is open only while no rule blocks it: rules of overlapping faults add up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

Direction = tuple[str, str]  # from host, to host

JITTER_PART: Final = 0.5  # of the latency, on average, on top of it
RARE_DELAY: Final = (0.002, 0.03)  # how often something takes much longer, and up to how long (seconds)


@dataclass(frozen=True, slots=True)
class Pace:
    """What one direction is like: latency in seconds, bandwidth in bytes per second."""

    latency_s: float
    bytes_per_s: float = 50e6


class LinkRules:
    """The state of all directions between hosts.

    Args:
        pace_of: what a direction is like when nothing is wrong.
    """

    def __init__(self, rng: random.Random, pace_of: Callable[[str, str], Pace]) -> None:
        self._rng = rng
        self._pace_of = pace_of
        self._paces: dict[Direction, Pace] = {}
        self._blocked: dict[Direction, int] = {}
        self._slow: dict[Direction, float] = {}
        self.on_open: Callable[[Direction], None] = lambda direction: None

    def __repr__(self) -> str:
        return f"<LinkRules blocked={self.blocked()} slow={len(self._slow)}>"

    def blocked(self) -> list[Direction]:
        """Return the directions in which nothing gets through."""
        return sorted(self._blocked)

    def is_blocked(self, source: str, target: str) -> bool:
        """Whether nothing gets through in this direction."""
        return (source, target) in self._blocked

    def block(self, directions: Iterable[Direction]) -> None:
        """Let nothing through in these directions; once for every `unblock`."""
        for direction in directions:
            self._blocked[direction] = self._blocked.get(direction, 0) + 1

    def unblock(self, directions: Iterable[Direction]) -> None:
        """Take one block back in each of these directions."""
        for direction in directions:
            left = self._blocked.pop(direction) - 1
            if left:
                self._blocked[direction] = left
            else:
                self.on_open(direction)

    def slow_down(self, directions: Iterable[Direction], factor: float) -> None:
        """Multiply latency and transfer time in these directions; a factor of 1 ends it."""
        for direction in directions:
            if factor == 1:
                self._slow.pop(direction, None)
            else:
                self._slow[direction] = factor

    def _pace(self, direction: Direction) -> Pace:
        pace = self._paces.get(direction)
        if pace is None:
            pace = self._paces[direction] = self._pace_of(*direction)
        return pace

    def transfer_s(self, source: str, target: str, size_bytes: int) -> float:
        """Return for how long so many bytes keep the direction busy."""
        direction = (source, target)
        return size_bytes / self._pace(direction).bytes_per_s * self._slow.get(direction, 1.0)

    def delay_s(self, source: str, target: str) -> float:
        """Draw how long the first byte takes from one host to another, when nothing blocks it."""
        direction = (source, target)
        rng = self._rng
        delay_s = self._pace(direction).latency_s * (1 + 2 * JITTER_PART * rng.random())
        if rng.random() < RARE_DELAY[0]:
            delay_s += rng.random() * RARE_DELAY[1]
        return delay_s * self._slow.get(direction, 1.0)
