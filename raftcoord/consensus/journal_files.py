"""The journal's files as one endless place to append batches to.

What the records say, and when a file may go, is not known here.

Invariants:
  1. Batches are numbered without a gap, and so are files.
  2. The first batch of a file begins with the record that the caller passes for that purpose.
  3. Files are removed oldest first, each durably before the next, so that a power failure leaves no gap.

Threads: `prepare` and `remove_retired` may run in another thread, all else on the event loop. The lock is
held while a file is made: a roll-over that comes meanwhile waits for just the file that it needs, and one
that came first leaves nothing to prepare.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from raftcoord.consensus.segment import Segment, create_segment, segment_bytes_for, segment_name
from raftcoord.runtime import Disk


class JournalFiles:
    """The file in use, a blank one that comes next, and the full ones before. Every method raises OSError."""

    def __init__(
        self,
        *,
        disk: Disk,
        directory: str,
        segment_bytes: int,
        salt: bytes,
        active: Segment,
        spare: Segment | None,
        closed: Iterable[int],
        next_batch: int,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._salt = salt
        self._active = active
        self._spare = spare
        self._full = deque(closed)
        self._next_batch = next_batch
        self._retired: deque[str] = deque()
        self._is_closed = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"<JournalFiles active={self._active!r} spare={self._spare!r} full={len(self._full)} "
            f"retired={len(self._retired)} next_batch={self._next_batch}>"
        )

    @property
    def active_path(self) -> str:
        return self._active.path

    def append(self, body: bytes, opening: bytes) -> int:
        """Write and sync one batch, in a new file if need be, where `opening` precedes it.

        Returns the number of the file.
        """
        active = self._active
        if active.is_empty or not active.has_room(len(body)):
            body = opening + body
            if not (active.is_empty and active.has_room(len(body))):
                active = self._roll_over(len(body))
        active.append(body, self._next_batch)
        self._next_batch += 1
        return active.number

    def _roll_over(self, body_bytes: int) -> Segment:
        with self._lock:
            old, spare = self._active, self._spare
            if not old.is_empty and spare is not None and spare.has_room(body_bytes):
                fresh, self._spare = spare, None
            else:
                number = old.number if old.is_empty else old.number + 1
                if spare is not None and spare.number == number:  # too small: its file is replaced
                    spare.close()
                    self._spare = None
                fresh = self._create(number, max(self._segment_bytes, segment_bytes_for(body_bytes)))
            if fresh.number != old.number:
                self._full.append(old.number)
            self._active = fresh
            old.close()
        return fresh

    def _create(self, number: int, size_bytes: int) -> Segment:
        return create_segment(
            disk=self._disk, directory=self._directory, number=number, size_bytes=size_bytes, salt=self._salt
        )

    @property
    def needs_spare(self) -> bool:
        """Whether the file in use is more than half full and none is ready to follow it."""
        return self._spare is None and self._active.is_half_full

    def prepare(self) -> None:
        """Make the next file if it is time to. May run in a thread."""
        with self._lock:
            if self.needs_spare and not self._is_closed:
                self._spare = self._create(self._active.number + 1, self._segment_bytes)

    def retire_before(self, number: int | None) -> None:
        """Mark the full files before file `number` as removable; all of them when None."""
        while self._full and (number is None or self._full[0] < number):
            self._retired.append(f"{self._directory}/{segment_name(self._full.popleft())}")

    @property
    def retired(self) -> tuple[str, ...]:
        """Paths of the files to remove, in order."""
        return tuple(self._retired)

    def remove_retired(self) -> None:
        """Remove what `retire_before` marked. May run in a thread."""
        while self._retired:
            self._disk.remove(self._retired[0])
            self._disk.sync_directory(self._directory)
            self._retired.popleft()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._active.close()
            if self._spare is not None:
                self._spare.close()
