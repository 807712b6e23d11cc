"""The calls of a client over one session at a time: sent, repeated, answered, cancelled, undone.

Invariants:
  1. Every awaited call ends: with its answer, at its deadline, or when session or client end.
  2. A call that was sent is repeated under its sequence on every new connection until it is answered, or a
     CANCEL that stands for it is.
  3. What was granted to a caller who is gone is given back: items return to their queue, locks and leases are
     released.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from raftcoord.client.calls import Call, Undo
from raftcoord.client.connection import Connection
from raftcoord.client.hand_over import Accept, acceptance
from raftcoord.client.session_state import Session, SessionState
from raftcoord.protocol.errors import (
    CallTimeout,
    ClientClosed,
    Code,
    LimitReached,
    OutcomeUnknown,
    Overloaded,
    RaftcoordError,
    SessionLost,
    ValueTooLarge,
)
from raftcoord.protocol.frames import encode_frame
from raftcoord.protocol.operations import Operation
from raftcoord.runtime import Runtime

IN_FLIGHT_MAX: Final = 1024  # sent and unanswered, registered waits aside; more wait to be sent
UNSENT_MAX: Final = 100_000  # calls that wait to be sent; more are refused with Overloaded
REGISTERED_MAX: Final = 10_000  # waits in the log at a time; more are refused with LimitReached
CANCEL_GRACE_S: Final = 1.0  # how long past its deadline a wait may take to learn how it ended
CONFIRM_AFTER_S: Final = 0.005
BUSY_PAUSE_S: Final = 0.01

_OK: Final = int(Code.OK)
_TOO_LARGE: Final = int(Code.TOO_LARGE)


class ExchangeOwner(Protocol):
    """What the calls ask of the client around them."""

    def start(self) -> None:
        """See to it that a connection is made."""

    def leave(self, reason: str, hint: Any = None) -> None:
        """Drop the connection and look for the leader."""

    def on_session_lost(self, session: Session, reason: str) -> None: ...

    def why_not_connected(self) -> str: ...


class Exchange:
    """All calls of one client; belongs to the event loop that created it.

    Args:
        timeout_s: bound in seconds on calls that do not wait and have no timeout of their own.
    """

    def __init__(self, owner: ExchangeOwner, session: Session, timeout_s: float, runtime: Runtime) -> None:
        self.session = session
        self.connection: Connection | None = None
        self._owner = owner
        self._timeout_s = timeout_s
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._drained = asyncio.Event()
        self._last_call: Call | None = None  # the CLOSE_SESSION
        self._unsent: dict[Call, None] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._confirm_timer: asyncio.TimerHandle | None = None
        self._special: dict[int, Callable[[Call, Any], None]] = {
            Code.WAITING: self._on_waiting,
            Code.NOT_LEADER: self._on_not_leader,
            Code.SHUTTING_DOWN: self._on_not_leader,
            Code.BUSY: self._on_busy,
            Code.SESSION_LOST: self._on_session_lost,
        }

    def __repr__(self) -> str:
        return f"<Exchange unsent={len(self._unsent)} {self.session!r} {self.connection!r}>"

    @property
    def _state(self) -> SessionState:
        return self.session.state

    # Starting and sending

    async def request(
        self,
        operation: int,
        arguments: tuple[Any, ...],
        timeout_s: float | None,
        *,
        wait: bool = False,
        session: Session | None = None,
    ) -> tuple[int, Any]:
        """Make one call and return its code and payload.

        Args:
            timeout_s: bound in seconds; None for ever if `wait`, else the client's own bound.
            session: fail rather than make the call in any other session.

        Raises:
            CallTimeout: it did not finish in time, and nothing was done.
            OutcomeUnknown: it was sent, and nobody answered in time.
            SessionLost: the session ended before the answer came.
            ClientClosed, Overloaded, LimitReached: it was not even sent.
        """
        call = self._start(operation, arguments, timeout_s, wait, session)
        assert call.future is not None
        try:
            code, payload = await call.future
        except asyncio.CancelledError:
            self._abandon(call)
            raise
        if call.held:  # until now, so that a task cancelled meanwhile cannot swallow what it was granted
            if (accept := acceptance()) is not None:
                await self._hand_over(call, accept, payload)
            self._take(call)
        return code, payload

    def _start(
        self,
        operation: int,
        arguments: tuple[Any, ...],
        timeout_s: float | None,
        wait: bool,
        session: Session | None,
    ) -> Call:
        if self._closed:
            raise ClientClosed("the client is closed")
        current = self.session
        if session is not None and session is not current:
            raise SessionLost("the session of this call has ended")
        if wait and len(current.state.registered) >= REGISTERED_MAX:
            raise LimitReached(f"{REGISTERED_MAX} calls of this client wait already")
        loop, connection = self._loop, self.connection
        call = Call(operation, arguments, wait=wait, future=loop.create_future(), session=session)
        in_flight = len(current.state.blocking)
        if connection is not None and connection.writable and in_flight < IN_FLIGHT_MAX and not self._unsent:
            current.state.assign(call)
            self._send(call, connection)
        elif len(self._unsent) < UNSENT_MAX or call.traits.repeat_for_ever:  # refused, a lock would stay held
            self._unsent[call] = None
            self._owner.start()
        else:
            raise Overloaded(f"{UNSENT_MAX} calls of this client wait to be sent already")
        if timeout_s is not None:
            call.timer = loop.call_later(timeout_s, self._expire, call)
        elif not wait:
            call.deadline = self._runtime.clock.now() + self._timeout_s
            if self._sweep_timer is None:
                self._sweep_timer = loop.call_later(self._timeout_s, self._sweep)
        return call

    def _start_internal(self, operation: Operation, target: Call | None, *arguments: Any) -> Call:
        """Start a call of the client's own: awaited by nobody, repeated until it is answered."""
        call = Call(int(operation), arguments, target=target)
        self._state.assign(call)
        if self.connection is not None:
            self._send(call, self.connection)
        return call

    def _send(self, call: Call, connection: Connection) -> None:
        call.sends += 1
        acked = self.session.state.acked_for(call)
        frame = encode_frame([call.sequence, acked, call.operation, *call.arguments])
        if len(frame) <= connection.frame_bytes_max:
            connection.send(frame)
        else:  # sent, it would end the connection, and so would each repetition
            self._state.settle(call)
            self._fail(call, ValueTooLarge(f"a request of {len(frame)} bytes is over the replicas' limit"))

    def _pump(self) -> None:
        """Send what waits to be sent, as far as the bounds allow."""
        connection, state = self.connection, self._state
        while self._unsent and connection is not None and connection.writable:
            if len(state.blocking) >= IN_FLIGHT_MAX:
                return
            call = next(iter(self._unsent))
            del self._unsent[call]
            state.assign(call)
            self._send(call, connection)

    # Connections and sessions

    def attach(self, connection: Connection) -> None:
        """Continue on a new connection: repeat in order what is unanswered, then send what waits."""
        self.connection = connection
        connection.on_writable = self._pump
        for call in self._state.repeatable():
            self._send(call, connection)
        self._pump()
        self._confirm_soon()

    def detach(self) -> None:
        """The connection is gone. A wait past its deadline does not hope for an answer any longer."""
        self.connection = None
        if self._closed:
            self._drained.set()
            if self._last_call is not None:
                self._fail(self._last_call, ClientClosed("the connection is gone"))
        for call in self._state.open_calls():
            if call.cancelled and call.is_awaited:
                self._give_up(call)

    def replace_session(self, session: Session, error: RaftcoordError) -> None:
        """The session is lost: what was sent in it fails with `error`; what was not is sent in the next."""
        lost, self.session = self.session, session
        bound = [call for call in self._unsent if call.session is lost]
        for call in bound:
            del self._unsent[call]
        for call in lost.state.open_calls() + bound:
            self._fail(call, error)

    def fail_unsent(self, error: RaftcoordError) -> None:
        unsent, self._unsent = self._unsent, {}
        for call in unsent:
            self._fail(call, error)

    def _fail(self, call: Call, error: RaftcoordError) -> None:
        call.stop_timer()
        if call.future is not None and not call.future.done():
            call.future.set_exception(type(error)(*error.args))

    # Answers

    def on_answer(self, sequence: int, code: int, payload: Any) -> None:
        """Take the answer to a request; one that is not expected (any more) is ignored."""
        call = self.session.state.find(sequence)
        if call is None:
            return
        if code:
            special = self._special.get(code)
            if special is not None:
                special(call, payload)
                return
        state = self.session.state
        state.finish(call, code)
        target = call.target
        if target is None:
            self._deliver(call, code, payload)
        else:
            state.settle(call)
            self._on_target_answer(call, target, code, payload)
        if self._unsent:
            self._pump()
        if self._closed and not state.has_unanswered:
            self._drained.set()

    def _on_waiting(self, call: Call, payload: Any) -> None:
        self._state.register(call)
        if self._unsent:
            self._pump()

    def _on_not_leader(self, call: Call, payload: Any) -> None:
        self._owner.leave("it leads no more", payload)

    def _on_busy(self, call: Call, payload: Any) -> None:
        pause_s = BUSY_PAUSE_S * (0.5 + self._runtime.rng.random())
        self._loop.call_later(pause_s, self._repeat, call, self.connection)

    def _on_session_lost(self, call: Call, payload: Any) -> None:
        self._owner.on_session_lost(self.session, "the replicas ended it")

    def _repeat(self, call: Call, connection: Connection | None) -> None:
        # On another connection it was repeated already when that one was attached.
        if connection is not None and connection is self.connection and not (call.answered or call.cancelled):
            self._send(call, connection)

    def _on_target_answer(self, call: Call, target: Call, code: int, payload: Any) -> None:
        """A CANCEL or RETURN was answered, which says how its target ended."""
        if call.operation == Operation.RETURN:
            self._state.settle(target)
        elif not target.answered:
            target_code, target_payload = int(Code.CANCELLED), None
            if code == _OK and isinstance(payload, list) and len(payload) == 2:
                target_code, target_payload = payload
            self._state.finish(target, target_code)
            self._deliver(target, target_code, target_payload)

    def _deliver(self, call: Call, code: int, payload: Any) -> None:
        """Hand the final answer to the caller; when there is none any more, undo what was granted."""
        if call.timer is not None:
            call.stop_timer()
        if call.wait:
            call.answer_bytes = _size_of(payload)
        undo = call.traits.undo
        granted = code == _OK and undo is not Undo.NOTHING
        # Items that fit into no frame stayed behind, on loan to this session.
        stranded = code == _TOO_LARGE and call.traits.is_loan
        if not granted and not stranded:
            self.session.state.settle(call)
            if call.registered:
                self._confirm_soon()  # if many are stored by now, because nothing went to the log
        future = call.future
        awaited = future is not None and not future.done()
        if stranded or (granted and not awaited):
            self._undo(call, payload)
        if future is not None and awaited:
            call.held = granted
            future.set_result((code, payload))

    async def _hand_over(self, call: Call, accept: Accept, payload: Any) -> None:
        """Let whoever called from elsewhere take a grant; when that fails, it is given back."""
        try:
            await accept(payload)
        except BaseException:
            self._abandon(call)
            raise

    def _take(self, call: Call) -> None:
        """The caller has what it was granted: that may be confirmed now."""
        call.held = False
        if not self._state.is_open(call):
            raise SessionLost("the session ended before its answer was taken")
        self._state.settle(call, took=True)
        self._confirm_soon()
        if self._unsent:
            self._pump()

    # Confirmations

    def _confirm_soon(self) -> None:
        if self._confirm_timer is None and self._state.needs_confirm():
            self._confirm_timer = self._loop.call_later(CONFIRM_AFTER_S, self._confirm)

    def _confirm(self) -> None:
        """End loans whose confirmation found no command to ride on."""
        self._confirm_timer = None
        if self.connection is None or not self._state.needs_confirm():
            return
        if self._state.can_confirm():
            self._start_internal(Operation.CONFIRM, None)
        self._confirm_soon()  # the rest, once older calls do not hold the floor down any more

    # Deadlines, cancellation, undoing

    def _sweep(self) -> None:
        """Expire the calls whose bound is the client's own; they are in the order of their deadlines."""
        self._sweep_timer = None
        now = self._runtime.clock.now()
        # Only `blocking` and `unsent`: a call without a timeout of its own is never a registered wait.
        for call in (*self._state.blocking.values(), *self._unsent):
            if not call.deadline or not call.is_awaited:
                continue
            if call.deadline > now:
                self._sweep_timer = self._loop.call_later(call.deadline - now, self._sweep)
                return
            self._expire(call)

    def _expire(self, call: Call) -> None:
        """The time of a call is over. A wait still learns how it ended, if a replica is there to ask."""
        call.timer = None
        if not call.is_awaited:
            return
        can_ask = call.wait and call.is_logged and self.connection is not None
        if call.sequence and can_ask and not call.cancelled:
            self._cancel(call)
            call.timer = self._loop.call_later(CANCEL_GRACE_S, self._expire, call)
        else:
            self._give_up(call)

    def _give_up(self, call: Call) -> None:
        """End a call for its caller; what it may yet take is undone in the background."""
        assert call.future is not None
        operation = Operation(call.operation).name
        if not call.sequence and not call.traits.repeat_for_ever:
            why = self._owner.why_not_connected()
            call.future.set_exception(CallTimeout(f"{operation} was not sent in time: {why}"))
        elif call.traits.quiet_timeout:
            call.future.set_exception(CallTimeout(f"{operation} was not answered in time"))
        else:
            call.future.set_exception(OutcomeUnknown(f"{operation} was not answered in time"))
        self._abandon(call)

    def _abandon(self, call: Call) -> None:
        """Nobody awaits this call any more."""
        call.stop_timer()
        if not call.sequence:
            if not call.traits.repeat_for_ever:
                self._unsent.pop(call, None)
        elif not self._state.is_open(call):
            return  # settled, or its session is lost
        elif call.held:
            assert call.future is not None
            call.held = False
            self._undo(call, call.future.result()[1])
        elif call.answered or call.cancelled or call.traits.repeat_for_ever:
            return
        elif call.is_logged:
            self._cancel(call)
        else:
            self._state.settle(call)  # a read: whether it is answered is of no interest
            self._pump()

    def _cancel(self, call: Call) -> None:
        self._state.cancel(call)
        self._start_internal(Operation.CANCEL, call, call.sequence)

    def _undo(self, call: Call, payload: Any) -> None:
        """Give back what was granted to a call that nobody awaits."""
        if call.traits.undo is Undo.RETURN:
            self._start_internal(Operation.RETURN, call, call.sequence)
        else:
            self._state.settle(call)
            operation, arguments = call.release(payload)
            self._start_internal(operation, None, *arguments)

    # Closing

    async def close(self, limit_s: float) -> None:
        """Refuse new calls, wait for those under way, confirm, and end the session; bounded in seconds."""
        self._closed = True
        self.fail_unsent(ClientClosed("the client was closed before the call was sent"))
        try:
            async with asyncio.timeout(limit_s):
                if self.connection is not None and self._state.has_unanswered:
                    # Items in hand must be confirmed, and older calls hold the floor below them.
                    await self._drained.wait()
                if self.connection is not None:
                    await self._end_session()
        except (TimeoutError, RaftcoordError):
            pass  # the session ends with its time to live instead
        finally:
            for timer in (self._sweep_timer, self._confirm_timer):
                if timer is not None:
                    timer.cancel()

    async def _end_session(self) -> None:
        self._last_call = call = self._start_internal(Operation.CLOSE_SESSION, None)
        call.future = self._loop.create_future()
        await call.future


def _size_of(payload: Any) -> int:
    """Return how many bytes the values of an answer are together."""
    if isinstance(payload, bytes):
        return len(payload)
    return sum(map(_size_of, payload)) if isinstance(payload, list) else 0
