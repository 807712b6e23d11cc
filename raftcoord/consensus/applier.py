"""Applying committed entries to the state machine, once each and in order, in slices.

Invariants:
  1. The applied index moves only after the state machine took the entry; an exception stops the replica, so
     that no entry is ever applied twice or skipped.
  2. One call keeps the event loop for about `SLICE_S`, also when a whole log is replayed after a restart.
"""

from __future__ import annotations

from typing import Final

from raftcoord.consensus.compaction import Compaction
from raftcoord.consensus.core import COMMAND, RaftCore
from raftcoord.consensus.interface import StateMachine
from raftcoord.consensus.proposals import Proposals
from raftcoord.runtime import Clock

SLICE_S: Final = 0.01


class Applier:
    """The way from the log into the state machine of one replica."""

    def __init__(
        self,
        *,
        core: RaftCore,
        state_machine: StateMachine,
        clock: Clock,
        proposals: Proposals,
        compaction: Compaction,
    ) -> None:
        self._core, self._state_machine, self._clock = core, state_machine, clock
        self._proposals, self._compaction = proposals, compaction

    def __repr__(self) -> str:
        return f"<Applier applied={self._core.applied_index} commit={self._core.commit_index}>"

    def apply_slice(self) -> None:
        """Apply up to the commit index, or until the slice is over."""
        core = self._core
        applied, commit = core.applied_index, core.commit_index
        if applied >= commit:
            return
        log, first = core.log, core.first_index
        end_at = self._clock.now() + SLICE_S
        for index in range(applied + 1, commit + 1):
            command, _, term = log[index - first]
            result = None
            if command[0] == COMMAND[0]:
                result = self._state_machine.apply(index, command[1:])
            core.advance_applied()
            self._compaction.note_applied(len(command))
            self._proposals.applied(index, term, result)
            if self._clock.now() > end_at:
                return
