"""The durable log: entries, term and vote in one stream of batches, each synced before it counts.

It has the method names of the consensus library's own journal, which it replaces, and the engine's beside.
Replication, commit and snapshots are not known here.

Invariants:
  1. Nothing is durable before `sync` returned; what it covered is durable whole, or the replica stops.
  2. After any failure of the disk every change is refused: a failed sync is never tried again, since
     the system may have dropped the pages and would report success.
  3. Nothing is rewritten in place. Truncation is a record; compaction removes whole files, and only once
     all that replaces them is synced. Files are removed oldest first, each durably, so no gap can appear.
  4. The log holds the entry at the snapshot's index (or begins right behind it) whenever there is a snapshot.

Threads: `prepare_segment` and `collect_garbage` may run in another thread, all else on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final, overload

from raftcoord.consensus.journal_errors import JournalDamaged, JournalFailed, damaged, failed
from raftcoord.consensus.journal_files import JournalFiles
from raftcoord.consensus.journal_log import (
    CLEAR,
    ENTRY,
    RECORD,
    TRUNCATE,
    Entry,
    HeldLog,
    meta_record,
)
from raftcoord.consensus.journal_recovery import Recovered, recover
from raftcoord.consensus.segment import SALT_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, create_segment
from raftcoord.runtime import Disk

__all__ = ["BATCH_BYTES_MAX", "COMMAND_BYTES_MAX", "Journal", "JournalDamaged", "JournalFailed"]

BATCH_BYTES_MAX: Final = 128 * 1024 * 1024  # what is buffered beyond this goes into a batch of its own
COMMAND_BYTES_MAX: Final = BATCH_BYTES_MAX - 4096
STUB_COMMAND: Final = b"\x01"  # the library's no-op; stands for the entry that a snapshot covers
_FREED_AT_ONCE: Final = 1000

_log = logging.getLogger(__name__)


class Journal:
    """The durable log of one replica; made by `open`."""

    def __init__(self, *, directory: str, files: JournalFiles, held: HeldLog, commit: int) -> None:
        self._directory = directory
        self._files = files
        self._held = held
        self._commit = commit
        self._pending: list[bytes] = []  # whole records; bounded by what one round of the engine takes in
        self._pending_first: int | None = None  # the lowest index held whose entry is in `_pending`
        self._compacted = False  # since files were last retired
        self._forgotten: list[list[Entry]] = []
        self._refusal: JournalFailed | None = None

    def __repr__(self) -> str:
        return (
            f"<Journal {self._held!r} {self._files!r} pending={len(self._pending)} refusal={self._refusal}>"
        )

    @classmethod
    def open(
        cls,
        *,
        disk: Disk,
        directory: str,
        segment_bytes: int,
        snapshot: tuple[int, int] | None,
        salt: bytes = b"",
        must_exist: bool = False,
    ) -> Journal:
        """Recover the log from `directory`, or begin one, and align it to the snapshot.

        Args:
            snapshot: (index, term) of the newest durable snapshot.
            salt: random bytes (16) that go into new files, so that no value can be made to look like a batch.
            must_exist: this replica has had a journal; an empty folder means that it was lost.

        Raises:
            JournalDamaged: entries, term or vote that were durable are damaged or missing.
            JournalFailed: the disk refused.
            ValueError: `segment_bytes` is out of bounds, or the salt is too long.
        """
        if not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX:
            raise ValueError(f"segment_bytes={segment_bytes} not in {SEGMENT_BYTES_MIN}..{SEGMENT_BYTES_MAX}")
        if len(salt) > SALT_BYTES:
            raise ValueError(f"a salt of {len(salt)} bytes; at most {SALT_BYTES} are stored")
        recovered = recover(disk, directory)
        if recovered is None:
            if snapshot is not None or must_exist:
                raise damaged(directory, "the journal's files are missing, and with them term and vote")
            recovered = _begin(disk, directory, segment_bytes, salt)
        files = JournalFiles(
            disk=disk,
            directory=directory,
            segment_bytes=segment_bytes,
            salt=salt,
            active=recovered.active,
            spare=recovered.spare,
            closed=recovered.closed,
            next_batch=recovered.next_batch,
        )
        commit = 1 if snapshot is None else snapshot[0]
        journal = cls(directory=directory, files=files, held=recovered.log, commit=commit)
        try:
            journal._align(snapshot)
        except BaseException:
            journal.close()
            raise
        journal._retire()
        _log.info("journal_opened directory=%s journal=%r", directory, journal)
        return journal

    def _align(self, snapshot: tuple[int, int] | None) -> None:
        held = self._held
        if snapshot is None:
            if held.entries and held.first_index != 1:
                raise damaged(
                    self._directory, f"the log begins at {held.first_index}, and there is no snapshot"
                )
            return
        index, term = snapshot
        if held.last_index < index:  # the power failed between a snapshot's installation and the reset
            self._reset_durably(index, term)
        elif held.first_index > index + 1:
            raise damaged(
                self._directory,
                f"the log begins at {held.first_index}, but the newest snapshot ends at {index}",
            )
        elif held.first_index == index + 1:
            held.entries.insert(0, (STUB_COMMAND, index, term))
            held.command_bytes += len(STUB_COMMAND)
        elif held.entries[index - held.first_index][2] != term:
            self._reset_durably(index, term)

    def _reset_durably(self, index: int, term: int) -> None:
        _log.warning("journal_reset index=%d term=%d held=%r", index, term, self._held)
        self.reset_to(index, term)
        self.sync()

    # What the consensus library calls.

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append one entry; durable after the next `sync`.

        Raises:
            ValueError: the entry does not follow the last one, or is too large.
            JournalFailed: see invariant 2.
        """
        if self._refusal is not None:
            raise self._refusal
        held = self._held
        entries = held.entries
        if entries and index != entries[-1][1] + 1:
            raise ValueError(f"entry {index} cannot follow entry {entries[-1][1]}")
        size = len(command)
        if size > COMMAND_BYTES_MAX:
            raise ValueError(f"an entry of {size} bytes; at most {COMMAND_BYTES_MAX} can be stored")
        self._pending.append(RECORD.pack(ENTRY, size, index, term) + command)
        entries.append((command, index, term))
        held.command_bytes += size
        if self._pending_first is None:
            self._pending_first = index

    def clear(self) -> None:
        """Forget all entries; the next one may have any index."""
        self._check()
        self._forgotten.append(self._held.clear())
        self._pending.append(RECORD.pack(CLEAR, 0, 0, 0))
        self._pending_first = None
        self._compacted = True

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802
        """Forget the entries from list `position` on, which a leader has overruled."""
        self._check()
        if position < 0:
            raise ValueError(f"cannot truncate at position {position}")
        if position >= len(self._held.entries):
            return
        index = self._held.first_index + position
        self._held.truncate(index)
        self._pending.append(RECORD.pack(TRUNCATE, 0, index, 0))
        if self._pending_first is not None and self._pending_first >= index:
            self._pending_first = None

    def deleteEntriesTo(self, position: int) -> None:  # noqa: N802
        """Forget the entries before list `position`, which a durable snapshot must cover.

        Raises:
            ValueError: that would be all entries.
        """
        self._check()
        if position <= 0:
            return
        if position >= len(self._held.entries):
            raise ValueError(f"cannot forget {position} of {len(self._held.entries)} entries")
        self._forgotten.append(self._held.forget_before(position))
        self._compacted = True
        if not self._pending:
            self._retire()

    @overload
    def __getitem__(self, item: int) -> Entry: ...

    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...

    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        return self._held.entries[item]

    def __len__(self) -> int:
        return len(self._held.entries)

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        """Do nothing: what is committed is learned anew from a leader or a quorum after a restart."""

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """Return the index of the snapshot at `open`, or 1: never more than is known to be committed."""
        return self._commit

    def setCurrentTerm(self, term: int, vote: str | None) -> None:  # noqa: N802
        """Take term and vote; durable after the next `sync`."""
        self._check()
        self._pending.append(meta_record(term, vote))
        self._held.term, self._held.vote = term, vote

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._held.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        return self._held.vote

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """Do nothing: there is no state that is stored now and then."""

    def _destroy(self) -> None:
        self.close()

    # What the engine calls.

    @property
    def dirty(self) -> bool:
        """Whether something waits for `sync`."""
        return bool(self._pending)

    @property
    def log_bytes(self) -> int:
        """The size of all commands held, in bytes."""
        return self._held.command_bytes

    @property
    def first_index(self) -> int:
        return self._held.first_index

    @property
    def last_index(self) -> int:
        return self._held.last_index

    def sync(self) -> bool:
        """Make everything so far durable: one write and one sync. Tell whether there was anything to do.

        Raises:
            JournalFailed: see invariant 2.
        """
        self._check()
        if not self._pending:
            return False
        try:
            for body in self._bodies():
                number = self._files.append(body, meta_record(self._held.term, self._held.vote))
                if self._pending_first is not None:
                    # Later bodies of the same sync count as if they were in this file: too early is safe.
                    self._held.mark(self._pending_first, number)
                    self._pending_first = None
        except OSError as error:
            raise self._fail("writing to", self._files.active_path, error) from error
        self._pending.clear()
        if self._compacted:
            self._retire()
        return True

    def reset_to(self, index: int, term: int) -> None:
        """Replace the log by one stub for the last entry that a durable snapshot covers."""
        self.clear()
        self.add(STUB_COMMAND, index, term)

    def compact_to(self, index: int) -> None:
        """Forget the entries before `index`, which a durable snapshot must cover.

        Raises:
            ValueError: the log does not reach to `index`.
        """
        self.deleteEntriesTo(index - self._held.first_index)

    @property
    def needs_segment(self) -> bool:
        """Whether it is time to run `prepare_segment`: the file in use is more than half full."""
        return self._files.needs_spare

    def prepare_segment(self) -> None:
        """Make the next file, so that rolling over to it costs nothing. May run in a thread.

        A roll-over meanwhile waits for it and takes the file; one that came first makes this return at once.

        Raises:
            JournalFailed: the disk refused.
        """
        if self._refusal is not None:
            return
        try:
            self._files.prepare()
        except OSError as error:
            raise self._fail("preparing a file in", self._directory, error) from error

    def removable_segments(self) -> tuple[str, ...]:
        """Return the paths that wait for `collect_garbage`, in the order of removal."""
        return self._files.retired

    @property
    def has_garbage(self) -> bool:
        """Whether it is time to run `collect_garbage`."""
        return bool(self._forgotten or self._files.retired)

    def collect_garbage(self) -> None:
        """Remove the files that nothing needs any more, and free forgotten entries. May run in a thread.

        Raises:
            JournalFailed: the disk refused.
        """
        while self._forgotten:
            entries = self._forgotten.pop()
            while entries:  # freeing a million entries at once would hold the interpreter for too long
                del entries[-_FREED_AT_ONCE:]
        try:
            self._files.remove_retired()
        except OSError as error:
            raise self._fail("removing a file from", self._directory, error) from error

    def close(self) -> None:
        """Close the files. What was not synced is not durable. Every later change raises JournalFailed."""
        if self._refusal is None:
            self._refusal = JournalFailed(f"journal failed: {self._directory} is closed")
        self._files.close()

    # Inside.

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _fail(self, doing: str, path: str, error: OSError) -> JournalFailed:
        if self._refusal is None:
            self._refusal = failed(doing, path, error)
            _log.error("journal_failed path=%s error=%s", path, error)
        return self._refusal

    def _bodies(self) -> Iterator[bytes]:
        body = b"".join(self._pending)
        if len(body) <= BATCH_BYTES_MAX:
            yield body
            return
        group: list[bytes] = []
        group_bytes = 0
        for record in self._pending:
            if group and group_bytes + len(record) > BATCH_BYTES_MAX:
                yield b"".join(group)
                group, group_bytes = [], 0
            group.append(record)
            group_bytes += len(record)
        yield b"".join(group)

    def _retire(self) -> None:
        """Let the files go that are older than the first entry's; only called with all changes synced."""
        self._files.retire_before(self._held.first_segment())
        self._compacted = False


def _begin(disk: Disk, directory: str, segment_bytes: int, salt: bytes) -> Recovered:
    try:
        active = create_segment(disk=disk, directory=directory, number=1, size_bytes=segment_bytes, salt=salt)
    except OSError as error:
        raise failed("creating a file in", directory, error) from error
    return Recovered(log=HeldLog(), active=active, spare=None, closed=(), next_batch=1)
