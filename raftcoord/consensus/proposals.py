"""Proposals of this replica as leader, and what became of them.

The core's own callbacks are not used: they are lost at a step-down, and one that raises makes the core apply
its entry twice.

Invariants:
  1. Every callback is told exactly once.
  2. `Committed` is told only for an entry of the very term in which it was proposed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from raftcoord.consensus.core import COMMAND, RaftCore
from raftcoord.consensus.interface import Committed, NotCommitted, ProposalCallback

WAITING_MAX: Final = 100_000


class Proposals:
    """Those that wait for their place in the log, and those that are in it and not applied yet.

    Args:
        tell: schedules a callback with its arguments for the engine's next round of callbacks.
    """

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._waiting: deque[tuple[bytes, ProposalCallback]] = deque()
        self._in_log: dict[int, tuple[int, ProposalCallback]] = {}

    def __repr__(self) -> str:
        return f"<Proposals waiting={len(self._waiting)} in_log={len(self._in_log)}>"

    @property
    def is_full(self) -> bool:
        """Whether no more can be taken for now."""
        return len(self._waiting) >= WAITING_MAX

    def add(self, payload: bytes, callback: ProposalCallback) -> None:
        """Take a proposal."""
        self._waiting.append((payload, callback))

    def append_to(self, core: RaftCore) -> None:
        """As leader: give everything that waits its place in the log."""
        while self._waiting:
            payload, callback = self._waiting.popleft()
            index, term = core.append(COMMAND + payload)
            self._in_log[index] = (term, callback)

    def applied(self, index: int, term: int, result: Any) -> None:
        """The entry at `index`, of this term, was applied here."""
        proposed = self._in_log.pop(index, None)
        if proposed is not None:
            same = proposed[0] == term
            self._tell(proposed[1], Committed(index, result) if same else NotCommitted.OUTCOME_UNKNOWN)

    def refuse_waiting(self) -> None:
        """This replica does not lead: what never entered the log goes back."""
        for _, callback in self._waiting:
            self._tell(callback, NotCommitted.NOT_LEADER)
        self._waiting.clear()

    def lose_in_log(self) -> None:
        """Leadership is lost: a later leader decides about what is in the log."""
        in_log, self._in_log = self._in_log, {}
        for _, callback in in_log.values():
            self._tell(callback, NotCommitted.OUTCOME_UNKNOWN)
