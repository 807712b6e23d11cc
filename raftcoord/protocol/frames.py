"""Length-prefixed frames: a 4-byte big-endian length, then that many bytes of msgpack.

Invariants:
  1. A length over the bound is refused before anything is allocated for it.
  2. A frame is msgpack of exactly one value; trailing bytes or other damage raise `FrameError`.
  3. Decoding never creates anything but plain values: extension types are refused.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack
import msgspec

from raftcoord.protocol.errors import BadRequest

PROTOCOL_VERSION: Final = 1
MAGIC: Final = "raftcoord"
HEADER_BYTES: Final = 4
FRAME_BYTES_MAX: Final = 8 * 1024 * 1024
_ITEMS_MAX: Final = 1_000_000
_encode: Final = msgspec.msgpack.Encoder().encode


class FrameError(BadRequest):
    """The peer sent something that is no frame; its connection is closed."""


def encode_frame(message: Any) -> bytes:
    """Return one message as a frame, length prefix included."""
    payload = _encode(message)
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} of {len(data)} bytes")


def decode_payload(payload: bytes | memoryview) -> Any:
    """Return the value that a frame's payload carries.

    Raises:
        FrameError: the payload is not exactly one msgpack value.
    """
    # An array has no more items than the payload has bytes, whatever its header claims; room for what the
    # header claims is allocated at once, in each of up to 1024 levels.
    items_max = len(payload)
    if items_max > _ITEMS_MAX:
        items_max = _ITEMS_MAX
    try:
        return msgpack.unpackb(
            payload,
            raw=False,
            use_list=True,
            strict_map_key=False,
            timestamp=1,  # a float: the one extension that the decoder interprets without asking the hook
            ext_hook=_refuse_extension,
            max_array_len=items_max,
            max_map_len=items_max,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise FrameError(f"malformed frame: {type(error).__name__}: {error}") from None


class FrameDecoder:
    """Cuts a byte stream into decoded frames; holds at most one incomplete frame.

    Args:
        frame_bytes_max: bound on the payload of one frame; may be raised later, e.g. after a handshake.
    """

    __slots__ = ("_buffer", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self.frame_bytes_max = frame_bytes_max

    def __repr__(self) -> str:
        return f"<FrameDecoder buffered={len(self._buffer)} max={self.frame_bytes_max}>"

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of an incomplete frame are held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Any]:
        """Take bytes from the wire and return the messages that are now complete, in order.

        Raises:
            FrameError: a frame is over the bound or malformed; the stream cannot be continued.
        """
        buffer = self._buffer
        if buffer:
            buffer += data
            source: bytes | bytearray = buffer
        else:
            source = data  # the common case: whole frames, no copy
        messages = []
        position, end = 0, len(source)
        while end - position >= HEADER_BYTES:
            length = int.from_bytes(source[position : position + HEADER_BYTES], "big")
            if length > self.frame_bytes_max:
                raise FrameError(f"frame of {length} bytes is over the limit of {self.frame_bytes_max}")
            stop = position + HEADER_BYTES + length
            if stop > end:
                break
            messages.append(decode_payload(bytes(source[position + HEADER_BYTES : stop])))
            position = stop
        if source is buffer:
            del buffer[:position]
        elif position < end:
            buffer += data[position:]
        return messages
