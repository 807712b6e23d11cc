"""What a leader says without the log: only once a majority has answered it since it was asked.

Reads, keep-alives and hellos for old sessions leave no trace in the log, so nothing shows afterwards that a
leader which was deposed, or slept, should not have answered them: mostly what it says is still true.

Invariants of what is checked, for every process of a replica that leads:
  1. A read barrier is passed only when a majority, the leader included, has answered an append or a chunk
     that left after the barrier was asked for.
  2. So it is for every answer to a client that says what the store holds, or that a session lives, counted
     from the arrival of what is answered. Connections without a session promise nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raftcoord.consensus import messages as m
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import MAGIC
from raftcoord.server.connection import Connection, ConnectionState, Handler
from raftcoord.server.gateway import Gateway
from raftcoord.testing.simulation.violation import Violation

_ASK_FOR_ANSWERS: Final = frozenset({m.APPEND, m.SNAPSHOT_CHUNK})
# What a replica may say of itself, or of the request, whoever leads.
_SAYS_NOTHING: Final = frozenset(
    {
        Code.NOT_LEADER,
        Code.BUSY,
        Code.SHUTTING_DOWN,
        Code.SESSION_LOST,
        Code.TOO_LARGE,
        Code.MALFORMED,
        Code.UNKNOWN_OPERATION,
    }
)


class Confirmations:
    """What one process of a replica sent that asks for an answer, and what it was answered.

    Args:
        replicas: how many there are, this one included.
    """

    def __init__(self, name: str, replicas: int) -> None:
        self.name = name
        self.sent = 0  # the number of the newest append or chunk that has left
        self.is_watching = False  # whether messages are told to this; nothing is required before
        self._replicas = replicas
        self._answered: dict[str, int] = {}  # by peer: the newest of them that it answered

    def __repr__(self) -> str:
        return f"<Confirmations of {self.name} sent={self.sent} answered={self._answered}>"

    def on_sent(self, envelope: m.Envelope) -> None:
        """The replica sends a message."""
        if envelope["body"]["type"] in _ASK_FOR_ANSWERS:
            self.sent = max(self.sent, envelope["number"])

    def on_received(self, peer: str, envelope: m.Envelope) -> None:
        """A message of a peer arrives."""
        echo = envelope["echo"]
        if echo is not None:
            self._answered[peer] = max(self._answered.get(peer, 0), echo[1])

    def require(self, since: int, what: str) -> None:
        """Check that a majority answered what has left since `sent` was `since`. Raises Violation."""
        if not self.is_watching:
            return
        answered = sorted(peer for peer, number in self._answered.items() if number > since)
        if 2 * (1 + len(answered)) <= self._replicas:
            raise Violation(
                "confirmed since it was asked",
                f"{self.name} {what}; of what it sent since it was asked for that, from number {since + 1} "
                f"on, only {answered} answered something",
            )


class WatchedConnection(Connection):
    """A client's connection, of which is checked what is answered, and when that was asked.

    Args:
        check: `Scheduler.check`.
    """

    __slots__ = ("_arrived", "_asked", "_check", "_confirmations")

    def __init__(
        self, gateway: Gateway, handler: Handler, confirmations: Confirmations, check: Callable[..., None]
    ) -> None:
        super().__init__(gateway, handler)
        self._confirmations, self._check = confirmations, check
        self._arrived = 0  # what had left when the newest bytes, or the end of the hello, arrived
        self._asked: dict[int, int] = {}  # likewise, by the sequence of what is not answered

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.state is not ConnectionState.ATTACHING:
            self._arrived = self._confirmations.sent
        super().data_received(data)

    def accept(self, sequence: int) -> bool:
        """See `Connection.accept`."""
        if self.state is ConnectionState.SESSION:
            self._asked[sequence] = self._arrived
        return super().accept(sequence)

    def send(self, message: Any) -> None:
        """See `Connection.send`; a hello is answered by it alone."""
        if self.state is ConnectionState.SESSION and message[0] == MAGIC and message[2] == Code.OK:
            what = f"attaches a client to session {message[3]['session']}"
            self._check(self._confirmations.require, self._arrived, what)
        super().send(message)

    def answer(self, sequence: int, code: int, payload: Any) -> None:
        """See `Connection.answer`."""
        asked = self._asked.pop(sequence, None)
        if asked is not None and not self.closed and code not in _SAYS_NOTHING:
            what = f"answers request {sequence} of {self.peer} with code {code}"
            self._check(self._confirmations.require, asked, what)
        super().answer(sequence, code, payload)

    on_result = answer
