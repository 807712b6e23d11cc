"""All kinds of steps that a client's plan may have, and what each does."""

from __future__ import annotations

from typing import Final

from raftcoord.testing.simulation import calls_locks, calls_queues, calls_topics, calls_variables
from raftcoord.testing.simulation.caller import Work

STEPS: Final[dict[str, Work]] = {
    **calls_variables.WORK,
    **calls_queues.WORK,
    **calls_locks.WORK,
    **calls_topics.WORK,
}
