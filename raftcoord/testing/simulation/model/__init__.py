"""What the store means, written to be obviously right and for nothing else.

`base.py` has what all objects share; each kind of object has a file of its own, which can be read alone.
"""

from __future__ import annotations

from raftcoord.testing.simulation.model.base import (
    Answer,
    Number,
    ObjectKind,
    Offset,
    Session,
    Store,
    Wait,
    compare,
)
from raftcoord.testing.simulation.model.event import Events
from raftcoord.testing.simulation.model.lock import Locks
from raftcoord.testing.simulation.model.multilock import MultiLocks
from raftcoord.testing.simulation.model.queue import Queues
from raftcoord.testing.simulation.model.rwlock import RWLocks
from raftcoord.testing.simulation.model.semaphore import Semaphores
from raftcoord.testing.simulation.model.topic import Topics
from raftcoord.testing.simulation.model.variable import Variables

__all__ = ["Answer", "Model", "Number", "Offset", "Session", "Wait", "compare"]


class Model(Store):
    """The whole store."""

    def __init__(self) -> None:
        super().__init__()
        self.variables = Variables(self)
        self.queues = Queues(self)
        self.locks = Locks(self)
        self.events = Events(self)
        self.semaphores = Semaphores(self)
        self.multilocks = MultiLocks(self)
        self.rwlocks = RWLocks(self)
        self.topics = Topics(self)
        kinds: list[ObjectKind] = [self.variables, self.queues, self.locks, self.events]
        kinds += [self.semaphores, self.multilocks, self.rwlocks, self.topics]
        self.kinds = {kind.prefix: kind for kind in kinds}

    def held_by(self, session_id: int) -> list[bytes]:
        """Return the names of all objects of which this session holds something."""
        return [name for kind in self.kinds.values() for name in kind.held_by(session_id)]

    def confirmed(self, session_id: int, sequence: int) -> None:
        self.queues.confirmed(session_id, sequence)

    def do_return(self, session_id: int, sequence: int, target: int) -> Answer:
        return self.queues.undo(session_id, target)
