"""Counts the time to live of every session; on the ready leader only.

Expiry itself is a command in the log. This file only decides when to propose it.

Invariants:
  1. A session is proposed for expiry only after a full time to live passed, on this leader's clock, since
     it was last heard of, was opened, or this replica became the ready leader, whichever is latest.
  2. From the moment its expiry is proposed, a session is `expiring`: nobody may be told any more that it
     is alive. Otherwise a client could go on believing in a lock that the log is about to take away.
  3. Renewing is one assignment to `SessionEntry.heard_at`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from raftcoord.protocol.operations import Operation
from raftcoord.runtime import Clock
from raftcoord.server.batcher import Batcher
from raftcoord.server.deadlines import Deadlines

if TYPE_CHECKING:
    from raftcoord.machine import SessionView
    from raftcoord.server.connection import Connection

logger = logging.getLogger(__name__)

EXPIRIES_PER_COMMAND_MAX: Final = 1000


class SessionEntry:
    """One live session, as the leader's memory has it.

    `expiring` never goes back: a proposal whose outcome is unknown may still be in the log. `proposed`
    tells whether such a proposal is under way.
    """

    __slots__ = ("connection", "ended", "expiring", "heard_at", "identifier", "nonce", "proposed", "ttl_ms")

    def __init__(self, view: SessionView, heard_at: float) -> None:
        self.identifier = view.id
        self.ttl_ms = view.ttl_ms
        self.nonce = view.nonce
        self.heard_at = heard_at
        self.expiring = False
        self.proposed = False
        self.ended = False
        self.connection: Connection | None = None

    def __repr__(self) -> str:
        return (
            f"<SessionEntry {self.identifier} ttl_ms={self.ttl_ms} heard_at={self.heard_at:.3f} "
            f"expiring={self.expiring} ended={self.ended} attached={self.connection is not None}>"
        )

    def deadline(self) -> float | None:
        """Return when it is to expire, in seconds; None when that is settled."""
        if self.ended or self.proposed:
            return None
        return self.heard_at + self.ttl_ms / 1000


class _Expiry:
    """The owner of one EXPIRE_SESSIONS command."""

    __slots__ = ("_entries", "_give_back")

    def __init__(self, entries: list[SessionEntry], give_back: Callable[[list[SessionEntry]], None]) -> None:
        self._entries = entries
        self._give_back = give_back

    def on_result(self, sequence: int, code: int, payload: Any) -> None:
        """The log has it; what ended is reported by the machine, not concluded from here."""

    def on_not_committed(self) -> None:
        self._give_back(self._entries)


class SessionClock:
    """The table of live sessions and their deadlines."""

    __slots__ = ("_batcher", "_clock", "_deadlines", "entries")

    def __init__(self, *, batcher: Batcher, clock: Clock) -> None:
        self._batcher = batcher
        self._clock = clock
        self._deadlines: Deadlines[SessionEntry] = Deadlines(clock, SessionEntry.deadline, self._expire)
        self.entries: dict[int, SessionEntry] = {}

    def __repr__(self) -> str:
        return f"<SessionClock sessions={len(self.entries)} {self._deadlines!r}>"

    def lead(self, sessions: Iterable[SessionView]) -> None:
        """Start with these sessions, each with its full time to live ahead."""
        self.stop_leading()
        now = self._clock.now()
        for view in sessions:
            self._watch(view, now)

    def stop_leading(self) -> None:
        """Forget everything: another replica counts now."""
        for entry in self.entries.values():
            entry.ended = True
        self.entries.clear()
        self._deadlines.clear()

    def opened(self, view: SessionView) -> None:
        """A session was opened; nothing happens if it is known."""
        if view.id not in self.entries:
            self._watch(view, self._clock.now())

    def ended(self, identifier: int) -> SessionEntry | None:
        """A session is gone from the machine; return its entry if there was one."""
        entry = self.entries.pop(identifier, None)
        if entry is not None:
            entry.ended = True
        return entry

    def alive(self, identifier: int) -> SessionEntry | None:
        """Return the session's entry unless it ended or is about to."""
        entry = self.entries.get(identifier)
        return None if entry is None or entry.expiring else entry

    def _watch(self, view: SessionView, heard_at: float) -> None:
        entry = self.entries[view.id] = SessionEntry(view, heard_at)
        self._deadlines.add(entry)

    def _expire(self, due: list[SessionEntry]) -> None:
        expired = []
        for entry in due:
            connection = entry.connection
            if connection is not None and connection.is_backlogged:
                # This replica stopped reading from the client, so its silence is no sign of its death.
                entry.heard_at = self._clock.now()
                self._deadlines.add(entry)
                continue
            entry.expiring = entry.proposed = True
            expired.append(entry)
        for start in range(0, len(expired), EXPIRIES_PER_COMMAND_MAX):
            self._propose(expired[start : start + EXPIRIES_PER_COMMAND_MAX])

    def _propose(self, entries: list[SessionEntry]) -> None:
        identifiers = [entry.identifier for entry in entries]
        logger.info("sessions_expiring count=%d first=%d", len(identifiers), identifiers[0])
        command = [0, 0, 0, int(Operation.EXPIRE_SESSIONS), identifiers]
        if not self._batcher.submit(_Expiry(entries, self._watch_again), command, bounded=False):
            self._watch_again(entries)

    def _watch_again(self, entries: list[SessionEntry]) -> None:
        """An expiry was not committed: if this replica still leads, propose it again in a while."""
        now = self._clock.now()
        for entry in entries:
            if not entry.ended:
                entry.heard_at = now
                entry.proposed = False
                self._deadlines.add(entry)
