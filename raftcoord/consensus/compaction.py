"""Keeping the log short: when to snapshot, what to drop after it, and the journal's background work.

Invariants:
  1. The log is compacted only behind a snapshot that is durable.
  2. Some entries behind the snapshot are kept, so that a follower that is only a little late is sent
     entries rather than a whole snapshot.
  3. A snapshot that fails leaves log and older snapshot as they were, and stops the replica.
"""

from __future__ import annotations

import asyncio
import logging

from raftcoord.consensus.core import RaftCore
from raftcoord.consensus.interface import EngineConfig, StateMachine
from raftcoord.consensus.journal import Journal
from raftcoord.consensus.snapshot_store import SnapshotStore
from raftcoord.runtime import Runtime

logger = logging.getLogger(__name__)


class Compaction:
    """Snapshots of one replica's state machine, and the journal's housekeeping."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        runtime: Runtime,
        store: SnapshotStore,
        journal: Journal,
        core: RaftCore,
        state_machine: StateMachine,
    ) -> None:
        self._config, self._disk, self._clock = config, runtime.disk, runtime.clock
        self._store, self._journal = store, journal
        self._core, self._state_machine = core, state_machine
        self._bytes_since = 0
        self._under_way: asyncio.Future[int] | None = None
        self.is_preparing = False
        self.snapshot_index = store.latest.index if store.latest is not None else 0
        self.written = 0
        self.seconds = 0.0

    def __repr__(self) -> str:
        return f"<Compaction snapshot_index={self.snapshot_index} bytes_since={self._bytes_since}>"

    def note_applied(self, command_bytes: int) -> None:
        """One more entry is in the state machine and not in a snapshot."""
        self._bytes_since += command_bytes

    def note_installed(self, index: int) -> None:
        """A snapshot of the leader's replaced everything."""
        self.snapshot_index = index
        self._bytes_since = 0

    @property
    def is_due(self) -> bool:
        """Whether enough was applied since the last snapshot, and none is being written."""
        if self._under_way is not None:
            return False
        entries = self._core.applied_index - self.snapshot_index
        return (
            self._bytes_since >= self._config.snapshot_log_bytes
            or entries >= self._config.snapshot_log_entries
        )

    async def snapshot_now(self) -> int:
        """Write a snapshot, or join the one that is being written; return its index."""
        if self._under_way is not None:
            return await asyncio.shield(self._under_way)
        await self.run()
        return self.snapshot_index

    async def run(self) -> None:
        """Write a snapshot of the state as it is now, then compact the log behind it."""
        if self._under_way is not None:
            return
        index = self._core.applied_index
        if index <= self.snapshot_index or index < self._core.first_index:
            return
        term = self._core.term_at(index)
        self._under_way = done = asyncio.get_running_loop().create_future()
        began = self._clock.now()
        slices = self._state_machine.begin_snapshot()
        self._bytes_since = 0
        try:
            await self._store.write(index, term, slices)
            if index > self.snapshot_index:  # else the leader's snapshot, a newer one, came in between
                self.snapshot_index = index
                self._journal.compact_to(self._first_index_to_keep(index))
            self.written += 1
            self.seconds += self._clock.now() - began
            logger.info("snapshot_written index=%d seconds=%.3f", index, self._clock.now() - began)
        finally:
            self._under_way = None
            if not done.done():
                done.set_result(self.snapshot_index)
        await self._disk.run(self._journal.collect_garbage)

    def _first_index_to_keep(self, snapshot_index: int) -> int:
        log, first = self._core.log, self._core.first_index
        position, kept_bytes = snapshot_index - first, 0
        while position > 0 and kept_bytes < self._config.trailing_log_bytes:
            position -= 1
            kept_bytes += len(log[position][0])
        index: int = first + position
        return index

    async def prepare_segment(self) -> None:
        """Have the journal's next file ready before it is needed."""
        self.is_preparing = True
        try:
            await self._disk.run(self._journal.prepare_segment)
        finally:
            self.is_preparing = False
