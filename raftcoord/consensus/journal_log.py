"""What the journal's records amount to: the entries held, the term and the vote. No disk in here.

Invariants:
  1. Entries are contiguous: each index is one more than the one before.
  2. `marks` are (first index, segment number), both growing. A mark's segment holds the entries from its
     index on, up to the next mark's, or an earlier segment than that is named: a segment named too early is
     kept for longer than necessary, one named too late would be removed while it is needed.
"""

from __future__ import annotations

import struct
from typing import Final

Entry = tuple[bytes, int, int]  # command, index, term

RECORD: Final = struct.Struct("<BIQQ")  # kind, payload length in bytes, two numbers
ENTRY: Final = 1  # index, term; the payload is the command
TRUNCATE: Final = 2  # forget the entries from index on; 0
CLEAR: Final = 3  # forget all entries; the next one may have any index; 0, 0
META: Final = 4  # term, whether there is a vote; the payload is the vote in UTF-8

VOTE_BYTES_MAX: Final = 1024


def meta_record(term: int, vote: str | None) -> bytes:
    """Encode term and vote. Raises ValueError when the vote is too long."""
    payload = b"" if vote is None else vote.encode()
    if len(payload) > VOTE_BYTES_MAX:
        raise ValueError(f"a vote of {len(payload)} bytes; at most {VOTE_BYTES_MAX} can be stored")
    return RECORD.pack(META, len(payload), term, vote is not None) + payload


class HeldLog:
    """Entries, term and vote, as the records so far say."""

    __slots__ = ("command_bytes", "entries", "marks", "term", "vote")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.command_bytes = 0
        self.marks: list[tuple[int, int]] = []
        self.term = 0
        self.vote: str | None = None

    def __repr__(self) -> str:
        return (
            f"<HeldLog {self.first_index}..{self.last_index} bytes={self.command_bytes} "
            f"term={self.term} vote={self.vote!r}>"
        )

    @property
    def first_index(self) -> int:
        return self.entries[0][1] if self.entries else 1

    @property
    def last_index(self) -> int:
        return self.entries[-1][1] if self.entries else 0

    def mark(self, index: int, number: int) -> None:
        """Note that the entries from `index` on are in segment `number` or later."""
        if not self.marks or self.marks[-1][1] != number:
            self.marks.append((index, number))

    def truncate(self, index: int) -> None:
        """Forget the entries from `index` on."""
        keep = max(index - self.first_index, 0)
        self.command_bytes -= sum(len(entry[0]) for entry in self.entries[keep:])
        del self.entries[keep:]
        while self.marks and self.marks[-1][0] >= index:
            self.marks.pop()

    def clear(self) -> list[Entry]:
        """Forget all entries; return them."""
        forgotten, self.entries = self.entries, []
        self.command_bytes = 0
        self.marks.clear()
        return forgotten

    def forget_before(self, position: int) -> list[Entry]:
        """Keep the entries from list `position` on; return the others."""
        forgotten, kept = self.entries, self.entries[position:]
        if len(kept) < position:  # count the shorter side: the longer one can have a million entries
            self.command_bytes = sum(len(entry[0]) for entry in kept)
        else:
            self.command_bytes -= sum(len(entry[0]) for entry in forgotten[:position])
        self.entries = kept
        del forgotten[position:]
        return forgotten

    def first_segment(self) -> int | None:
        """Return the number of the segment that the first entry is in; None when there is no entry."""
        first = self.first_index
        while len(self.marks) > 1 and self.marks[1][0] <= first:
            del self.marks[0]
        return self.marks[0][1] if self.marks else None

    def replay(self, data: bytes, start: int, end: int, number: int) -> None:
        """Take in the records of one verified batch of segment `number`: bytes `start` to `end` of `data`.

        Raises:
            ValueError: the checksum was right, but the records make no sense.
        """
        entries, unpack, size = self.entries, RECORD.unpack_from, RECORD.size
        last = self.last_index
        at = start
        while at < end:
            if at + size > end:
                raise ValueError("half a record")
            kind, length, first, second = unpack(data, at)
            at += size
            stop = at + length
            if stop > end:
                raise ValueError("a record that is longer than its batch")
            if kind != ENTRY:
                self._replay_other(kind, first, second, data[at:stop])
                entries, last = self.entries, self.last_index
            elif entries and first != last + 1:
                raise ValueError(f"entry {first} follows entry {last}")
            else:
                if not self.marks or self.marks[-1][1] != number:
                    self.marks.append((first, number))
                entries.append((data[at:stop], first, second))
                self.command_bytes += length
                last = first
            at = stop

    def _replay_other(self, kind: int, first: int, second: int, payload: bytes) -> None:
        if kind == META:
            self.term, self.vote = first, payload.decode() if second else None
        elif kind == TRUNCATE:
            self.truncate(first)
        elif kind == CLEAR:
            self.clear()
        else:
            raise ValueError(f"a record of the unknown kind {kind}")
