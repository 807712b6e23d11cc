"""Who holds what: by the log, and in the belief of the clients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from raftcoord.testing.simulation.model import Model
from raftcoord.testing.simulation.objects import Belief
from raftcoord.testing.simulation.violation import Violation


class Believer(Protocol):
    """A client, as far as this file knows it."""

    name: str

    def beliefs(self) -> Iterable[Belief]: ...


def held_fences(model: Model) -> set[int]:
    """Return the fences of all locks, leases and claims that sessions hold by the log."""
    holds = list(model.locks.table.values())
    holds += [lease for semaphore in model.semaphores.table.values() for lease in semaphore.leases]
    holds += [*model.multilocks.grants, *model.rwlocks.uses]
    fences = [hold.fence for hold in holds]
    fences += [taken.fence for taken in model.queues.taken if taken.fence is not None]
    return {fence.value for fence in fences if fence.value is not None}


def check_beliefs(clients: Iterable[Believer], held: set[int], why: str) -> None:
    """Hold the clients against the log: who takes itself for a holder is one.

    As the log never has two holders of what only one may hold, no two clients believe it at a time then.

    Args:
        held: the fences that are held by the log, or are void without anybody having been told.
        why: what has just happened.

    Raises:
        Violation: a client takes for its own what it has lost.
    """
    for client in clients:
        for what, fence in client.beliefs():
            if fence not in held:
                raise Violation(
                    "one holder",
                    f"{why}, and {client.name} takes itself for a holder of {what} with {fence=}",
                )
