"""One simulated connection: two transports, and a stream of bytes in each direction.

Invariants:
  1. A transport calls its protocol only from its own process: `connection_made` first, `connection_lost`
     last and once.
  2. After `close` or `abort` the protocol is given no more data.
"""

from __future__ import annotations

import asyncio
import errno
import os
import zlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from raftcoord.runtime.network import ProtocolFactory
from raftcoord.testing.simulation.process import Process

if TYPE_CHECKING:
    from raftcoord.testing.simulation.network import SimNetwork

SOCKET_BUFFER_BYTES: Final = 128 * 1024  # what the systems of both ends hold; more stays with the sender
HIGH_WATER_BYTES: Final = 64 * 1024
SPLIT_PROBABILITY: Final = 0.05  # how often what was written at once arrives in two parts

_END: Final = b""  # what a stream carries last


class Stream:
    """One direction: chunks in order, each with the time at which it would arrive if nothing blocks it."""

    __slots__ = ("_armed", "_chunks", "_last_arrival", "_network", "direction", "pending_bytes", "target")

    def __init__(self, network: SimNetwork, target: SimTransport, direction: tuple[str, str]) -> None:
        self._network = network
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._last_arrival = 0.0
        self._armed = False
        self.target = target
        self.direction = direction
        self.pending_bytes = 0

    def __repr__(self) -> str:
        return f"<Stream {self.direction} chunks={len(self._chunks)} bytes={self.pending_bytes}>"

    def send(self, data: bytes, now: float) -> None:
        """Put bytes on their way; the empty one ends the stream."""
        rng = self._network.rng
        if len(data) > 1 and rng.random() < SPLIT_PROBABILITY:
            cut = rng.randrange(1, len(data))
            self._put(data[:cut], now)
            data = data[cut:]
        self._put(data, now)

    def _put(self, data: bytes, now: float) -> None:
        rules = self._network.rules
        begin = max(self._last_arrival, now + rules.delay_s(*self.direction))
        self._last_arrival = begin + rules.transfer_s(*self.direction, len(data))
        self._chunks.append((self._last_arrival, data))
        self.pending_bytes += len(data)
        self._arm()

    def _arm(self) -> None:
        if self._chunks and not self._armed:
            self._armed = True
            self._network.scheduler.plan(self._chunks[0][0], self._arrive)

    def _arrive(self) -> None:
        if not self._chunks:
            self._armed = False
        elif self._network.rules.is_blocked(*self.direction):
            self._network.hold(self)
        else:
            self._armed = False
            _, data = self._chunks.popleft()
            self.pending_bytes -= len(data)
            self._network.scheduler.mix(len(data), zlib.crc32(data))
            self.target.arrived(data)
            self._arm()

    def go_on(self) -> None:
        """The direction is open again."""
        self._arrive()

    def drop(self) -> None:
        """Lose everything that has not arrived."""
        self._chunks.clear()
        self.pending_bytes = 0


class SimTransport(asyncio.Transport):
    """One end of a connection."""

    peer: SimTransport
    outgoing: Stream

    def __init__(self, network: SimNetwork, process: Process, host: str, peername: tuple[str, int]) -> None:
        super().__init__()
        self._network = network
        self._process = process
        self._peername = peername
        self._protocol: Any = None
        self._received: deque[bytes] = deque()
        self._is_reading = True
        self._is_closing = False
        self._is_lost = False  # `connection_lost` was called, or will be
        self._is_gone = False  # nothing is known of this connection here any more
        self._high_bytes = HIGH_WATER_BYTES
        self._is_write_paused = False
        self.host = host

    def __repr__(self) -> str:
        return f"<SimTransport {self.host} to {self._peername} closing={self._is_closing}>"

    def join(self, peer: SimTransport) -> None:
        """Name the other end."""
        self.peer = peer
        self.outgoing = Stream(self._network, peer, (self.host, peer.host))

    def begin(self, factory: ProtocolFactory) -> None:
        """Hand the connection to a new protocol, in the process's next iteration."""
        self._soon(lambda: self.begin_now(factory()))

    def begin_now(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to a protocol at once; only from inside the process."""
        if self._is_closing:
            return  # it broke before anybody looked at it
        self._protocol = protocol
        protocol.connection_made(self)
        self._feed_all_soon()

    def abandon(self) -> None:
        """The caller of connect gave up: close without ever having had a protocol."""
        self._is_closing = self._is_lost = True
        self._end()

    def _soon(self, function: Callable[..., object], *arguments: Any) -> None:
        if self._process.is_alive:
            self._process.loop.call_soon(function, *arguments)

    # What arrives.

    def arrived(self, data: bytes) -> None:
        """Take what the stream from the other end brings."""
        if self._is_gone or not self._process.is_alive:
            if self.host not in self._network.down_hosts:
                self.reset_peer()
            return
        if self._is_closing:
            return
        self._received.append(data)
        self._feed_soon()

    def _feed_soon(self) -> None:
        if self._received and self._is_reading and self._protocol is not None:
            self._soon(self._feed)

    def _feed_all_soon(self) -> None:
        for _ in self._received:
            self._feed_soon()

    def _feed(self) -> None:
        if not self._received or not self._is_reading or self._is_closing:
            return
        data = self._received.popleft()
        if data == _END:
            self._protocol.eof_received()
            self.close()
        else:
            self._protocol.data_received(data)
        self.peer.look_at_buffer()

    # What the protocol asks for.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; they leave at the process's time."""
        if self._is_closing or self._is_gone or not self._process.is_alive or not data:
            return
        self.outgoing.send(bytes(data), self._process.now)
        if not self._is_write_paused and self.get_write_buffer_size() > self._high_bytes:
            self._is_write_paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the process still holds: more than the systems' buffers take."""
        unread = sum(map(len, self.peer._received))
        return max(0, self.outgoing.pending_bytes + unread - SOCKET_BUFFER_BYTES)

    def look_at_buffer(self) -> None:
        """The other end read something: perhaps writing may go on."""
        if self._is_write_paused and self.get_write_buffer_size() <= self._high_bytes // 4:
            self._is_write_paused = False
            if not self._is_closing:
                self._soon(self._protocol.resume_writing)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_bytes = HIGH_WATER_BYTES if high is None else high

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._feed_all_soon()

    def is_reading(self) -> bool:
        return self._is_reading and not self._is_closing

    def is_closing(self) -> bool:
        return self._is_closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._peername if name == "peername" else default

    def close(self) -> None:
        """Close after what was written."""
        if not self._is_closing:
            self._is_closing = True
            self._end()
            self._lose(None)

    def abort(self) -> None:
        """Close; what was written still arrives."""
        self.close()

    def _end(self) -> None:
        if self._process.is_alive and not self._is_gone:
            self._is_gone = True
            self.outgoing.send(_END, self._process.now)
            self._network.forget(self)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._received.clear()
            self._soon(self._protocol.connection_lost, error)

    # What happens to it from outside.

    def close_by_system(self) -> None:
        """The process ended: the other end sees what was sent, then the end."""
        if not self._is_gone:
            self._is_gone = self._is_closing = self._is_lost = True
            self.outgoing.send(_END, self._network.scheduler.now)
            self._network.forget(self)

    def vanish(self, *, lose_sent: bool) -> None:
        """The host lost its power."""
        self._is_gone = self._is_closing = self._is_lost = True
        if lose_sent:
            self.outgoing.drop()

    def reset_peer(self) -> None:
        """Tell the other end that nobody knows this connection (any more)."""
        network = self._network
        if self.host in network.down_hosts:
            return  # it lost its power again
        if network.rules.is_blocked(self.host, self.peer.host):
            network.scheduler.after(0.2, self.reset_peer)
            return
        network.forget(self)
        network.scheduler.after(network.rules.delay_s(self.host, self.peer.host), self.peer.break_off)

    def break_off(self) -> None:
        """The connection is broken: nothing more comes or goes."""
        if self._is_gone or not self._process.is_alive:
            return
        self._is_gone = self._is_closing = True
        self.outgoing.drop()
        self._network.forget(self)
        if self._protocol is not None:
            self._lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        else:
            self._is_lost = True
