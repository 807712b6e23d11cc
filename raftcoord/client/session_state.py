"""The bookkeeping of one session: sequences, what is unanswered, and what may be confirmed.

Pure: no clock, no socket, no asyncio.

Invariants:
  1. A sequence is given once and in order; a call keeps it through every repetition.
  2. The floor never passes a sequence whose answer is not settled, except registered waits: the replicas
     drop what is at or below the floor, and a late duplicate of it is refused from then on.
  3. The final answer of a wait is listed only when the floor has passed it, and only on commands that the log
     sees (loans) or may see (the others); it stays with its carrier until that one is answered, and is listed
     again unless the log has seen it for sure, so that it is never forgotten.
  4. What was granted to a call is confirmed only after its caller took it (`settle`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from raftcoord.client.calls import Call
from raftcoord.protocol.errors import Code

LISTED_MAX: Final = 1000  # confirmations on one command; the rest follows on the next
# Above either of these, confirmations do not wait for a command to ride on: every replica keeps the answers.
CONFIRM_BACKLOG_MAX: Final = 100
CONFIRM_BACKLOG_BYTES_MAX: Final = 256 * 1024

# A gateway gives these without asking the log, so that what rode on the command was not taken in.
_INCONCLUSIVE: Final = frozenset(
    {Code.MALFORMED, Code.UNKNOWN_OPERATION, Code.TOO_LARGE, Code.LIMIT, Code.UNAUTHENTICATED}
)


class Unconfirmed(NamedTuple):
    """What the replicas keep until an answer is confirmed: whether items are on loan, and its values."""

    loan: bool
    size_bytes: int


class SessionState:
    """Which calls of one session are open, and what the replicas may forget.

    `blocking` holds, by sequence and in order, the calls that keep the floor down; `registered` the waits
    that the log knows. A call is in at most one of them until it is settled.
    """

    __slots__ = ("blocking", "last_sequence", "registered", "to_confirm")

    def __init__(self) -> None:
        self.last_sequence = 0
        self.blocking: dict[int, Call] = {}
        self.registered: dict[int, Call] = {}
        self.to_confirm: dict[int, Unconfirmed] = {}  # by sequence

    def __repr__(self) -> str:
        return (
            f"<SessionState last={self.last_sequence} floor={self.floor} blocking={len(self.blocking)}"
            f" registered={len(self.registered)} to_confirm={len(self.to_confirm)}>"
        )

    @property
    def floor(self) -> int:
        """The N of `acked`: every answer up to it is settled, registered waits aside."""
        for first in self.blocking:
            return first - 1
        return self.last_sequence

    @property
    def has_unanswered(self) -> bool:
        """Whether a replica owes an answer by now (registered waits aside)."""
        return any(not call.answered for call in self.blocking.values())

    def needs_confirm(self) -> bool:
        """Whether a CONFIRM should go out if nothing else does."""
        if len(self.to_confirm) > CONFIRM_BACKLOG_MAX:
            return True
        size_bytes = 0
        for unconfirmed in self.to_confirm.values():
            size_bytes += unconfirmed.size_bytes
            if unconfirmed.loan or size_bytes > CONFIRM_BACKLOG_BYTES_MAX:
                return True
        return False

    def can_confirm(self) -> bool:
        """Whether a CONFIRM sent now could end a loan."""
        floor = self.floor
        return any(sequence <= floor for sequence in self.to_confirm)

    def assign(self, call: Call) -> None:
        """Give a call its sequence; from here on it is open."""
        self.last_sequence += 1
        call.sequence = self.last_sequence
        self.blocking[call.sequence] = call

    def find(self, sequence: int) -> Call | None:
        """Return an open call whose final answer did not come yet."""
        call = self.blocking.get(sequence) or self.registered.get(sequence)
        return None if call is None or call.answered else call

    def is_open(self, call: Call) -> bool:
        """Whether a call belongs to this session and is not settled."""
        return (self.blocking.get(call.sequence) or self.registered.get(call.sequence)) is call

    def acked_for(self, call: Call) -> int | list[int]:
        """Return the `acked` field to send with a call, now; this send is counted in `call.sends` already."""
        # Only on the first send. Of two copies, the one without the list may be applied and answered (the
        # answer of a registered wait comes on any connection): the list would count as taken in, and was not.
        if self.to_confirm and call.is_logged and call.sends == 1:
            floor, sure = self.floor, call.traits.logged
            ready = [
                sequence
                for sequence, unconfirmed in self.to_confirm.items()
                if sequence <= floor and (sure or not unconfirmed.loan)  # loans are not left to chance
            ][:LISTED_MAX]
            call.listed = {sequence: self.to_confirm.pop(sequence) for sequence in ready}
        return [self.floor, *call.listed] if call.listed else self.floor

    def register(self, call: Call) -> None:
        """`WAITING` came for a call: the floor may pass it."""
        if self.blocking.pop(call.sequence, None) is not None:
            call.registered = True
            self.registered[call.sequence] = call

    def finish(self, call: Call, code: int) -> None:
        """The final answer of a call came. It is held back until `settle`."""
        call.answered = True
        # What may be answered without the log was taken in for sure only if it had to wait there.
        in_log = call.traits.logged or call.registered
        self._carried(call, delivered=in_log and code not in _INCONCLUSIVE)

    def settle(self, call: Call, *, took: bool = False) -> None:
        """The answer of a call is where it belongs; the replicas may forget it.

        `took`: items came with it and are on loan until this is confirmed.
        """
        if call.registered:
            self.registered.pop(call.sequence, None)
        else:
            self.blocking.pop(call.sequence, None)
        loan = took and call.traits.is_loan
        # A wait may be registered although its WAITING never came: lost with a connection, or overtaken by
        # the answer to a CANCEL on the next one.
        if loan or call.registered or (call.wait and (call.sends > 1 or call.cancelled)):
            self.to_confirm[call.sequence] = Unconfirmed(loan, call.answer_bytes)

    def cancel(self, call: Call) -> None:
        """A CANCEL now stands for this call; it is not sent again, so what it carried must ride anew."""
        call.cancelled = True
        self._carried(call, delivered=False)

    def repeatable(self) -> list[Call]:
        """Return what must be sent again on a new connection, in order."""
        return [call for call in self._by_sequence() if not call.answered and not call.cancelled]

    def open_calls(self) -> list[Call]:
        """Return every call that is not settled, in order."""
        return list(self._by_sequence())

    def _by_sequence(self) -> Iterator[Call]:
        both = self.blocking | self.registered
        return (both[sequence] for sequence in sorted(both))

    def _carried(self, call: Call, *, delivered: bool) -> None:
        if call.listed:
            if not delivered:
                self.to_confirm.update(call.listed)
            call.listed = {}


class Session:
    """One session of the client: its identity, its time to live as the client sees it, and its calls.

    The time to live counts from the moment at which the last request that renewed it was *sent*: the
    replicas count from a later moment, so they never hand a lock on before its holder knows that it is lost.

    Args:
        nonce: names the request to open the session, so that a repeated hello opens only one.
        ttl_s: time to live in seconds; the replicas' answer may correct it.
    """

    __slots__ = ("expires_at", "id", "lost", "nonce", "state", "ttl_s")

    def __init__(self, nonce: bytes, ttl_s: float) -> None:
        self.id = 0
        self.nonce = nonce
        self.ttl_s = ttl_s
        self.expires_at = 0.0
        self.lost = False
        self.state = SessionState()

    def __repr__(self) -> str:
        return f"<Session id={self.id} ttl_s={self.ttl_s} lost={self.lost} {self.state!r}>"

    def renew(self, sent_at: float, now: float) -> None:
        """A request that was sent at `sent_at` is answered `now`: the session lived then.

        One that ran out meanwhile stays so: who released a lock in between was told that it is lost, and in
        a session that lived on, nobody would ever release it.
        """
        if not self.expires_at or now < self.expires_at:
            self.expires_at = max(self.expires_at, sent_at + self.ttl_s)

    def is_alive(self, now: float) -> bool:
        """Whether the session is open and certainly not expired."""
        return self.id != 0 and not self.lost and now < self.expires_at
