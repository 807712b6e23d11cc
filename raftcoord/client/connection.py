"""One TCP connection to one replica: frames in, frames out.

Invariants:
  1. What is sent in one iteration of the loop leaves in one write.
  2. After `close`, and after the peer closed, nothing more is delivered, and `on_closed` ran exactly once.
  3. A child process never writes to, shuts down or polls the sockets that it inherited.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from raftcoord.client import forking
from raftcoord.protocol.frames import FRAME_BYTES_MAX, FrameDecoder, FrameError

_log = logging.getLogger(__name__)

WRITE_BUFFER_BYTES_MAX: Final = 1024 * 1024  # above this nothing more is sent until the peer has read

MessageHandler = Callable[[Any], None]


class Connection(asyncio.Protocol):
    """Speaks frames with `address`.

    `on_message` and `on_closed` are exchanged when the hello is over; `on_closed` may run inside `close`.
    """

    def __init__(self, address: str, on_message: MessageHandler, on_closed: Callable[[], None]) -> None:
        self.address = address
        self.on_message = on_message
        self.frame_bytes_max = FRAME_BYTES_MAX  # of what the replica takes
        self.writable = False
        self.heard = False  # anything came since somebody last cleared this
        self.on_closed: Callable[[], None] | None = on_closed  # None once it ran
        self.on_writable: Callable[[], None] | None = None
        self._decoder = FrameDecoder()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_scheduled = False
        self._transport: Any = None  # an asyncio.Transport in all but name: uvloop's does not inherit from it
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        state = "closed" if self.on_closed is None else "open" if self._transport else "connecting"
        return f"<Connection {self.address} {state} queued={len(self._out)}>"

    @property
    def is_open(self) -> bool:
        return self._transport is not None and self.on_closed is not None

    def send(self, frame: bytes) -> None:
        """Send one frame; dropped once closed.

        The first one of an iteration of the loop leaves at once, the others in one write at its end.
        """
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
            if self._transport is not None and self.on_closed is not None:
                self._transport.write(frame)  # may call pause_writing
            return
        self._out.append(frame)
        self._out_bytes += len(frame)
        if self._out_bytes > WRITE_BUFFER_BYTES_MAX:
            self.writable = False  # until the flush has shown what the transport makes of it

    def close(self) -> None:
        """Close at once; what was not written yet is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._finish()

    def finish(self) -> None:
        """Close once everything that was sent is written."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._finish()

    def connection_made(self, transport: Any) -> None:
        if self.on_closed is None:  # given up while the connect was under way
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        self.writable = True
        socket = transport.get_extra_info("socket")
        if socket is not None:  # a simulated network has none
            forking.watch(self, socket.fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self.on_writable is not None and self.on_closed is not None:
            self.on_writable()

    def data_received(self, data: bytes) -> None:
        self.heard = True
        try:
            for message in self._decoder.feed(data):
                if self.on_closed is None:
                    return
                self.on_message(message)
        except FrameError as error:
            _log.warning("replica_malformed address=%s error=%s", self.address, error)
            self.close()

    def _flush(self) -> None:
        self._flush_scheduled = False
        out, self._out = self._out, []
        large, self._out_bytes = self._out_bytes > WRITE_BUFFER_BYTES_MAX, 0
        if not out or self._transport is None or self.on_closed is None:
            return
        if large:
            self.writable = True
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))  # may call pause_writing
        if large and self.writable and self.on_writable is not None:
            self.on_writable()

    def _finish(self) -> None:
        self.writable = False
        forking.unwatch(self)
        on_closed, self.on_closed = self.on_closed, None
        if on_closed is not None:
            on_closed()
