"""Linearizable reads without the log: the ReadIndex rounds (Ongaro's thesis, section 6.4).

A read is answered when a majority answered an append that was sent after the read arrived: then this
replica was still leader after it arrived, and its commit index then covered every acknowledged write.

Invariants:
  1. A read is confirmed only by appends with a number above the newest one sent when its round began.
  2. One round is under way at a time; reads that arrive meanwhile share the next one.
"""

from __future__ import annotations

from collections.abc import Callable

from raftcoord.consensus.interface import BarrierCallback


class ReadRounds:
    """The reads of one leadership that wait for their round."""

    def __init__(self) -> None:
        self._arrived: list[BarrierCallback] = []
        self._under_way: list[BarrierCallback] = []
        self._number = 0
        self._index = 0
        self.rounds = 0

    def __repr__(self) -> str:
        return f"<ReadRounds arrived={len(self._arrived)} under_way={len(self._under_way)}>"

    def add(self, callback: BarrierCallback) -> None:
        """Take a read into the next round."""
        self._arrived.append(callback)

    @property
    def is_busy(self) -> bool:
        """Whether any read waits."""
        return bool(self._arrived or self._under_way)

    @property
    def wants_round(self) -> bool:
        """Whether a round should start now."""
        return bool(self._arrived) and not self._under_way

    def start(self, *, number_before: int, commit_index: int) -> None:
        """Begin a round: appends numbered above `number_before` count, `commit_index` must be applied."""
        self._under_way, self._arrived = self._arrived, []
        self._number, self._index = number_before + 1, commit_index
        self.rounds += 1

    def settled(self, is_confirmed: Callable[[int], bool], applied_index: int) -> list[BarrierCallback]:
        """Return the reads that may be answered now."""
        if self._under_way and applied_index >= self._index and is_confirmed(self._number):
            done, self._under_way = self._under_way, []
            return done
        return []

    def drop_all(self) -> list[BarrierCallback]:
        """Leadership is lost: return every read, none of which may be answered."""
        dropped = self._under_way + self._arrived
        self._under_way, self._arrived = [], []
        return dropped
