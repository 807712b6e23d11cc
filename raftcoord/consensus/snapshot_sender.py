"""Streaming a durable snapshot to a follower that is too far behind for the log.

Invariants:
  1. At most `CHUNKS_IN_FLIGHT` chunks are unanswered.
  2. What is sent is one file from its first byte to its last, also when a newer snapshot replaces it.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

CHUNKS_IN_FLIGHT: Final = 4


class SnapshotReader(Protocol):
    """An open snapshot file."""

    @property
    def index(self) -> int: ...

    @property
    def term(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes: ...

    def close(self) -> None: ...


class SnapshotSource(Protocol):
    """Opens the latest durable snapshot."""

    def open_sender(self) -> SnapshotSender | None: ...


class SnapshotSender:
    """One transfer to one follower."""

    def __init__(self, reader: SnapshotReader, chunk_bytes: int) -> None:
        self._reader = reader
        self._chunk_bytes = chunk_bytes
        self._sent_bytes = 0
        self._answered_bytes = 0

    def __repr__(self) -> str:
        return (
            f"<SnapshotSender index={self.index} sent={self._sent_bytes} "
            f"answered={self._answered_bytes} size={self._reader.size_bytes}>"
        )

    @property
    def index(self) -> int:
        return self._reader.index

    def next_chunks(self) -> list[dict[str, Any]]:
        """Return the bodies of the chunks that may be sent now."""
        bodies = []
        limit = self._answered_bytes + CHUNKS_IN_FLIGHT * self._chunk_bytes
        while self._sent_bytes < min(limit, self._reader.size_bytes):
            data = self._reader.read(self._sent_bytes, self._chunk_bytes)
            bodies.append(
                {
                    "index": self._reader.index,
                    "index_term": self._reader.term,
                    "size_bytes": self._reader.size_bytes,
                    "offset": self._sent_bytes,
                    "data": data,
                }
            )
            self._sent_bytes += len(data)
        return bodies

    def on_answer(self, offset: int) -> None:
        """Take the offset that the follower expects next; a smaller one than before starts again there."""
        if offset < self._answered_bytes:
            self._sent_bytes = offset
        self._answered_bytes = min(offset, self._sent_bytes)

    def rewind(self) -> None:
        """Send again what was not answered."""
        self._sent_bytes = self._answered_bytes

    def close(self) -> None:
        self._reader.close()
