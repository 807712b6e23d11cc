"""Syncing the journal, counted and timed."""

from __future__ import annotations

from raftcoord.consensus.journal import Journal
from raftcoord.runtime import Clock


class SyncMeter:
    """The way to `Journal.sync`; `seconds` is the time spent in all of them."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal, self._clock = journal, clock
        self.count = 0
        self.seconds = 0.0

    def __repr__(self) -> str:
        return f"<SyncMeter count={self.count} seconds={self.seconds:.3f}>"

    def sync(self) -> None:
        """Make everything in the journal durable. Raises JournalFailed."""
        if self._journal.dirty:
            began = self._clock.now()
            self._journal.sync()
            self.count += 1
            self.seconds += self._clock.now() - began
