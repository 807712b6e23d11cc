"""The state machine as the consensus engine sees it: entries in, what they caused out.

Invariants:
  1. `apply` raises only for a bug. The entry is then logged with its index, and the engine stops this
     replica: going on would make it differ from the others.
  2. What the entries caused is kept only while this replica serves clients; others have no use for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from raftcoord.machine import Applied, Machine

logger = logging.getLogger(__name__)

_LOGGED_PAYLOAD_BYTES: Final = 512


class ReplicatedMachine:
    """A `StateMachine` of the engine around one `Machine`."""

    __slots__ = ("_applied", "_on_applied", "machine", "on_restored", "on_topic", "query")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.query = machine.query
        self._on_applied: Callable[[], None] | None = None
        self._applied: list[Applied] = []  # emptied in every turn of the loop in which it was filled
        # Called inside the engine, on any replica: a topic has changed, or the whole state was replaced.
        self.on_topic: Callable[[bytes], None] = _ignore
        self.on_restored: Callable[[], None] = _ignore

    def __repr__(self) -> str:
        return f"<ReplicatedMachine forwarding={self._on_applied is not None} waiting={len(self._applied)}>"

    def forward(self, on_applied: Callable[[], None] | None) -> None:
        """Keep what entries cause from now on, or with None no more; nothing old is kept.

        `on_applied` is called, inside the engine, when something waits for `take_applied`; it only schedules.
        """
        self._on_applied = on_applied
        self._applied = []

    def take_applied(self) -> list[Applied]:
        """Return what the entries since the last call caused, in log order."""
        applied = self._applied
        if applied:
            self._applied = []
        return applied

    def apply(self, index: int, payload: bytes) -> Any:
        """Apply one committed entry."""
        try:
            applied = self.machine.apply_entry(payload)
        except Exception:
            logger.critical(
                "apply_failed index=%d payload_bytes=%d payload=%r",
                index,
                len(payload),
                bytes(payload[:_LOGGED_PAYLOAD_BYTES]),
                exc_info=True,
            )
            raise
        for name in applied.topics:
            self.on_topic(name)
        if self._on_applied is not None and (applied.completed or applied.opened or applied.ended):
            self._applied.append(applied)
            self._on_applied()
        return applied

    def begin_snapshot(self) -> Iterator[bytes]:
        """See `StateMachine.begin_snapshot`."""
        return self.machine.begin_snapshot()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """See `StateMachine.restore`."""
        self.machine.restore(chunks)
        self.on_restored()


def _ignore(*arguments: object) -> None:
    pass
