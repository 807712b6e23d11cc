"""Reading the journal back after a stop of any kind, and telling a torn tail from damage.

Batches are numbered without a gap through all files. If batch b is the last of an unbroken run from the
start, then what follows it is batch b+1, and:

Invariants:
  1. Batch b+2 is written only after b+1 was synced. So if any batch that verifies is found behind the run,
     b+1 was durable, perhaps acknowledged, and is now lost: that is damage, and nothing is changed on disk.
  2. Otherwise b+1 was never acknowledged. What is left of it is cut, durably, before anything is appended,
     so that no later recovery can take it for data.
  3. All files but the last in use hold whole batches and zeros; a file that is missing between two others,
     or a file whose header does not verify, is damage.
  4. The first batch of every file states term and vote, so that removing older files never loses them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import pairwise

from raftcoord.consensus.journal_errors import damaged, failed
from raftcoord.consensus.journal_log import META, HeldLog
from raftcoord.consensus.segment import (
    HEADER_BYTES,
    TEMPORARY_SUFFIX,
    Segment,
    StoredSegment,
    segment_name,
    segment_number,
)
from raftcoord.runtime import Disk

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the files hold. `closed` are the numbers of the files before the active one, in order."""

    log: HeldLog
    active: Segment
    spare: Segment | None
    closed: tuple[int, ...]
    next_batch: int


def recover(disk: Disk, directory: str) -> Recovered | None:
    """Read and verify all files, cut a torn tail; None when there is no file.

    Raises:
        JournalDamaged: data that was durable is damaged or missing; the files are as they were.
        JournalFailed: the disk refused.
    """
    walk = _Walk(disk, directory)
    try:
        numbers = _segment_numbers(disk, directory)
        if not numbers:
            return None
        for number in numbers:
            walk.take(_read(disk, directory, number))
        return walk.finish()
    except OSError as error:
        walk.close()
        raise failed("recovering from", directory, error) from error
    except BaseException:
        walk.close()
        raise


def _segment_numbers(disk: Disk, directory: str) -> list[int]:
    # A process killed between rename and sync left a name that is seen but not durable: batches in that
    # file would be acknowledged, and gone with it at the next power failure.
    disk.sync_directory(directory)
    names = disk.list_directory(directory)
    for name in names:
        if name.endswith(TEMPORARY_SUFFIX):
            disk.remove(f"{directory}/{name}")
    numbers = sorted(number for name in names if (number := segment_number(name)) is not None)
    for before, number in pairwise(numbers):
        if number != before + 1:
            raise damaged(f"{directory}/{segment_name(before + 1)}", "the file is missing")
    return numbers


def _read(disk: Disk, directory: str, number: int) -> StoredSegment:
    try:
        return StoredSegment(disk=disk, directory=directory, number=number)
    except ValueError as error:
        raise damaged(f"{directory}/{segment_name(number)}", str(error)) from error


class _Walk:
    """The run of batches so far: it ends in file `_tail` at byte `_end`; its last one starts at `_last`."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._log = HeldLog()
        self._tail: StoredSegment | None = None
        self._end = HEADER_BYTES
        self._last = HEADER_BYTES
        self._expected: int | None = None
        self._closed: list[int] = []
        self._unused: list[StoredSegment] = []

    def __repr__(self) -> str:
        return f"<_Walk {self._tail!r} end={self._end} expected={self._expected} log={self._log!r}>"

    def take(self, stored: StoredSegment) -> None:
        """Go on with the next file."""
        tail = self._tail
        if tail is None:
            self._expected = 1 if stored.number == 1 else None
            self._run_through(stored)
            if stored.number > 1 and self._end == HEADER_BYTES:
                raise damaged(
                    stored.path, "no batch verifies, though older files were removed", offset=self._end
                )
            return
        first = stored.batch_at(HEADER_BYTES)
        if first is None or first[0] != self._expected or self._unused:
            self._refuse_batches(stored, HEADER_BYTES)
            self._unused.append(stored)
            return
        if tail.written_end() > self._end:
            raise damaged(
                tail.path, "bytes that belong to no batch, in a file that was full", offset=self._end
            )
        tail.close()
        self._closed.append(tail.number)
        self._run_through(stored)

    def _run_through(self, stored: StoredSegment) -> None:
        self._tail, self._end, self._last = stored, HEADER_BYTES, HEADER_BYTES
        while (batch := stored.batch_at(self._end)) is not None:
            number, start, stop = batch
            if self._expected not in (None, number):
                break
            if self._end == HEADER_BYTES and stored.data[start] != META:
                raise damaged(stored.path, "the file does not begin with term and vote", offset=self._end)
            try:
                self._log.replay(stored.data, start, stop, stored.number)
            except ValueError as error:
                raise damaged(stored.path, str(error), offset=self._end) from error
            self._last, self._end, self._expected = self._end, stop, number + 1
        self._refuse_batches(stored, self._end)

    def _refuse_batches(self, stored: StoredSegment, offset: int) -> None:
        for at, number in stored.batches_after(offset):
            assert self._tail is not None
            raise damaged(
                self._tail.path,
                f"batch {self._expected} does not verify, but batch {number} behind it does "
                f"({stored.path} at byte {at}), so it had been synced",
                offset=self._end,
            )

    def finish(self) -> Recovered:
        """Cut the torn tail and hand over."""
        tail = self._tail
        assert tail is not None
        spare = self._reopen_next(tail.number + 1)
        torn_bytes = tail.written_end() - self._end
        if torn_bytes > 0:
            _log.warning("journal_tail_cut path=%s offset=%d bytes=%d", tail.path, self._end, torn_bytes)
        return Recovered(
            log=self._log,
            active=tail.reopen(offset=self._end, rewrite_from=self._last),
            spare=spare,
            closed=tuple(self._closed),
            next_batch=self._expected or 1,
        )

    def close(self) -> None:
        """Close all files; for when recovery fails."""
        for stored in filter(None, (self._tail, *self._unused)):
            stored.close()

    def _reopen_next(self, next_number: int) -> Segment | None:
        """Return the file that was prepared to be the next one, blank again if a torn batch was its first."""
        spare = None
        for stored in self._unused:
            if stored.number == next_number:
                spare = stored.reopen(offset=HEADER_BYTES, rewrite_from=HEADER_BYTES)
            else:
                stored.close()
        return spare
