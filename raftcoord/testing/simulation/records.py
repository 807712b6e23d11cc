"""The record of a call: what was asked, and what its caller knows of the outcome.

Invariants:
  1. Every call is recorded before it is made, and its outcome only once, as its caller learned it.
  2. What a caller cannot know (killed, cancelled, indeterminate) is recorded as unknown, never as failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from raftcoord.testing.linearizability import UNKNOWN, Operation


class Outcome(Enum):
    """What a caller knows of its call."""

    OPEN = "open"
    OK = "ok"
    FAILED = "failed"  # it certainly had no effect
    UNKNOWN = "unknown"


@dataclass(slots=True, eq=False)
class Record:
    """One call as its caller saw it. Times are the world's, in seconds."""

    client: str
    incarnation: int
    thread: int
    kind: str
    name: str
    argument: Any
    call_at: float
    session: int | None = None
    return_at: float = float("inf")
    outcome: Outcome = Outcome.OPEN
    result: Any = None

    def __repr__(self) -> str:
        return (
            f"<{self.client}#{self.incarnation}.{self.thread} {self.kind} {self.name} {self.argument!r} "
            f"{self.call_at:.4f}..{self.return_at:.4f} {self.outcome.value} {self.result!r:.60}>"
        )


def operation_of(record: Record, made: Any, output: Any) -> Operation:
    """Return a call as the search for an order takes it; one of unknown outcome may happen at any time."""
    known = record.outcome is Outcome.OK
    return Operation(
        client=record.client,
        call_at=record.call_at,
        return_at=record.return_at if known else float("inf"),
        input=made,
        output=output if known else UNKNOWN,
    )
