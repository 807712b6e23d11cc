"""The format of a snapshot file, on its own: bytes in, verified chunks out.

    header: magic, version, index, term, CRC of these
    chunk:  length, CRC; that many bytes
    footer: zero length, CRC of all chunk heads, number of chunks, CRC of these

Invariants:
  1. A chunk is one slice of the state machine, unchanged; none is empty.
  2. The footer vouches for the number, the order and the CRCs of the chunks, and is the end of the file:
     a file that is cut, extended, or patched together from others does not verify.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from raftcoord.runtime import File

CHUNK_BYTES_MAX: Final = 64 * 1024 * 1024
FORMAT_VERSION: Final = 1

_MAGIC: Final = b"raftsnap"
_HEADER: Final = struct.Struct("<8sIQQ")
_CRC: Final = struct.Struct("<I")
_CHUNK: Final = struct.Struct("<II")  # length in bytes, CRC
_COUNT: Final = struct.Struct("<Q")
HEADER_BYTES: Final = _HEADER.size + _CRC.size
_FOOTER_BYTES: Final = _CHUNK.size + _COUNT.size + _CRC.size
SNAPSHOT_BYTES_MIN: Final = HEADER_BYTES + _FOOTER_BYTES
_READ_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """Which entry a snapshot file covers last."""

    index: int
    term: int

    def encode(self) -> bytes:
        head = _HEADER.pack(_MAGIC, FORMAT_VERSION, self.index, self.term)
        return head + _CRC.pack(zlib.crc32(head))


class ChunkWriter:
    """Turns slices into the bytes that follow the header."""

    __slots__ = ("_count", "_heads_crc")

    def __init__(self) -> None:
        self._count = 0
        self._heads_crc = 0

    def __repr__(self) -> str:
        return f"<ChunkWriter chunks={self._count}>"

    def encode(self, slices: Iterable[bytes]) -> bytes:
        """Return chunks for the slices, in order. Raises ValueError when one is too large."""
        parts: list[bytes] = []
        for data in slices:
            if len(data) > CHUNK_BYTES_MAX:
                raise ValueError(f"a slice of {len(data)} bytes; at most {CHUNK_BYTES_MAX} can be stored")
            head = _CHUNK.pack(len(data), zlib.crc32(data))
            self._heads_crc = zlib.crc32(head, self._heads_crc)
            self._count += 1
            parts += (head, data)
        return b"".join(parts)

    def footer(self) -> bytes:
        return _footer(self._count, self._heads_crc)


def _footer(count: int, heads_crc: int) -> bytes:
    body = _CHUNK.pack(0, heads_crc) + _COUNT.pack(count)
    return body + _CRC.pack(zlib.crc32(body))


def read_header(file: File) -> SnapshotHeader:
    """Read and verify the header. Raises ValueError when it does not verify, OSError."""
    data = file.pread(HEADER_BYTES, 0)
    if len(data) < HEADER_BYTES or _CRC.unpack_from(data, _HEADER.size) != (
        zlib.crc32(data[: _HEADER.size]),
    ):
        raise ValueError("the header does not verify")
    magic, version, index, term = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("this is no snapshot file")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"format version {version} is not known to this release, which writes {FORMAT_VERSION}"
        )
    return SnapshotHeader(index, term)


def read_chunks(file: File) -> Iterator[bytes]:
    """Yield the chunks, each verified; the last step verifies the footer.

    Raises:
        ValueError: something does not verify; what was yielded before must not be used.
        OSError: the disk refused.
    """
    size_bytes = file.size()
    buffer, at, offset = b"", 0, HEADER_BYTES  # `offset` is where in the file the buffer ends
    count = heads_crc = 0
    while True:
        if len(buffer) - at < _FOOTER_BYTES:
            buffer, at, offset = _refill(file, buffer, at, offset, _FOOTER_BYTES)
        length, crc = _CHUNK.unpack_from(buffer, at)
        if length == 0:
            break
        if length > CHUNK_BYTES_MAX or offset - len(buffer) + at + _CHUNK.size + length > size_bytes:
            raise ValueError(f"a chunk of {length} bytes does not fit the file")
        if len(buffer) - at < _CHUNK.size + length:
            buffer, at, offset = _refill(file, buffer, at, offset, _CHUNK.size + length)
        start = at + _CHUNK.size
        data = buffer[start : start + length]
        if zlib.crc32(data) != crc:
            raise ValueError(f"chunk {count} does not verify")
        heads_crc = zlib.crc32(buffer[at:start], heads_crc)
        count += 1
        at = start + length
        yield data
    if buffer[at : at + _FOOTER_BYTES] != _footer(count, heads_crc):
        raise ValueError("the footer does not verify")
    if offset - len(buffer) + at + _FOOTER_BYTES != size_bytes:
        raise ValueError("bytes follow the footer")


def _refill(file: File, buffer: bytes, at: int, offset: int, needed: int) -> tuple[bytes, int, int]:
    more = file.pread(max(_READ_BYTES, needed), offset)
    buffer = buffer[at:] + more
    if len(buffer) < needed:
        raise ValueError("the file ends too early")
    return buffer, 0, offset + len(more)
