"""One call of the user, or of the client itself, from its start until its answer is settled.

Pure: no clock, no socket; `future` and `timer` are only carried along for the owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from raftcoord.protocol.operations import OPERATIONS, Kind, Operation

if TYPE_CHECKING:
    import asyncio

    from raftcoord.client.session_state import Session, Unconfirmed


class Undo(Enum):
    """What must follow when a call was granted and nobody wants the result any more."""

    NOTHING = "nothing"
    RETURN = "return the items"
    RELEASE = "release what was granted"


@dataclass(frozen=True, slots=True)
class Traits:
    """What the client must know of an operation beyond its arguments.

    `logged`: it is sure to reach the log, so that what it confirms is taken in.
    `logged_when_waiting`: it reaches the log if it has to wait.
    `repeat_for_ever`: when nobody awaits it any more it is still repeated rather than cancelled.
    `quiet_timeout`: when nobody answers, the caller learns of a timeout and nothing worse, because the
    background undoes whatever the call may have taken.
    `is_loan`: what it took goes back at the end of the session unless it is confirmed.
    """

    logged: bool
    logged_when_waiting: bool
    repeat_for_ever: bool
    quiet_timeout: bool
    undo: Undo
    is_loan: bool


_RELEASE_OF: Final = {
    Operation.LOCK_ACQUIRE: Operation.LOCK_RELEASE,
    Operation.SEMAPHORE_ACQUIRE: Operation.SEMAPHORE_RELEASE,
    Operation.MULTILOCK_ACQUIRE: Operation.MULTILOCK_RELEASE,
    Operation.RWLOCK_ACQUIRE: Operation.RWLOCK_RELEASE,
}
_REPEAT_FOR_EVER: Final = frozenset(
    {
        Operation.CLOSE_SESSION,
        Operation.CONFIRM,
        Operation.CANCEL,
        Operation.RETURN,
        Operation.QUEUE_ACK,
        Operation.QUEUE_NACK,
        *_RELEASE_OF.values(),  # cancelled, it would leave something held that nobody knows of
    }
)
_UNDO: Final = {
    Operation.QUEUE_GET: Undo.RETURN,
    Operation.QUEUE_CLAIM: Undo.RETURN,  # a NACK would count as a delivery
    **dict.fromkeys(_RELEASE_OF, Undo.RELEASE),
}
TRAITS: Final[dict[int, Traits]] = {
    code: Traits(
        logged=spec.kind in (Kind.WRITE, Kind.WAIT),
        logged_when_waiting=spec.kind is Kind.READ_OR_WAIT,
        repeat_for_ever=spec.operation in _REPEAT_FOR_EVER,
        quiet_timeout=spec.kind in (Kind.READ, Kind.READ_OR_WAIT) or spec.operation in _UNDO,
        undo=_UNDO.get(spec.operation, Undo.NOTHING),
        is_loan=spec.operation is Operation.QUEUE_GET,
    )
    for code, spec in OPERATIONS.items()
}


class Call:
    """A request and what is known of its answer.

    sequence    0 until it is first sent
    sends       how often it was sent; above 1 its `WAITING` may have been lost with a connection
    registered  `WAITING` came: the wait is in the log
    answered    the final answer came
    held        it was granted something, and its caller did not take it yet
    cancelled   a CANCEL stands for it: it is not repeated itself any more
    listed      confirmations that ride on it, by sequence
    answer_bytes  of a wait that was answered: how much the values are that came
    target      of a CANCEL or RETURN: the call that it is about
    session     the only session in which it makes sense, or None
    """

    __slots__ = (
        "answer_bytes",
        "answered",
        "arguments",
        "cancelled",
        "deadline",
        "future",
        "held",
        "listed",
        "operation",
        "registered",
        "sends",
        "sequence",
        "session",
        "target",
        "timer",
        "traits",
        "wait",
    )

    def __init__(
        self,
        operation: int,
        arguments: tuple[Any, ...],
        *,
        wait: bool = False,
        future: asyncio.Future[tuple[int, Any]] | None = None,
        target: Call | None = None,
        session: Session | None = None,
    ) -> None:
        self.operation = operation
        self.arguments = arguments
        self.traits = TRAITS[operation]
        self.wait = wait
        self.future = future
        self.target = target
        self.session = session
        self.sequence = 0
        self.sends = 0
        self.registered = False
        self.answered = False
        self.held = False
        self.cancelled = False
        self.listed: dict[int, Unconfirmed] = {}
        self.answer_bytes = 0
        self.deadline = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        flags = [name for name in ("registered", "answered", "held", "cancelled") if getattr(self, name)]
        name = Operation(self.operation).name
        return f"<Call {name} sequence={self.sequence} sends={self.sends} {' '.join(flags)}>"

    @property
    def is_logged(self) -> bool:
        """Whether the log may know this call."""
        return self.traits.logged or (self.wait and self.traits.logged_when_waiting)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody still waits for the result."""
        return self.future is not None and not self.future.done()

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def release(self, payload: Any) -> tuple[Operation, tuple[Any, ...]]:
        """Return the operation, with its arguments, that gives back what the call was granted."""
        operation = _RELEASE_OF[Operation(self.operation)]
        fence = payload[0] if type(payload) is list and payload else payload
        name = self.arguments[:1] if "name" in OPERATIONS[operation].argument_names else ()
        return operation, (*name, fence)
