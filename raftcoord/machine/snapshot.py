"""Snapshots of a machine that goes on changing while they are written.

A snapshot is a stream of msgpack values: a header, then every session and object in the order of its table,
then a CRC-32 of all that (4 bytes, big-endian). It is cut into slices; where is of no meaning.

Invariants:
  1. The bytes depend only on the state at the beginning, not on what is applied between two slices: an
     object that is changed before its turn is encoded first (`CopyOnWrite.touch`).
  2. Equal state gives equal bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

import msgpack

FORMAT: Final = "raftcoord-machine"
FORMAT_VERSION: Final = 1
_SLICE_BYTES: Final = 64 * 1024
_OBJECTS_PER_SLICE_MAX: Final = 1000
_CRC_BYTES: Final = 4


class Marked(Protocol):
    """Anything that a snapshot contains; `mark` is the generation that has seen it."""

    mark: int


class CopyOnWrite:
    """Keeps the old state of what changes while a snapshot is under way."""

    __slots__ = ("_encode", "_saved", "generation")

    def __init__(self) -> None:
        self.generation = 0
        self._encode: Callable[[Any], bytes] | None = None
        self._saved: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"<CopyOnWrite generation={self.generation} saved={len(self._saved)}>"

    def touch(self, item: Marked) -> None:
        """Call before `item` is changed."""
        if item.mark != self.generation:
            item.mark = self.generation
            if self._encode is not None:
                self._saved[id(item)] = self._encode(item)

    def begin(self, encode: Callable[[Any], bytes]) -> int:
        """Begin a snapshot: from now on old states are kept. Returns its generation."""
        self.generation += 1
        self._encode, self._saved = encode, {}
        return self.generation

    def take(self, item: Marked) -> bytes:
        """Return `item` as it was at the beginning; it need not be kept any more after this."""
        saved = self._saved.pop(id(item), None)
        if saved is None:
            assert self._encode is not None
            saved = self._encode(item)
            item.mark = self.generation
        return saved

    def end(self, generation: int) -> None:
        """The snapshot of this generation is written, or given up."""
        if generation == self.generation:
            self._encode, self._saved = None, {}


def write_slices(
    header: list[Any], items: list[Any], copies: CopyOnWrite, generation: int
) -> Iterator[bytes]:
    """Yield a snapshot in slices; closing the iterator gives the snapshot up."""
    try:
        parts = [msgpack.packb(header)]
        size_bytes, crc = len(parts[0]), 0
        for item in items:
            if copies.generation != generation:
                raise RuntimeError("another snapshot was begun, or the machine was restored")
            parts.append(copies.take(item))
            size_bytes += len(parts[-1])
            if size_bytes >= _SLICE_BYTES or len(parts) >= _OBJECTS_PER_SLICE_MAX:
                data = b"".join(parts)
                crc = zlib.crc32(data, crc)
                yield data
                parts, size_bytes = [], 0
        data = b"".join(parts)
        yield data + zlib.crc32(data, crc).to_bytes(_CRC_BYTES, "big")
    finally:
        copies.end(generation)


def read_values(chunks: Iterable[bytes]) -> Iterator[Any]:
    """Yield the values of a snapshot; what was yielded is worth nothing unless this ends normally.

    Raises:
        ValueError: the snapshot is damaged.
    """
    unpacker = msgpack.Unpacker(raw=False, use_list=True, strict_map_key=False, max_buffer_size=2**31 - 1)
    held, crc = b"", 0
    try:
        for chunk in chunks:
            data = held + chunk
            body, held = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
            crc = zlib.crc32(body, crc)
            unpacker.feed(body)
            yield from unpacker
        if unpacker.tell() == 0 or len(held) != _CRC_BYTES or int.from_bytes(held, "big") != crc:
            raise ValueError("the checksum is wrong")
    except msgpack.UnpackException as error:
        raise ValueError(f"not msgpack: {error}") from None
