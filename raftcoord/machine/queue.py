"""Queues: items in order, getters and putters in line, and loans that come back.

Invariants:
  1. Getters are served in line, and so are putters; one at the head that cannot be served holds up the rest.
  2. An item is in the queue, or on loan to one session, or confirmed: never two of these, never none.
  3. A queue is in the table while it has items, waiters, loans or a maxsize.
  4. The items of one answer fit into a frame; otherwise they would be on loan and could not be delivered.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from raftcoord.machine.context import Context
from raftcoord.machine.object_kind import TOO_MANY_OBJECTS, ObjectKind
from raftcoord.machine.outcome import OK, Result
from raftcoord.machine.session import Loan, Session
from raftcoord.machine.waiting import Waiter, Waiters, encode_waiters
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import FRAME_BYTES_MAX
from raftcoord.protocol.operations import BATCH_ITEMS_MAX, DRAIN_BYTES_MAX, Operation

QUEUE_ITEMS_MAX: Final = 10_000_000  # also of a queue without maxsize: then it is full
GET_BYTES_MAX: Final = FRAME_BYTES_MAX - 64 * 1024  # BATCH_ITEMS_MAX items have headers of 5 bytes

_FULL: Result = (int(Code.FULL), None)
_EMPTY: Result = (int(Code.EMPTY), None)
_TOO_MANY: Result = (int(Code.TOO_LARGE), "more items than the queue's maxsize")
_TOO_LARGE: Result = (int(Code.TOO_LARGE), "so many of these items do not fit into one answer")
_DRAIN = -1


class Queue:
    """A named queue. `birth` tells its incarnation: a closed and reopened queue is another one."""

    __slots__ = ("birth", "getters", "items", "lent", "loans", "mark", "maxsize", "name", "putters")

    def __init__(self, name: bytes, maxsize: int, birth: int, mark: int) -> None:
        self.name = name
        self.maxsize = maxsize
        self.birth = birth
        self.mark = mark
        self.items: deque[bytes] = deque()
        self.getters: Waiters = OrderedDict()  # detail: count
        self.putters: Waiters = OrderedDict()  # detail: values
        self.loans = 0  # not confirmed and not returned
        self.lent = 0  # since its birth

    def __repr__(self) -> str:
        return (
            f"<Queue {self.name!r} items={len(self.items)} maxsize={self.maxsize} loans={self.loans} "
            f"getters={len(self.getters)} putters={len(self.putters)}>"
        )

    def fields(self) -> list[Any]:
        """Return the queue as plain values."""
        return [
            self.name,
            self.maxsize,
            self.birth,
            self.loans,
            self.lent,
            list(self.items),
            encode_waiters(self.getters),
            encode_waiters(self.putters),
        ]

    def has_room(self, count: int) -> bool:
        return len(self.items) + count <= min(self.maxsize or QUEUE_ITEMS_MAX, QUEUE_ITEMS_MAX)

    def is_nothing(self) -> bool:
        return not (self.items or self.getters or self.putters or self.loans or self.maxsize)

    def fits_into_answer(self, count: int) -> bool:
        return sum(map(len, islice(self.items, count))) <= GET_BYTES_MAX

    def drain_count(self) -> int:
        """Return how many items a drain takes: all, or as many as its bounds allow."""
        size_bytes = 0
        for count, item in enumerate(islice(self.items, BATCH_ITEMS_MAX)):
            size_bytes += len(item)
            if size_bytes > DRAIN_BYTES_MAX:
                return count
        return min(len(self.items), BATCH_ITEMS_MAX)


class Queues(ObjectKind[Queue]):
    """All queues."""

    tag = "queues"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.operations = {
            Operation.QUEUE_PUT: self._put,
            Operation.QUEUE_GET: self._get,
            Operation.QUEUE_CLOSE: self._close,
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
        values = [take() for _ in range(count)]
        queue.loans += 1
        queue.lent += 1
        session.loans[sequence] = Loan(queue=queue.name, birth=queue.birth, number=queue.lent, values=values)
        return values

    def _close(self, session: Session, sequence: int, name: bytes) -> Result:
        queue = self.table.get(name)
        if queue is None:
            return OK, False
        self.context.touch(queue)
        del self.table[name]
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
        if len(queue.items) < waiter.detail:
            return False
        if not queue.fits_into_answer(waiter.detail):
            self.context.complete(queue.getters, waiter, *_TOO_LARGE)
            return True
        session = self.context.sessions[waiter.session]
        self.context.touch(session)
        values = self._lend(queue, session, waiter.sequence, waiter.detail)
        self.context.complete(queue.getters, waiter, OK, values)
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
        waiters = queue.getters if waiter.operation == Operation.QUEUE_GET else queue.putters
        del waiters[waiter.session, waiter.sequence]

    # Loans.

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
        """End the loan under this sequence, if there is one, and serve; return how many items came back."""
        loan = session.loans.get(sequence)
        if loan is None or not self._take_back(loan):
            return 0
        del session.loans[sequence]
        self.settle(loan.queue)
        return len(loan.values)

    def _take_back(self, loan: Loan) -> bool:
        """Put the items back at the head, in their order, without serving anyone; False if it is closed."""
        queue = self._lender(loan)
        if queue is None:
            return False
        self.context.touch(queue)
        queue.loans -= 1
        queue.items.extendleft(reversed(loan.values))
        return True

    def release(self, sessions: Sequence[Session]) -> Iterable[bytes]:
        # The last one first, whoever took it, so that what was taken first ends up at the head.
        loans = sorted(
            (loan for session in sessions for loan in session.loans.values()),
            key=lambda loan: loan.number,
            reverse=True,
        )
        return [loan.queue for loan in loans if self._take_back(loan)]

    # Snapshots.

    def decode(self, fields: list[Any]) -> None:
        name, maxsize, birth, loans, lent, items, getters, putters = fields
        queue = self.table[name] = Queue(name, maxsize, birth, self.context.copies.generation)
        queue.loans, queue.lent = loans, lent
        queue.items.extend(items)
        self.restore_waiters(queue.getters, name, getters)
        self.restore_waiters(queue.putters, name, putters)
