"""One client's session: which answers it may still ask for, what it waits for, and what it holds.

Invariants (see docs/protocol.md, "What the machine does with a command"):
  1. A sequence is applied once: it is stored, waiting, at or below the floor, or new.
  2. The answer of a registered wait outlives the floor until the client lists it as confirmed.
  3. A loan lasts exactly as long as the stored answer that carries it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from raftcoord.machine.claim import Item, decode_items, encode_items
from raftcoord.machine.outcome import Result
from raftcoord.machine.waiting import Waiter

if TYPE_CHECKING:
    from raftcoord.machine.object_kind import ObjectKind

OPEN_SEQUENCES_MAX: Final = 100_000


class Loan:
    """Items handed to a session that has not confirmed them.

    `birth` names the queue's incarnation, `number` counts the loans of that queue.
    """

    __slots__ = ("birth", "items", "number", "queue")

    def __init__(self, *, queue: bytes, birth: int, number: int, items: list[Item]) -> None:
        self.queue, self.birth, self.number, self.items = queue, birth, number, items

    def __repr__(self) -> str:
        return f"<Loan {self.number} of {self.queue!r} birth={self.birth} items={len(self.items)}>"


class Session:
    """State of one session. Mutate only after `Context.touch`."""

    __slots__ = (
        "answers",
        "client_name",
        "floor",
        "holds",
        "id",
        "loans",
        "mark",
        "nonce",
        "registered",
        "ttl_ms",
        "waits",
    )

    def __init__(self, session_id: int, nonce: bytes, ttl_ms: int, client_name: str, mark: int) -> None:
        self.id = session_id
        self.nonce = nonce
        self.ttl_ms = ttl_ms
        self.client_name = client_name
        self.mark = mark
        self.floor = 0
        self.answers: dict[int, Result] = {}
        self.registered: set[int] = set()  # answered waits that the floor must not drop; never iterated
        self.waits: dict[int, Waiter] = {}
        self.loans: dict[int, Loan] = {}  # in the order in which they were taken
        # By fence. Not stored: it is in the objects. In the order of the grants, but not after a restore.
        self.holds: dict[int, tuple[ObjectKind[Any], bytes]] = {}

    def __repr__(self) -> str:
        return (
            f"<Session {self.id} floor={self.floor} answers={len(self.answers)} waits={len(self.waits)} "
            f"loans={len(self.loans)} holds={len(self.holds)}>"
        )

    def confirm(self, acked: int | list[int]) -> list[Loan]:
        """Take in an `acked` field; return the loans that it ends."""
        ended: list[Loan] = []
        floor = acked if isinstance(acked, int) else acked[0]
        if floor > self.floor:
            self._raise_floor(floor, ended)
        if not isinstance(acked, int):
            for sequence in acked[1:]:
                # Above the floor only the stored answer keeps a late duplicate from being applied again.
                if sequence <= self.floor and sequence in self.registered:
                    self.registered.discard(sequence)
                    self._drop(sequence, ended)
        return ended

    def _raise_floor(self, floor: int, ended: list[Loan]) -> None:
        answers, registered = self.answers, self.registered
        if floor - self.floor <= len(answers):
            passed: Any = range(self.floor + 1, floor + 1)
        else:
            passed = [sequence for sequence in answers if sequence <= floor]
        self.floor = floor
        for sequence in passed:
            if sequence in answers and sequence not in registered:
                self._drop(sequence, ended)

    def _drop(self, sequence: int, ended: list[Loan]) -> None:
        self.answers.pop(sequence, None)
        loan = self.loans.pop(sequence, None)
        if loan is not None:
            ended.append(loan)

    @property
    def is_full(self) -> bool:
        """Whether no further sequence may be opened before some are confirmed."""
        return len(self.answers) + len(self.waits) >= OPEN_SEQUENCES_MAX

    def fields(self) -> list[Any]:
        """Return the session as plain values; waits and what it holds are in the objects."""
        return [
            self.id,
            self.nonce,
            self.ttl_ms,
            self.client_name,
            self.floor,
            list(self.answers.items()),
            sorted(self.registered),
            [
                [sequence, loan.queue, loan.birth, loan.number, encode_items(loan.items)]
                for sequence, loan in self.loans.items()
            ],
        ]

    @classmethod
    def decode(cls, fields: list[Any], mark: int) -> Session:
        """Return the session with these fields."""
        session_id, nonce, ttl_ms, client_name, floor, answers, registered, loans = fields
        session = cls(session_id, nonce, ttl_ms, client_name, mark)
        session.floor = floor
        session.answers = {sequence: (code, payload) for sequence, (code, payload) in answers}
        session.registered = set(registered)
        session.loans = {
            sequence: Loan(queue=queue, birth=birth, number=number, items=decode_items(items))
            for sequence, queue, birth, number, items in loans
        }
        return session
