"""Handing leadership to a follower: wait until it holds the whole log, then tell it to take over.

While this is under way the leader adds nothing to its log, so the wait is one round trip.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from raftcoord.consensus.core import RaftCore

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 2.0


class HandOver:
    """One attempt; ended by the loss of leadership, or given up by its waiter's timeout."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._asked = False
        self._done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<HandOver target={self.target} asked={self._asked}>"

    async def wait(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Return whether this replica gave up the lead in time."""
        logger.info("hand_over_started target=%s", self.target)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._done)
        except TimeoutError:
            logger.warning("hand_over_failed target=%s", self.target)
            return False

    def proceed(self, core: RaftCore) -> None:
        """Ask the target as soon as it holds everything."""
        if not self._asked and core.match_index(self.target) == core.last_index:
            self._asked = True
            core.hand_over_to(self.target)

    def leadership_lost(self) -> None:
        """Someone else leads, or will: the attempt succeeded."""
        self._finish(True)

    def target_lost(self) -> None:
        """The target is not connected any more: the attempt failed."""
        self._finish(False)

    def _finish(self, succeeded: bool) -> None:
        if not self._done.done():
            self._done.set_result(succeeded)
