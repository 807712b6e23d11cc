"""One TCP connection to another replica: handshake first, then messages both ways.

Invariants:
  1. Before the handshake is done a frame may have at most `HELLO_BYTES_MAX` bytes, and nothing but the
     handshake is understood.
  2. Every later message carries the epoch that its sender announced; another one closes the connection.
  3. What waits to be written is bounded by `WRITE_BUFFER_BYTES_MAX`; beyond it the connection is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from raftcoord.consensus import messages as m
from raftcoord.consensus.handshake import Handshake, Hello, Refused, parse_hello
from raftcoord.consensus.interface import FatalError
from raftcoord.protocol.frames import FrameDecoder, FrameError, encode_frame

logger = logging.getLogger(__name__)

HELLO_BYTES_MAX: Final = 64 * 1024
WRITE_BUFFER_BYTES_MAX: Final = 64 * 1024 * 1024


class LinkOwner(Protocol):
    """What a link reports to."""

    def link_up(self, link: PeerLink, hello: Hello) -> None: ...

    def link_down(self, link: PeerLink, reason: str) -> None: ...

    def link_message(self, link: PeerLink, envelope: m.Envelope) -> None: ...

    def link_fatal(self, error: FatalError) -> None:
        """This replica cannot go on: its disk refused to remember whom it met."""


class PeerLink(asyncio.Protocol):
    """Either end of a connection between two replicas.

    Args:
        dial: name of the replica that was dialled, or None on the accepting side.
        frame_bytes_max: bound on one frame once the handshake is done.
    """

    def __init__(
        self, *, owner: LinkOwner, handshake: Handshake, dial: str | None, frame_bytes_max: int
    ) -> None:
        self._owner, self._handshake = owner, handshake
        self._dial = dial
        self._decoder = FrameDecoder(HELLO_BYTES_MAX)
        self._frame_bytes_max = frame_bytes_max
        self._transport: Any = None
        self._own_hello = b""
        self._own_epoch = 0
        self._their_hello: tuple[bytes, Hello] | None = None
        self._expect: Callable[[Any], None] = self._on_welcome if dial else self._on_dialer_hello
        self._reason = "closed by the other side"
        self.peer = dial or ""
        self.is_up = False
        self.was_up = False
        self.was_refused = False
        self.is_closed = False
        self.received_since_check = True

    def __repr__(self) -> str:
        return f"<PeerLink peer={self.peer or '?'} up={self.is_up} epoch={self._own_epoch}>"

    @property
    def is_unused(self) -> bool:
        """Whether the connection was never made (the dial failed)."""
        return self._transport is None

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if self.is_closed:  # given up before it was made
            transport.close()
            return
        if self._dial is not None:
            self._own_hello, self._own_epoch = self._handshake.make_hello(self._dial)
            self._write([self._own_hello])
            self._expect = self._on_acceptor_hello

    def data_received(self, data: bytes) -> None:
        self.received_since_check = True
        try:
            for frame in self._decoder.feed(data):
                self._expect(frame)
        except FrameError as error:
            self.close(f"malformed: {error}")
        except Refused as refusal:
            self._write(["refused", str(refusal)])
            self.was_refused = True
            self.close(f"refused: {refusal}")
        except FatalError as error:
            self.close("this replica failed")
            self._owner.link_fatal(error)

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._reason = f"{type(error).__name__}: {error}"
        self._finish()

    def _finish(self) -> None:
        if not self.is_closed:
            self.is_closed, self.is_up = True, False
            self._owner.link_down(self, self._reason)

    def close(self, reason: str) -> None:
        """Close once, telling the owner why."""
        if not self.is_closed:
            self._reason = reason
            if self._transport is not None:
                self._transport.close()
            self._finish()

    # Handshake

    def _write(self, message: Any) -> None:
        if not self.is_closed:
            self._transport.write(encode_frame(message))

    def _take_hello(self, packed: Any) -> Hello:
        if type(packed) is not bytes:
            raise FrameError("not a hello of a replica")
        hello = parse_hello(packed)
        self._their_hello = (packed, hello)
        return hello

    def _parts(self, frame: Any, count: int) -> list[Any]:
        if type(frame) is list and len(frame) == 2 and frame[0] == "refused" and type(frame[1]) is str:
            self.was_refused = True
            raise FrameError(f"the other side refused: {frame[1][:500]}")
        if type(frame) is not list or len(frame) != count:
            raise FrameError("malformed handshake")
        return frame

    def _on_dialer_hello(self, frame: Any) -> None:
        (packed,) = self._parts(frame, 1)
        hello = self._take_hello(packed)
        self._handshake.check_hello(hello)
        self.peer = hello.sender
        self._own_hello, self._own_epoch = self._handshake.make_hello(hello.sender)
        self._write([self._own_hello, self._handshake.proof(b"acceptor", packed, self._own_hello)])
        self._expect = self._on_dialer_proof

    def _on_acceptor_hello(self, frame: Any) -> None:
        packed, proof = self._parts(frame, 2)
        hello = self._take_hello(packed)
        if hello.sender != self._dial:
            raise Refused(f"expected replica {self._dial!r}, found {hello.sender!r}")
        self._handshake.check_hello(hello)
        self._handshake.check_proof(b"acceptor", self._own_hello, packed, proof)
        self._write([self._handshake.proof(b"dialer", self._own_hello, packed)])
        self._decoder.frame_bytes_max = self._frame_bytes_max
        self._expect = self._on_welcome

    def _on_dialer_proof(self, frame: Any) -> None:
        assert self._their_hello is not None
        (proof,) = self._parts(frame, 1)
        self._handshake.check_proof(b"dialer", self._their_hello[0], self._own_hello, proof)
        self._write(["welcome"])
        self._decoder.frame_bytes_max = self._frame_bytes_max
        self._come_up()

    def _on_welcome(self, frame: Any) -> None:
        if self._parts(frame, 1) != ["welcome"]:
            raise FrameError("malformed handshake")
        self._come_up()

    def _come_up(self) -> None:
        assert self._their_hello is not None
        hello = self._their_hello[1]
        self._handshake.check_hello(hello)  # another connection may have taught us better meanwhile
        self._handshake.accept(hello)
        self.is_up = self.was_up = True
        self._expect = self._on_message
        self._owner.link_up(self, hello)

    # Messages

    def _on_message(self, envelope: Any) -> None:
        m.require_valid(envelope)
        assert self._their_hello is not None
        if envelope["epoch"] != self._their_hello[1].epoch:
            raise FrameError("a message of another connection")
        if self.is_up:
            self._owner.link_message(self, envelope)

    def send(self, envelope: m.Envelope) -> None:
        """Send one message; drops it when the link is not up."""
        if not self.is_up:
            return
        envelope["epoch"] = self._own_epoch
        self._write(envelope)
        if self._transport.get_write_buffer_size() > WRITE_BUFFER_BYTES_MAX:
            self.close("the other side does not read")
