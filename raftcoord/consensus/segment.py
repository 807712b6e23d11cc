"""One file of the journal: a header page, then batches, then zeros up to the end.

What the records in a batch mean is not known here, and neither is what to do about damage.

    header page (4096 bytes): magic, version, segment number, file size, salt, zeros, CRC of the page
    batch: magic, body length, batch number, CRC of the body, CRC of these four; body

Invariants:
  1. A file gets its name only when all of it, zeros included, is on stable storage. So a named file whose
     header does not verify is damaged, never half made, and a sync after a write needs no file metadata.
  2. One batch is one write and one sync, and a batch is written only after the one before it was synced.
  3. The CRC of a batch's head depends on its offset and on the file's header (with its salt): bytes that
     only look like a batch, e.g. a copy of one inside a user's value, do not verify.
  4. Files are never reused, so nothing follows the last batch but zeros, or what a torn write left.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from raftcoord.runtime import Disk, File

HEADER_BYTES: Final = 4096
SEGMENT_BYTES_MAX: Final = 1024 * 1024 * 1024
SEGMENT_BYTES_MIN: Final = 2 * HEADER_BYTES
SALT_BYTES: Final = 16
FORMAT_VERSION: Final = 1
TEMPORARY_SUFFIX: Final = ".tmp"

_SUFFIX: Final = ".log"
_HEADER: Final = struct.Struct("<8sIQQ16s")  # magic, version, segment number, file size in bytes, salt
_HEADER_MAGIC: Final = b"raftlog\n"
_CRC: Final = struct.Struct("<I")
_BATCH: Final = struct.Struct("<4sIQI")  # magic, body length in bytes, batch number, CRC of the body
_BATCH_MAGIC: Final = b"\xb7RcB"
BATCH_HEAD_BYTES: Final = _BATCH.size + _CRC.size
_U32: Final = 0xFFFFFFFF
_FILL_BYTES: Final = 1024 * 1024  # zeros written and synced at a time, so that other syncs get their turn


def segment_name(number: int) -> str:
    return f"{number:020d}{_SUFFIX}"


def segment_number(name: str) -> int | None:
    """Return the number in a segment file's name; None for any other name."""
    stem = name.removesuffix(_SUFFIX)
    return int(stem) if name != stem and len(stem) == 20 and stem.isascii() and stem.isdigit() else None


def segment_bytes_for(body_bytes: int) -> int:
    """Return the size of a file that holds just one batch with this body, all in bytes."""
    return HEADER_BYTES + BATCH_HEAD_BYTES + body_bytes


class Segment:
    """A segment file that batches are appended to. `offset` and `size_bytes` count from its beginning."""

    __slots__ = ("_file", "_seed", "number", "offset", "path", "size_bytes")

    def __init__(
        self, *, file: File, path: str, number: int, seed: int, offset: int, size_bytes: int
    ) -> None:
        self._file = file
        self._seed = seed
        self.path = path
        self.number = number
        self.offset = offset
        self.size_bytes = size_bytes

    def __repr__(self) -> str:
        return f"<Segment {self.number} {self.offset}/{self.size_bytes}>"

    @property
    def is_empty(self) -> bool:
        return self.offset == HEADER_BYTES

    @property
    def is_half_full(self) -> bool:
        return 2 * (self.offset - HEADER_BYTES) > self.size_bytes - HEADER_BYTES

    def has_room(self, body_bytes: int) -> bool:
        return self.offset + BATCH_HEAD_BYTES + body_bytes <= self.size_bytes

    def append(self, body: bytes, number: int) -> None:
        """Write one batch and sync it. Raises OSError; the file must not be used any more then."""
        head = _BATCH.pack(_BATCH_MAGIC, len(body), number, zlib.crc32(body))
        check = _CRC.pack(zlib.crc32(head, (self._seed + self.offset) & _U32))
        batch = b"".join((head, check, body))
        self._file.pwrite(batch, self.offset)
        self._file.sync()
        self.offset += len(batch)

    def close(self) -> None:
        self._file.close()


def create_segment(*, disk: Disk, directory: str, number: int, size_bytes: int, salt: bytes) -> Segment:
    """Make a file of zeros, durable under its name, in place of one that may be there.

    Raises:
        OSError: the disk refused; the temporary file is gone.
    """
    path = f"{directory}/{segment_name(number)}"
    temporary = path + TEMPORARY_SUFFIX
    header = _HEADER.pack(_HEADER_MAGIC, FORMAT_VERSION, number, size_bytes, salt)
    page = header.ljust(HEADER_BYTES - _CRC.size, b"\0")
    seed = zlib.crc32(page)
    file = disk.open(temporary, create=True)
    try:
        file.pwrite(page + _CRC.pack(seed), 0)
        zeros = bytes(min(_FILL_BYTES, size_bytes - HEADER_BYTES))
        for offset in range(HEADER_BYTES, size_bytes, _FILL_BYTES):
            file.pwrite(zeros[: size_bytes - offset], offset)
            file.sync()
        disk.rename(temporary, path)
        disk.sync_directory(directory)
    except BaseException:
        file.close()
        with contextlib.suppress(OSError):
            disk.remove(temporary)
        raise
    return Segment(file=file, path=path, number=number, seed=seed, offset=HEADER_BYTES, size_bytes=size_bytes)


class StoredSegment:
    """The contents of a segment file, as recovery finds them.

    Raises:
        OSError: the file cannot be read.
        ValueError: the header does not verify, or the file is not as long as the header says.
    """

    __slots__ = ("_file", "_seed", "data", "number", "path")

    def __init__(self, *, disk: Disk, directory: str, number: int) -> None:
        self.path = f"{directory}/{segment_name(number)}"
        self.number = number
        self._file = disk.open(self.path)
        try:
            self.data = self._read_all()
            self._seed = self._verify_header()
        except BaseException:
            self._file.close()
            raise

    def __repr__(self) -> str:
        return f"<StoredSegment {self.number} bytes={len(self.data)}>"

    def _read_all(self) -> bytes:
        size_bytes = self._file.size()
        if not HEADER_BYTES < size_bytes <= SEGMENT_BYTES_MAX:
            raise ValueError(f"the file has {size_bytes} bytes, which no journal file has")
        return self._file.pread(size_bytes, 0)

    def _verify_header(self) -> int:
        page = self.data[: HEADER_BYTES - _CRC.size]
        seed = zlib.crc32(page)
        magic, version, number, size_bytes, _salt = _HEADER.unpack_from(page)
        if _CRC.unpack_from(self.data, HEADER_BYTES - _CRC.size) != (seed,) or magic != _HEADER_MAGIC:
            raise ValueError("the header does not verify")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"format version {version} is not known to this release, which writes {FORMAT_VERSION}"
            )
        if number != self.number:
            raise ValueError(f"the header says that this is file {number}")
        if size_bytes != len(self.data):
            raise ValueError(f"the file has {len(self.data)} bytes, the header says {size_bytes}")
        return seed

    def batch_at(self, offset: int) -> tuple[int, int, int] | None:
        """Return (number, start of the body, end of the body) of the batch at `offset` if it verifies."""
        if offset + BATCH_HEAD_BYTES > len(self.data):
            return None
        magic, length, number, body_crc = _BATCH.unpack_from(self.data, offset)
        if magic != _BATCH_MAGIC:
            return None
        start = offset + BATCH_HEAD_BYTES
        head = self.data[offset : offset + _BATCH.size]
        check = zlib.crc32(head, (self._seed + offset) & _U32)
        if _CRC.unpack_from(self.data, offset + _BATCH.size) != (check,) or start + length > len(self.data):
            return None
        if zlib.crc32(memoryview(self.data)[start : start + length]) != body_crc:
            return None
        return number, start, start + length

    def batches_after(self, offset: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, number) of every batch that verifies at or after `offset`, wherever it starts."""
        at = self.data.find(_BATCH_MAGIC, offset)
        while at >= 0:
            batch = self.batch_at(at)
            if batch is not None:
                yield at, batch[0]
            at = self.data.find(_BATCH_MAGIC, at + 1)

    def written_end(self) -> int:
        """Return the offset behind the last byte that is not zero."""
        return len(self.data.rstrip(b"\0"))

    def reopen(self, *, offset: int, rewrite_from: int) -> Segment:
        """Cut everything from `offset` on, make the rest durable, and return the segment for appending.

        The bytes from `rewrite_from` to `offset` are written again: they can be read, but the process that
        wrote them may have been killed before the sync, or may have stopped because the sync failed, after
        which a system can hold pages that it takes for clean and that never reached the disk.

        Raises:
            OSError: the disk refused.
        """
        end = self.written_end()
        if end > offset:
            self._file.pwrite(bytes(end - offset), offset)
        self._file.pwrite(self.data[rewrite_from:offset], rewrite_from)
        self._file.sync()
        return Segment(
            file=self._file,
            path=self.path,
            number=self.number,
            seed=self._seed,
            offset=offset,
            size_bytes=len(self.data),
        )

    def close(self) -> None:
        self._file.close()
