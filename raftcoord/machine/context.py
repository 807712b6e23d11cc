"""What every kind of object shares: sessions, the counter, completed waits, and copy-on-write.

Invariants:
  1. `next_number` hands out each number once; revisions, fences and incarnations all come from it.
  2. Whoever changes a session or an object calls `touch` on it first, so that a snapshot under way sees
     the state as of its beginning.
  3. What a session holds is in `Session.holds` under its fence, and in the object that was granted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from raftcoord.machine.deadlines import Deadlines
from raftcoord.machine.outcome import WAITING, Applied, Completed, Result
from raftcoord.machine.session import Session
from raftcoord.machine.snapshot import CopyOnWrite
from raftcoord.machine.waiting import WAITERS_PER_OBJECT_MAX, Waiter, Waiters
from raftcoord.protocol.errors import Code

if TYPE_CHECKING:
    from raftcoord.machine.object_kind import ObjectKind

HOLDS_PER_SESSION_MAX: Final = 100_000  # with the waits that may become some
TOO_MANY: Result = (int(Code.LIMIT), "too many waiters on this object")
TOO_MANY_HOLDS: Result = (int(Code.LIMIT), "too many locks, leases and claims in this session")


class Context:
    """The part of the machine that kinds may use."""

    def __init__(self) -> None:
        self.sessions: dict[int, Session] = {}
        self.number = 0
        self.now_ms = 0
        self.deadlines = Deadlines()
        self.waiter_count = 0
        self.applied = Applied()
        self.copies = CopyOnWrite()
        self.touch = self.copies.touch

    def __repr__(self) -> str:
        return f"<Context sessions={len(self.sessions)} number={self.number} waiters={self.waiter_count}>"

    def next_number(self) -> int:
        """Return the next revision, fence or incarnation."""
        self.number += 1
        return self.number

    def may_hold(self, session: Session) -> bool:
        """Whether the session may be granted one more, now or after a wait."""
        return len(session.holds) + len(session.waits) < HOLDS_PER_SESSION_MAX

    def hold(self, session: Session, kind: ObjectKind[Any], name: bytes) -> int:
        """The session holds this from now on; return the fence."""
        self.number += 1
        session.holds[self.number] = (kind, name)
        return self.number

    def let_go(self, session_id: int, fence: int) -> None:
        """The session does not hold this any more."""
        del self.sessions[session_id].holds[fence]

    def register(self, waiters: Waiters, waiter: Waiter) -> Result:
        """Put a wait at the end of its line."""
        if len(waiters) >= WAITERS_PER_OBJECT_MAX:
            return TOO_MANY
        waiters[waiter.session, waiter.sequence] = waiter
        self.sessions[waiter.session].waits[waiter.sequence] = waiter
        self.waiter_count += 1
        return WAITING

    def complete(self, waiters: Waiters, waiter: Waiter, code: int, payload: Any) -> None:
        """Take a wait out of its line and store its final answer."""
        del waiters[waiter.session, waiter.sequence]
        session = self.sessions[waiter.session]
        self.touch(session)
        self.forget(session, waiter)
        session.answers[waiter.sequence] = (code, payload)
        session.registered.add(waiter.sequence)
        self.applied.completed.append(Completed(waiter.session, waiter.sequence, code, payload))

    def forget(self, session: Session, waiter: Waiter) -> None:
        """The session waits for this no more; the caller takes it out of its line."""
        del session.waits[waiter.sequence]
        self.waiter_count -= 1
