"""One client connection: bytes in, messages to the handler of its state, answers joined into few writes.

What messages mean is in `hello.py`, `requests.py` and `control.py`; this file knows none of it.

Invariants:
  1. After `close` nothing is handled and nothing is sent.
  2. Reading stops while the client does not read its answers, or has `in_flight_max` requests unanswered.
  3. Input never raises out of this file: a violation is counted, logged, and closes this connection only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import FRAME_BYTES_MAX, HEADER_BYTES, FrameDecoder, FrameError

if TYPE_CHECKING:
    from raftcoord.server.gateway import Gateway
    from raftcoord.server.session_clock import SessionEntry

HELLO_BYTES_MAX: Final = 16 * 1024
HELLO_TIMEOUT_S: Final = 5.0
ATTACH_TIMEOUT_S: Final = 30.0
SILENCE_MARGIN_S: Final = 1.0
OBSERVER_SILENCE_S: Final = 300.0
CLOSE_GRACE_S: Final = 2.0
WRITE_BUFFER_HIGH_BYTES: Final = 1024 * 1024  # over this, reading from the client stops
READ_ANSWERS_BYTES_MAX: Final = 16 * 1024 * 1024  # over this, reads are answered BUSY
WRITE_BUFFER_BYTES_MAX: Final = 64 * 1024 * 1024  # over this, the client is cut off

_encode: Final = msgspec.msgpack.Encoder().encode
_SHOWABLE: Final = frozenset({type(None), bool, int, float, str, bytes})


class ConnectionState(Enum):
    """What a connection is good for."""

    HELLO = "hello"  # nothing was said yet
    ATTACHING = "attaching"  # the answer to its hello is being decided
    SESSION = "session"
    OBSERVER = "observer"
    CLOSED = "closed"


class ProtocolViolation(Exception):
    """The client broke the protocol in a way that ends its connection. `reason` is a metric label."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


Handler = Callable[["Gateway", "Connection", Any], None]


def shown(value: Any) -> str:
    """Return a part of a message as a short text, for answers and logs."""
    # No repr of a container: it may be nested so deep that repr itself fails.
    return f"{value!r:.40}" if type(value) in _SHOWABLE else type(value).__name__


class Connection(asyncio.Protocol):
    """The server's end of one client connection."""

    __slots__ = (
        "_buffered_bytes",
        "_decoder",
        "_gateway",
        "_out",
        "_out_bytes",
        "_reading_paused",
        "_transport",
        "_write_paused",
        "closed",
        "connected_at",
        "entry",
        "handler",
        "heard_at",
        "is_surplus",
        "peer",
        "state",
        "unanswered",
        "waiting",
    )

    def __init__(self, gateway: Gateway, handler: Handler) -> None:
        self._gateway = gateway
        self._decoder = FrameDecoder(HELLO_BYTES_MAX)
        self._buffered_bytes = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._reading_paused = False
        self._write_paused = False
        self.state = ConnectionState.HELLO
        self.closed = False  # the same as state CLOSED, for the hot path
        self.handler = handler
        self.entry: SessionEntry | None = None
        self.is_surplus = False  # over the connection limit: its hello will be refused
        self.peer = "?"
        self.connected_at = self.heard_at = gateway.clock.now()
        self.unanswered: set[int] = set()  # sequences without any answer; bounded by in_flight_max
        self.waiting: set[int] = set()  # registered waits of the session, which the machine bounds

    def __repr__(self) -> str:
        session = self.entry.identifier if self.entry is not None else None
        return (
            f"<Connection peer={self.peer} state={self.state.value} session={session} "
            f"unanswered={len(self.unanswered)} waiting={len(self.waiting)} out_bytes={self._out_bytes}>"
        )

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH_BYTES)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple) and len(address) >= 2:
            self.peer = f"{address[0]}:{address[1]}"
        self._gateway.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        was_closed = self.closed
        if was_closed:
            return
        gateway = self._gateway
        gateway.metrics.bytes_received += len(data)
        self.heard_at = now = gateway.clock.now()
        if self.entry is not None:
            self.entry.heard_at = now
        try:
            messages = self._decoder.feed(data)
            for message in messages:
                if self.closed:  # by what the message before did
                    return
                self.handler(gateway, self, message)
        except FrameError as error:
            self.reject("frame", str(error))
        except ProtocolViolation as error:
            self.reject(error.reason, str(error))
        else:
            if self._decoder.buffered_bytes != self._buffered_bytes and not self.closed:
                self._account_buffer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._transport = None
        self._gateway.connection_closed(self)

    def pause_writing(self) -> None:
        self._write_paused = True
        self._update_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._update_reading()

    # --- what the handlers call

    def become(self, state: ConnectionState, handler: Handler) -> None:
        """Go on in another state; a connection that was accepted may send frames of full size."""
        self.state = state
        self.handler = handler
        self._decoder.frame_bytes_max = self._gateway.limits.frame_bytes_max

    def accept(self, sequence: int) -> bool:
        """Count a request as in flight; False when there are too many."""
        unanswered = self.unanswered
        if len(unanswered) >= self._gateway.limits.in_flight_max:
            return False
        unanswered.add(sequence)
        if len(unanswered) >= self._gateway.limits.in_flight_max:
            self._update_reading()
        return True

    def send(self, message: Any) -> None:
        """Send one message at the end of this turn of the loop, together with what else there is."""
        if self.closed:
            return
        payload = _encode(message)
        length = len(payload)
        if length > FRAME_BYTES_MAX:
            payload = _encode((message[0], int(Code.TOO_LARGE), f"an answer of {length} bytes fits no frame"))
            length = len(payload)
        if not self._out:
            self._gateway.wants_flush(self)
        self._out.append(length.to_bytes(HEADER_BYTES, "big"))
        self._out.append(payload)
        self._out_bytes += HEADER_BYTES + length

    def answer(self, sequence: int, code: int, payload: Any) -> None:
        """Answer a request; WAITING announces that a final answer follows as an effect."""
        unanswered = self.unanswered
        unanswered.discard(sequence)
        if code == Code.WAITING:
            self.waiting.add(sequence)
        if self._reading_paused:
            self._update_reading()
        self.send((sequence, code, payload))

    on_result = answer

    def set_aside(self, sequence: int) -> None:
        """A request that may wait for long does not count as in flight any more."""
        self.unanswered.discard(sequence)
        if self._reading_paused:
            self._update_reading()

    def complete(self, sequence: int, code: int, payload: Any) -> None:
        """Send the final answer of a registered wait."""
        self.waiting.discard(sequence)
        self.send((sequence, code, payload))

    def on_not_committed(self) -> None:
        self.on_not_leader()

    def on_not_leader(self) -> None:
        """This replica cannot serve: say who might, and close, so that the client repeats there."""
        if self.state is ConnectionState.ATTACHING:
            self._gateway.refuse_not_leader(self)
        elif self.state is ConnectionState.SESSION:
            self.send((0, int(Code.NOT_LEADER), self._gateway.leader_hint()))
            self.close()

    def on_session_ended(self) -> None:
        """The session is gone: answer what is open, and close."""
        for sequence in sorted(self.unanswered | self.waiting):
            self.send((sequence, int(Code.SESSION_LOST), "the session has ended"))
        self.close()

    def flush(self) -> None:
        """Hand everything that was sent to the transport, in one write."""
        transport = self._transport
        if not self._out or transport is None:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        self._gateway.metrics.bytes_sent += len(data)
        transport.write(data)
        if self._write_paused and transport.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            self.reject("slow_reader", f"over {WRITE_BUFFER_BYTES_MAX} bytes of answers were not read")

    def reject(self, reason: str, text: str) -> None:
        """Close at once because of what the client did; counted and logged."""
        if self.closed:
            return
        self._gateway.count_rejection(self, reason, text)
        self.flush()
        self._leave()
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what there is and close; a client that does not read is cut off after a grace time."""
        if self.closed:
            return
        self.flush()
        self._leave()
        transport = self._transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size() > 0:
                asyncio.get_running_loop().call_later(CLOSE_GRACE_S, transport.abort)

    # --- bounds

    @property
    def is_backlogged(self) -> bool:
        """Whether this replica, and not the client, is why nothing is heard from it."""
        return len(self.unanswered) >= self._gateway.limits.in_flight_max

    @property
    def is_congested(self) -> bool:
        """Whether so many answers wait to be read by the client that reads must be put off."""
        return self._out_bytes > READ_ANSWERS_BYTES_MAX or (
            self._write_paused
            and self._transport is not None
            and self._transport.get_write_buffer_size() > READ_ANSWERS_BYTES_MAX
        )

    def silence_deadline(self) -> float | None:
        """Return when to give up on this connection if nothing more is heard; None when it is closed."""
        match self.state:
            case ConnectionState.HELLO:
                return self.connected_at + HELLO_TIMEOUT_S
            case ConnectionState.ATTACHING:
                return self.connected_at + ATTACH_TIMEOUT_S
            case ConnectionState.OBSERVER:
                return self.heard_at + OBSERVER_SILENCE_S
            case ConnectionState.SESSION if self.entry is not None:
                return self.heard_at + self.entry.ttl_ms / 1000 + SILENCE_MARGIN_S
        return None

    def _leave(self) -> None:
        self.state = ConnectionState.CLOSED
        self.closed = True
        self._out.clear()
        self._out_bytes = 0
        self._gateway.buffered_bytes -= self._buffered_bytes
        self._buffered_bytes = 0
        self.unanswered.clear()
        self.waiting.clear()
        if self.entry is not None:
            if self.entry.connection is self:
                self.entry.connection = None
            self.entry = None

    def _update_reading(self) -> None:
        transport = self._transport
        if transport is None or self.closed:
            return
        in_flight_max = self._gateway.limits.in_flight_max
        # Resuming at half the bound avoids a pause and a resume for every single request.
        bound = in_flight_max // 2 if self._reading_paused else in_flight_max - 1
        pause = self._write_paused or len(self.unanswered) > bound
        if pause == self._reading_paused:
            return
        self._reading_paused = pause
        if pause:
            transport.pause_reading()
        else:
            transport.resume_reading()
            if self.entry is not None:
                self.entry.heard_at = self._gateway.clock.now()

    def _account_buffer(self) -> None:
        buffered = self._decoder.buffered_bytes
        self._gateway.buffered_bytes += buffered - self._buffered_bytes
        self._buffered_bytes = buffered
        if self._gateway.is_buffer_full(buffered):
            self.reject(
                "incomplete_frames", f"incomplete frames of all clients hold too much; {buffered} here"
            )
