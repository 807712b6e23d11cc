"""What the callers saw, judged without a look inside: the last word on linearizability.

Invariants of what is checked:
  1. The history of every variable and of every lock is linearizable.
  2. What was put is taken once: an acknowledged item is with one caller, or still in its queue. A second
     caller may see it only when the session of the first one was lost.
"""

from __future__ import annotations

from raftcoord.testing.simulation.clients import Record
from raftcoord.testing.simulation.model import Model


def check_histories(records: list[Record], model: Model) -> None:
    """Judge all calls of a run; `model` holds what is left in the store. Raises Violation."""
