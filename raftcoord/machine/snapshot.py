"""Snapshots of a machine that goes on changing while they are written.

A snapshot is a stream of msgpack values: a header, then every session and object in the order of its table,
then a CRC-32 of all that (4 bytes, big-endian). It is cut into slices; where is of no meaning.

Invariants:
  1. The bytes depend only on the state at the beginning, not on what is applied between two slices: the
     fields of what is changed before its turn are set aside first (`CopyOnWrite.touch`).
  2. Equal state gives equal bytes.
  3. A slice is small whatever a single object holds: long lists are packed element by element.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

import msgpack
import msgspec

FORMAT: Final = "raftcoord-machine"
FORMAT_VERSION: Final = 2
FORMAT_VERSIONS_READ: Final = frozenset({1, 2})
_SLICE_BYTES: Final = 64 * 1024
_PARTS_PER_SLICE_MAX: Final = 1000
_CRC_BYTES: Final = 4

_encode: Final = msgspec.msgpack.Encoder().encode


class Stored(Protocol):
    """Anything that a snapshot contains; `mark` is the last generation for which it is settled."""

    mark: int

    def fields(self) -> list[Any]:
        """Return its state as plain values that no later change reaches."""


class CopyOnWrite:
    """Keeps the old state of what changes while a snapshot is under way."""

    __slots__ = ("_saved", "generation")

    def __init__(self) -> None:
        self.generation = 0
        self._saved: dict[Stored, list[Any]] | None = None

    def __repr__(self) -> str:
        saved = None if self._saved is None else len(self._saved)
        return f"<CopyOnWrite generation={self.generation} saved={saved}>"

    def touch(self, item: Stored) -> None:
        """Call before `item` is changed."""
        if item.mark != self.generation:
            item.mark = self.generation
            if self._saved is not None:
                self._saved[item] = item.fields()

    def begin(self) -> int:
        """Begin a snapshot: from now on old states are kept. Returns its generation."""
        self.generation += 1
        self._saved = {}
        return self.generation

    def take(self, item: Stored) -> list[Any]:
        """Return `item` as it was at the beginning; it need not be kept any more after this."""
        if item.mark != self.generation:
            item.mark = self.generation
            return item.fields()
        assert self._saved is not None
        return self._saved.pop(item)

    def end(self, generation: int) -> None:
        """The snapshot of this generation is written, or given up."""
        if generation == self.generation:
            self._saved = None


def _array_header(length: int) -> bytes:
    return b"\xdd" + length.to_bytes(4, "big")


def _pack(fields: list[Any]) -> Iterable[bytes]:
    """Return the packed fields, in one part or, when a list is among them, in several."""
    for field in fields:
        if type(field) is list and field:
            return _pack_in_parts(fields)
    return (_encode(fields),)


def _pack_in_parts(fields: list[Any]) -> Iterator[bytes]:
    yield _array_header(len(fields))
    for field in fields:
        if type(field) is list:
            yield _array_header(len(field))
            yield from map(_encode, field)
        else:
            yield _encode(field)


def write_slices(
    header: list[Any], items: Iterable[Stored], copies: CopyOnWrite, generation: int
) -> Iterator[bytes]:
    """Return a snapshot in slices; closing the iterator gives the snapshot up."""
    slices = _slices(header, items, copies, generation)
    # Closing a generator that never started runs no `finally`: old states would be kept for ever.
    next(slices)
    return slices


def _slices(
    header: list[Any], items: Iterable[Stored], copies: CopyOnWrite, generation: int
) -> Iterator[bytes]:
    try:
        yield b""
        parts = [_encode(header)]
        size_bytes, crc = len(parts[0]), 0
        for item in items:
            if copies.generation != generation:
                raise RuntimeError("another snapshot was begun")
            for part in _pack(copies.take(item)):
                parts.append(part)
                size_bytes += len(part)
                if size_bytes >= _SLICE_BYTES or len(parts) >= _PARTS_PER_SLICE_MAX:
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
