"""Broken variants: what is on the disk when it is said to be, and what is read back after a restart."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from typing import Any

from broken.registry import Unsynced, patched, variant
from raftcoord.consensus import journal, journal_files, segment
from raftcoord.consensus.core import RaftCore
from raftcoord.consensus.engine import RaftEngine
from raftcoord.consensus.interface import Role
from raftcoord.consensus.journal_log import meta_record
from raftcoord.consensus.segment import Segment, StoredSegment, create_segment
from raftcoord.consensus.sync_meter import SyncMeter


@variant
def acknowledge_before_fsync() -> Iterator[None]:
    """Answers and votes leave before what they say is synced."""
    turn = RaftEngine._turn

    def broken(engine: Any) -> None:
        if engine._running:
            engine._release()
        turn(engine)

    with patched(RaftEngine, _turn=broken):
        yield


@variant
def count_own_copy_before_fsync() -> Iterator[None]:
    """A leader counts its own copy of an entry long before it syncs it: at every 16th turn."""
    sync, turns = SyncMeter.sync, itertools.count()

    def broken(engine: Any) -> None:
        is_lazy = engine._running and engine._core.role is Role.LEADER and next(turns) % 16
        engine._meter.is_lazy = bool(is_lazy)
        turn(engine)

    def lazy_sync(meter: Any) -> None:
        if not getattr(meter, "is_lazy", False):
            sync(meter)

    turn = RaftEngine._turn
    with patched(RaftEngine, _turn=broken), patched(SyncMeter, sync=lazy_sync):
        yield


@variant
def fsync_skipped() -> Iterator[None]:
    """Batches are written to the journal and never synced."""
    make = Segment.__init__

    def broken(self: Any, *, file: Any, **rest: Any) -> None:
        make(self, file=Unsynced(file), **rest)

    with patched(Segment, __init__=broken):
        yield


@variant
def failed_fsync_tried_again() -> Iterator[None]:
    """A sync that failed is tried again, and its success is believed."""

    class Retrying:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def sync(self) -> None:
            try:
                self._inner.sync()
            except OSError:
                self._inner.sync()

    make = Segment.__init__

    def broken(self: Any, *, file: Any, **rest: Any) -> None:
        make(self, file=Retrying(file), **rest)

    with patched(Segment, __init__=broken):
        yield


@variant
def segment_name_not_synced() -> Iterator[None]:
    """A new file of the journal is used before its name is durable."""

    def broken(*, disk: Any, **rest: Any) -> Segment:
        return create_segment(disk=Unsynced(disk), **rest)

    with patched(journal, create_segment=broken), patched(journal_files, create_segment=broken):
        yield


def _reopened(stored: Any, offset: int) -> Segment:
    return Segment(
        file=stored._file,
        path=stored.path,
        number=stored.number,
        seed=stored._seed,
        offset=offset,
        size_bytes=len(stored.data),
    )


@variant
def torn_tail_not_cut() -> Iterator[None]:
    """Recovery leaves what a torn write left behind the last batch."""

    def broken(stored: Any, *, offset: int, rewrite_from: int) -> Segment:
        stored._file.pwrite(stored.data[rewrite_from:offset], rewrite_from)
        stored._file.sync()
        return _reopened(stored, offset)

    with patched(StoredSegment, reopen=broken):
        yield


@variant
def recovered_tail_not_synced() -> Iterator[None]:
    """Recovery takes the last batch for durable because it can be read."""

    def broken(stored: Any, *, offset: int, rewrite_from: int) -> Segment:
        end = stored.written_end()
        if end > offset:
            stored._file.pwrite(bytes(end - offset), offset)
        return _reopened(stored, offset)

    with patched(StoredSegment, reopen=broken):
        yield


@variant
def checksum_of_batches_not_checked() -> Iterator[None]:
    """Recovery believes a batch whose head verifies, whatever its body is."""

    def broken(stored: Any, offset: int) -> tuple[int, int, int] | None:
        data, size = stored.data, segment._BATCH.size
        if offset + segment.BATCH_HEAD_BYTES > len(data):
            return None
        magic, length, number, _ = segment._BATCH.unpack_from(data, offset)
        start = offset + segment.BATCH_HEAD_BYTES
        check = zlib.crc32(data[offset : offset + size], (stored._seed + offset) & segment._U32)
        if magic != segment._BATCH_MAGIC or segment._CRC.unpack_from(data, offset + size) != (check,):
            return None
        return (number, start, start + length) if start + length <= len(data) else None

    with patched(StoredSegment, batch_at=broken):
        yield


@variant
def vote_not_stored() -> Iterator[None]:
    """The journal stores the term without the vote."""

    def broken(term: int, vote: str | None) -> bytes:
        return meta_record(term, None)

    with patched(journal, meta_record=broken):
        yield


@variant
def vote_forgotten_at_restart() -> Iterator[None]:
    """A restarted replica knows its term and not whom it voted for."""
    make = RaftCore.__init__

    def broken(core: Any, **rest: Any) -> None:
        make(core, **rest)
        core._SyncObj__votedForNodeId = None

    with patched(RaftCore, __init__=broken):
        yield
