"""Queues: items in order, getters and putters in line, and what comes back: loans and claims.

Invariants:
  1. Getters are served in line, and so are putters; one at the head that cannot be served holds up the rest.
  2. An item is in the queue, or on loan to one session, or claimed by one, or confirmed or acknowledged:
     never two of these, never none.
  3. A queue is in the table while it has items, waiters, loans, claims or a maxsize.
  4. The items of one answer fit into a frame; otherwise they would be on loan and could not be delivered.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from raftcoord.machine.claim import Claim, Item, decode_items, encode_items, size_of, value_of
from raftcoord.machine.context import TOO_MANY_HOLDS, Context
from raftcoord.machine.object_kind import TOO_MANY_OBJECTS, ObjectKind
from raftcoord.machine.outcome import DONE, NOT_HOLDER, OK, Result
from raftcoord.machine.session import Loan, Session
from raftcoord.machine.waiting import Waiter, Waiters, encode_waiters
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import FRAME_BYTES_MAX
from raftcoord.protocol.operations import BATCH_ITEMS_MAX, DRAIN_BYTES_MAX, LEASES_MAX, Operation

QUEUE_ITEMS_MAX: Final = 10_000_000  # also of a queue without maxsize: then it is full
GET_BYTES_MAX: Final = FRAME_BYTES_MAX - 64 * 1024  # BATCH_ITEMS_MAX items have headers of 5 bytes

_FULL: Result = (int(Code.FULL), None)
_EMPTY: Result = (int(Code.EMPTY), None)
_TOO_MANY: Result = (int(Code.TOO_LARGE), "more items than the queue's maxsize")
_TOO_LARGE: Result = (int(Code.TOO_LARGE), "so many of these items do not fit into one answer")
_TOO_MANY_CLAIMS: Result = (int(Code.LIMIT), "too many claims on this queue")
_DRAIN = -1


class Queue:
    """A named queue. `birth` tells its incarnation: a closed and reopened queue is another one."""

    __slots__ = (
        "birth",
        "claims",
        "getters",
        "items",
        "lent",
        "loans",
        "mark",
        "maxsize",
        "name",
        "putters",
    )

    def __init__(self, name: bytes, maxsize: int, birth: int, mark: int) -> None:
        self.name = name
        self.maxsize = maxsize
        self.birth = birth
        self.mark = mark
        self.items: deque[Item] = deque()
        self.getters: Waiters = OrderedDict()  # detail: count, or the limits of a claim
        self.putters: Waiters = OrderedDict()  # detail: values
        self.claims: dict[int, Claim] = {}  # by fence, in the order in which they were taken
        self.loans = 0  # not confirmed and not returned
        self.lent = 0  # loans and claims since its birth

    def __repr__(self) -> str:
        return (
            f"<Queue {self.name!r} items={len(self.items)} maxsize={self.maxsize} loans={self.loans} "
            f"claims={len(self.claims)} getters={len(self.getters)} putters={len(self.putters)}>"
        )

    def fields(self) -> list[Any]:
        """Return the queue as plain values."""
        return [
            self.name,
            self.maxsize,
            self.birth,
            self.loans,
            self.lent,
            encode_items(self.items),
            encode_waiters(self.getters),
            encode_waiters(self.putters),
            [[fence, *claim.fields()] for fence, claim in self.claims.items()],
        ]

    def has_room(self, count: int) -> bool:
        return len(self.items) + count <= min(self.maxsize or QUEUE_ITEMS_MAX, QUEUE_ITEMS_MAX)

    def is_nothing(self) -> bool:
        return not (self.items or self.getters or self.putters or self.loans or self.claims or self.maxsize)

    def fits_into_answer(self, count: int) -> bool:
        return sum(map(size_of, islice(self.items, count))) <= GET_BYTES_MAX

    def drain_count(self) -> int:
        """Return how many items a drain takes: all, or as many as its bounds allow."""
        size_bytes = 0
        for count, item in enumerate(islice(self.items, BATCH_ITEMS_MAX)):
            size_bytes += size_of(item)
            if size_bytes > DRAIN_BYTES_MAX:
                return count
        return min(len(self.items), BATCH_ITEMS_MAX)


class Queues(ObjectKind[Queue]):
    """All queues."""

    tag = "queues"
    fields_since_1 = ([],)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.operations = {
            Operation.QUEUE_PUT: self._put,
            Operation.QUEUE_GET: self._get,
            Operation.QUEUE_CLOSE: self._close,
            Operation.QUEUE_CLAIM: self._claim,
            Operation.QUEUE_ACK: self._ack,
            Operation.QUEUE_NACK: self._nack,
        }
        self.queries = {Operation.QUEUE_SIZE: self._size}

    # Operations.

    def _open(self, name: bytes, maxsize: int) -> Queue:
        """Return the queue, ready to be changed; its first operation makes it and decides its maxsize."""
        queue = self.table.get(name)
        if queue is None:
            birth = self.context.next_number()
            queue = self.table[name] = Queue(name, maxsize, birth, self.context.copies.generation)
        else:
            self.context.touch(queue)
        return queue

    def _refusal(self, name: bytes, maxsize: int, count: int) -> Result | None:
        """Return why an operation on so many items is refused before it makes or changes anything."""
        queue = self.table.get(name)
        if queue is None and self.is_full:
            return TOO_MANY_OBJECTS
        maxsize = maxsize if queue is None else queue.maxsize
        return _TOO_MANY if 0 < maxsize < count else None

    def _put(
        self, session: Session, sequence: int, name: bytes, maxsize: int, values: list[bytes], wait: bool
    ) -> Result:
        refusal = self._refusal(name, maxsize, len(values))
        if refusal is not None:
            return refusal
        queue = self._open(name, maxsize)
        if not queue.putters and queue.has_room(len(values)):
            queue.items.extend(values)
            size = len(queue.items)
            if queue.getters:
                self._serve(queue)
                self._drop_if_nothing(queue)
            return OK, size
        if not wait:
            return _FULL
        waiter = Waiter(self, name, session.id, sequence, int(Operation.QUEUE_PUT), values)
        return self.context.register(queue.putters, waiter)

    def _get(
        self, session: Session, sequence: int, name: bytes, maxsize: int, count: int, wait: bool
    ) -> Result:
        refusal = self._refusal(name, maxsize, count)
        if refusal is not None:
            return refusal
        queue = self._open(name, maxsize)
        result = self._get_from(queue, session, sequence, count, wait)
        self._drop_if_nothing(queue)
        return result

    def _get_from(self, queue: Queue, session: Session, sequence: int, count: int, wait: bool) -> Result:
        if count == _DRAIN:
            count = 0 if queue.getters else queue.drain_count()
        if count == 0:
            return OK, []
        if not queue.getters and len(queue.items) >= count:
            if not queue.fits_into_answer(count):
                return _TOO_LARGE
            values = self._lend(queue, session, sequence, count)
            if queue.putters:
                self._serve(queue)
            return OK, values
        if not wait:
            return _EMPTY
        waiter = Waiter(self, queue.name, session.id, sequence, int(Operation.QUEUE_GET), count)
        return self.context.register(queue.getters, waiter)

    def _lend(self, queue: Queue, session: Session, sequence: int, count: int) -> list[bytes]:
        take = queue.items.popleft
        items = [take() for _ in range(count)]
        queue.loans += 1
        queue.lent += 1
        session.loans[sequence] = Loan(queue=queue.name, birth=queue.birth, number=queue.lent, items=items)
        return [value_of(item) for item in items]

    def _claim(
        self, session: Session, sequence: int, name: bytes, maxsize: int, limits: list[Any], wait: bool
    ) -> Result:
        if not self.context.may_hold(session):
            return TOO_MANY_HOLDS
        refusal = self._refusal(name, maxsize, 1)
        if refusal is not None:
            return refusal
        queue = self._open(name, maxsize)
        result = self._claim_from(queue, session, sequence, limits, wait)
        self._drop_if_nothing(queue)
        return result

    def _claim_from(
        self, queue: Queue, session: Session, sequence: int, limits: list[Any], wait: bool
    ) -> Result:
        if len(queue.claims) >= LEASES_MAX:
            return _TOO_MANY_CLAIMS
        if not queue.getters and queue.items:
            payload = self._hand_out(queue, session, sequence, limits)
            if queue.putters:
                self._serve(queue)
            return OK, payload
        if not wait:
            return _EMPTY
        waiter = Waiter(self, queue.name, session.id, sequence, int(Operation.QUEUE_CLAIM), limits)
        return self.context.register(queue.getters, waiter)

    def _hand_out(self, queue: Queue, session: Session, sequence: int, limits: list[Any]) -> list[Any]:
        queue.lent += 1
        claim = Claim(session.id, sequence, queue.lent, queue.items.popleft(), limits)
        fence = self.context.hold(session, self, queue.name)
        queue.claims[fence] = claim
        return [fence, claim.value, claim.deliveries]

    def _ack(self, session: Session, sequence: int, name: bytes, fence: int) -> Result:
        claim = self._end_claim(session, name, fence)
        if claim is None:
            return NOT_HOLDER
        self.settle(name)
        return DONE

    def _nack(self, session: Session, sequence: int, name: bytes, fence: int) -> Result:
        claim = self._end_claim(session, name, fence)
        if claim is None:
            return NOT_HOLDER
        queue = self.table[name]
        dead_letters = self._bury(claim) if claim.is_dead else None
        if dead_letters is None:
            queue.items.appendleft(claim.item(claim.deliveries))
        self.settle(name)
        if dead_letters and dead_letters != name:
            self.settle(dead_letters)
        return DONE

    def _end_claim(self, session: Session, name: bytes, fence: int) -> Claim | None:
        """Take a claim out of its queue, for the session that has it; None when it has not."""
        if session.holds.get(fence) != (self, name):
            return None
        queue = self.table[name]
        self.context.touch(queue)
        del session.holds[fence]
        return queue.claims.pop(fence)

    def _bury(self, claim: Claim) -> bytes | None:
        """Put the item where it is not delivered again; return the name of that queue, b"" if it is dropped.

        None when that queue cannot be made: the item is then to be delivered again rather than lost.
        """
        name = claim.dead_letters
        if not name:
            return b""
        if name not in self.table and self.is_full:
            return None
        self._open(name, 0).items.append(claim.value)
        return name

    def _close(self, session: Session, sequence: int, name: bytes) -> Result:
        queue = self.table.get(name)
        if queue is None:
            return OK, False
        self.context.touch(queue)
        del self.table[name]
        for fence, claim in queue.claims.items():
            self.context.let_go(claim.session, fence)
        for waiters in (queue.getters, queue.putters):
            for waiter in list(waiters.values()):
                self.context.complete(waiters, waiter, int(Code.CLOSED), None)
        return OK, True

    def _size(self, name: bytes) -> Result:
        queue = self.table.get(name)
        return OK, 0 if queue is None else len(queue.items)

    # Serving.

    def _serve(self, queue: Queue) -> None:
        while self._serve_getter(queue) or self._serve_putter(queue):
            pass

    def _serve_getter(self, queue: Queue) -> bool:
        if not queue.getters:
            return False
        waiter = next(iter(queue.getters.values()))
        session = self.context.sessions[waiter.session]
        payload: list[Any]
        if waiter.operation == Operation.QUEUE_CLAIM:
            if not queue.items or len(queue.claims) >= LEASES_MAX:
                return False
            payload = self._hand_out(queue, session, waiter.sequence, waiter.detail)
        else:
            if len(queue.items) < waiter.detail:
                return False
            if not queue.fits_into_answer(waiter.detail):
                self.context.complete(queue.getters, waiter, *_TOO_LARGE)
                return True
            self.context.touch(session)
            payload = self._lend(queue, session, waiter.sequence, waiter.detail)
        self.context.complete(queue.getters, waiter, OK, payload)
        return True

    def _serve_putter(self, queue: Queue) -> bool:
        if not queue.putters:
            return False
        waiter = next(iter(queue.putters.values()))
        if not queue.has_room(len(waiter.detail)):
            return False
        queue.items.extend(waiter.detail)
        self.context.complete(queue.putters, waiter, OK, len(queue.items))
        return True

    def _drop_if_nothing(self, queue: Queue) -> None:
        if queue.is_nothing():
            del self.table[queue.name]

    def settle(self, name: bytes) -> None:
        queue = self.table.get(name)
        if queue is not None:
            self.context.touch(queue)
            self._serve(queue)
            self._drop_if_nothing(queue)

    def remove_waiter(self, waiter: Waiter) -> None:
        queue = self.table[waiter.name]
        self.context.touch(queue)
        waiters = queue.putters if waiter.operation == Operation.QUEUE_PUT else queue.getters
        del waiters[waiter.session, waiter.sequence]

    # What comes back.

    def _lender(self, loan: Loan) -> Queue | None:
        queue = self.table.get(loan.queue)
        return queue if queue is not None and queue.birth == loan.birth else None

    def loan_confirmed(self, loan: Loan) -> None:
        """The items are the client's for good."""
        queue = self._lender(loan)
        if queue is not None:
            self.context.touch(queue)
            queue.loans -= 1
            self._drop_if_nothing(queue)

    def take_back(self, session: Session, sequence: int) -> int:
        """Undo the loan or claim under this sequence, if there is one, and serve; return the item count."""
        loan = session.loans.get(sequence)
        if loan is None:
            return self._undo_claim(session, sequence)
        queue = self._lender(loan)
        if queue is None:
            return 0
        self.context.touch(queue)
        queue.loans -= 1
        queue.items.extendleft(reversed(loan.items))
        del session.loans[sequence]
        self.settle(loan.queue)
        return len(loan.items)

    def _undo_claim(self, session: Session, sequence: int) -> int:
        payload = session.answers.get(sequence, DONE)[1]
        fence: Any = payload[0] if type(payload) is list and payload else None
        kind, name = session.holds.get(fence, (None, b"")) if type(fence) is int else (None, b"")
        if kind is not self or self.table[name].claims[fence].sequence != sequence:
            return 0
        claim = self._end_claim(session, name, fence)
        assert claim is not None
        self.table[name].items.appendleft(claim.item(claim.deliveries - 1))
        self.settle(name)
        return 1

    def release(self, sessions: Sequence[Session], holds: Sequence[tuple[int, bytes]]) -> Iterable[bytes]:
        buried, back = self._end_claims(holds)
        for session in sessions:
            for loan in session.loans.values():
                queue = self._lender(loan)
                if queue is not None:
                    self.context.touch(queue)
                    queue.loans -= 1
                    back.append((loan.number, queue, loan.items))
        # The last one first, whoever took it, so that what was taken first ends up at the head.
        back.sort(key=lambda taken: taken[0], reverse=True)
        for _, queue, items in back:
            queue.items.extendleft(reversed(items))
        return [queue.name for _, queue, _ in back] + buried

    def _end_claims(
        self, holds: Sequence[tuple[int, bytes]]
    ) -> tuple[list[bytes], list[tuple[int, Queue, list[Item]]]]:
        """Bury what is dead; return the queues that changed by it, and what is to go back to its queue."""
        changed: list[bytes] = []
        back: list[tuple[int, Queue, list[Item]]] = []
        for fence, name in holds:
            queue = self.table[name]
            self.context.touch(queue)
            claim = queue.claims.pop(fence)
            dead_letters = self._bury(claim) if claim.is_dead else None
            if dead_letters is None:
                back.append((claim.number, queue, [claim.item(claim.deliveries)]))
            else:
                changed += [name, dead_letters]
        return changed, back

    # Snapshots.

    def decode(self, fields: list[Any]) -> None:
        name, maxsize, birth, loans, lent, items, getters, putters, claims = fields
        queue = self.table[name] = Queue(name, maxsize, birth, self.context.copies.generation)
        queue.loans, queue.lent = loans, lent
        queue.items.extend(decode_items(items))
        for fence, *claim_fields in claims:
            claim = queue.claims[fence] = Claim.decode(claim_fields)
            self.context.sessions[claim.session].holds[fence] = (self, name)
        self.restore_waiters(queue.getters, name, getters)
        self.restore_waiters(queue.putters, name, putters)
