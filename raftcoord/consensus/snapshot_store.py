"""Durable snapshots of the state machine: which is the newest one, writing it, reading it, replacing it.

What the slices hold, and whether a snapshot may be installed at all, is not known here.

Invariants:
  1. A file gets its name only when all of it is on stable storage; until then it has a temporary one.
  2. `latest` never goes back. Older files are removed only after the newer one's name is durable.
  3. A newest snapshot that is damaged is an error, never hidden behind an older one: the log is compacted
     behind the newest, so the older one would miss entries.
  4. Nothing received is installed unless all of it verifies and its header says what was announced.

All calls are made on the event loop; what may take long runs through `Disk.run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from raftcoord.consensus.snapshot_file import ChunkWriter, SnapshotHeader, read_chunks, read_header
from raftcoord.consensus.snapshot_transfer import (
    SnapshotDamaged,
    SnapshotFailed,
    SnapshotMeta,
    SnapshotReader,
    SnapshotReceiver,
    snapshot_failed,
)
from raftcoord.runtime import Disk, File

__all__ = [
    "SnapshotDamaged",
    "SnapshotFailed",
    "SnapshotMeta",
    "SnapshotReader",
    "SnapshotReceiver",
    "SnapshotStore",
]

_TEMPORARY_SUFFIX: Final = ".tmp"
_NAME: Final = re.compile(r"snapshot-([0-9]{20})-([0-9]{10,20})\.snap")
_WRITE_BYTES: Final = 256 * 1024  # slices handed to the disk at a time
_YIELD_BYTES: Final = 32 * 1024  # slices taken before the event loop gets its turn

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class SnapshotStore:
    """The snapshots of one replica; made by `open`."""

    def __init__(self, *, disk: Disk, directory: str, latest: SnapshotMeta | None) -> None:
        self._disk = disk
        self._directory = directory
        self._latest = latest
        self._temporary_count = 0

    def __repr__(self) -> str:
        return f"<SnapshotStore {self._directory!r} latest={self._latest!r}>"

    @classmethod
    def open(cls, *, disk: Disk, directory: str) -> SnapshotStore:
        """Find and verify the newest snapshot; remove older ones, and what was never finished.

        Raises:
            SnapshotDamaged: the newest snapshot does not verify.
            SnapshotFailed: the disk refused.
        """
        store = cls(disk=disk, directory=directory, latest=None)
        try:
            # A process killed between rename and sync left a name that is not durable yet.
            disk.sync_directory(directory)
            for name in disk.list_directory(directory):
                if name.endswith(_TEMPORARY_SUFFIX):
                    disk.remove(f"{directory}/{name}")
            newest = max(store._stored(), default=None)
            if newest is not None:
                store._latest = _verified(disk, *newest)
                store._remove_older(store._latest.index)
        except OSError as error:
            raise snapshot_failed("opening", directory, error) from error
        _log.info("snapshots_opened directory=%s latest=%r", directory, store._latest)
        return store

    @property
    def latest(self) -> SnapshotMeta | None:
        """The newest durable snapshot."""
        return self._latest

    def read(self) -> Iterator[bytes]:
        """Yield the slices of the latest snapshot, each verified.

        Raises:
            SnapshotDamaged: something does not verify; what was yielded must not be used.
            SnapshotFailed: the disk refused, or there is no snapshot.
        """
        latest = self._require_latest()
        try:
            with contextlib.closing(self._disk.open(latest.path)) as file:
                yield from read_chunks(file)
        except ValueError as error:
            raise _damaged(latest.path, error) from error
        except OSError as error:
            raise snapshot_failed("reading", latest.path, error) from error

    def open_reader(self) -> SnapshotReader:
        """Open the latest snapshot's file. Raises SnapshotFailed, also when there is no snapshot."""
        latest = self._require_latest()
        try:
            return SnapshotReader(self._disk.open(latest.path), latest)
        except OSError as error:
            raise snapshot_failed("opening", latest.path, error) from error

    async def write(self, index: int, term: int, slices: Iterator[bytes]) -> SnapshotMeta:
        """Write a snapshot that ends with the entry (index, term), or return the latest if it reaches as far.

        `slices` is closed in any case. Only one `write` may be under way.

        Raises:
            SnapshotFailed: the disk refused or `slices` raised; the stored snapshot is as it was.
        """
        path = self._temporary_path("write")
        try:
            if self._latest is not None and self._latest.index >= index:
                return self._latest
            size_bytes = await self._write_file(path, SnapshotHeader(index, term), slices)
            return await self._adopt(path, SnapshotMeta(index, term, size_bytes, self._path(index, term)))
        except SnapshotFailed:
            raise
        except Exception as error:
            raise snapshot_failed("writing", path, error) from error
        finally:
            close_slices = getattr(slices, "close", None)
            if close_slices is not None:
                close_slices()
            self._remove_quietly(path)

    def receive(self, *, index: int, term: int, size_bytes: int) -> SnapshotReceiver:
        """Begin to take in a snapshot file. Raises SnapshotFailed when the disk refuses."""
        path = self._temporary_path("receive")
        try:
            return SnapshotReceiver(disk=self._disk, path=path, index=index, term=term, size_bytes=size_bytes)
        except OSError as error:
            raise snapshot_failed("receiving", path, error) from error

    async def install(self, receiver: SnapshotReceiver) -> SnapshotMeta:
        """Make what was received the latest snapshot, or return the latest if that reaches further.

        Raises:
            SnapshotDamaged: it is incomplete or does not verify; it is discarded.
            SnapshotFailed: the disk refused; it is discarded.
        """
        try:
            meta = await self._in_thread(lambda: self._check_received(receiver))
            return await self._adopt(receiver.path, meta)
        except OSError as error:
            raise snapshot_failed("installing", receiver.path, error) from error
        finally:
            receiver.discard()

    def install_now(self, receiver: SnapshotReceiver) -> SnapshotMeta:
        """Do what `install` does, all of it before returning. Raises the same."""
        try:
            meta = self._check_received(receiver)
            if self._reaches_as_far(meta):
                self._commit(receiver.path, meta)
                self._latest = meta
                self._remove_older(meta.index)
            return self._require_latest()
        except OSError as error:
            raise snapshot_failed("installing", receiver.path, error) from error
        finally:
            receiver.discard()

    # Names.

    def _path(self, index: int, term: int) -> str:
        return f"{self._directory}/snapshot-{index:020d}-{term:010d}.snap"

    def _temporary_path(self, purpose: str) -> str:
        self._temporary_count += 1
        return f"{self._directory}/{purpose}-{self._temporary_count}{_TEMPORARY_SUFFIX}"

    def _stored(self) -> Iterator[tuple[int, int, str]]:
        for name in self._disk.list_directory(self._directory):
            match = _NAME.fullmatch(name)
            if match is not None:
                yield int(match[1]), int(match[2]), f"{self._directory}/{name}"

    def _remove_older(self, index: int) -> None:
        for stored_index, _term, path in self._stored():
            if stored_index < index:
                self._remove_quietly(path)

    def _remove_quietly(self, path: str) -> None:
        with contextlib.suppress(OSError):  # what stays is removed when the store is opened next
            if self._disk.exists(path):
                self._disk.remove(path)

    # Replacing the latest.

    def _require_latest(self) -> SnapshotMeta:
        if self._latest is None:
            raise SnapshotFailed(f"there is no snapshot in {self._directory}")
        return self._latest

    def _reaches_as_far(self, meta: SnapshotMeta) -> bool:
        return self._latest is None or meta.index >= self._latest.index

    def _commit(self, temporary_path: str, meta: SnapshotMeta) -> None:
        self._disk.rename(temporary_path, meta.path)
        self._disk.sync_directory(self._directory)
        _log.info("snapshot_stored index=%d term=%d bytes=%d", meta.index, meta.term, meta.size_bytes)

    async def _adopt(self, temporary_path: str, meta: SnapshotMeta) -> SnapshotMeta:
        """Make a complete, synced file the latest snapshot, unless a newer one came meanwhile."""
        is_stored = False

        def store() -> None:
            nonlocal is_stored
            self._commit(temporary_path, meta)
            is_stored = True

        if self._reaches_as_far(meta):
            try:
                await self._in_thread(store)
            finally:
                # Also when cancelled: the file is there. While the thread ran, `install_now` can have
                # brought a newer one, which stays.
                if is_stored and self._reaches_as_far(meta):
                    self._latest = meta
        index = self._require_latest().index
        await self._in_thread(lambda: self._remove_older(index))
        return self._require_latest()

    def _check_received(self, receiver: SnapshotReceiver) -> SnapshotMeta:
        index, term, file = receiver.index, receiver.term, receiver.file
        if file is None or not receiver.complete:
            raise SnapshotDamaged(f"{receiver!r} is not complete")
        file.sync()
        _verify(file, receiver.path, index, term)
        return SnapshotMeta(index, term, receiver.size_bytes, self._path(index, term))

    # Writing.

    async def _write_file(self, path: str, header: SnapshotHeader, slices: Iterator[bytes]) -> int:
        """Write and sync a whole file; return its size in bytes."""
        output = await self._in_thread(lambda: _Output(self._disk.open(path, create=True), header))
        try:
            batch: list[bytes] = []
            batch_bytes = unyielded_bytes = 0
            for data in slices:
                if data:
                    batch.append(data)
                batch_bytes += len(data)
                unyielded_bytes += len(data)
                if batch_bytes >= _WRITE_BYTES:
                    full, batch = batch, []
                    batch_bytes = unyielded_bytes = 0
                    await self._in_thread(lambda full=full: output.put(full))  # type: ignore[misc]
                elif unyielded_bytes >= _YIELD_BYTES:
                    unyielded_bytes = 0
                    await asyncio.sleep(0)
            return await self._in_thread(lambda: output.finish(batch))
        finally:
            output.close()

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        """Run disk work to its end, also when cancelled: its files are closed and removed right after."""
        work = asyncio.ensure_future(self._disk.run(function))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            while not work.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # looked at, so that it is not reported as forgotten
            raise


class _Output:
    """A snapshot file in the making. Raises OSError."""

    __slots__ = ("_chunks", "_file", "_size_bytes")

    def __init__(self, file: File, header: SnapshotHeader) -> None:
        self._file = file
        self._chunks = ChunkWriter()
        self._size_bytes = 0
        try:
            self._write(header.encode())
        except BaseException:
            file.close()
            raise

    def _write(self, data: bytes) -> None:
        self._file.pwrite(data, self._size_bytes)
        self._size_bytes += len(data)

    def put(self, slices: list[bytes]) -> None:
        self._write(self._chunks.encode(slices))

    def finish(self, slices: list[bytes]) -> int:
        """Write the rest, sync, and return the size in bytes."""
        self._write(self._chunks.encode(slices) + self._chunks.footer())
        self._file.sync()
        return self._size_bytes

    def close(self) -> None:
        self._file.close()


def _verified(disk: Disk, index: int, term: int, path: str) -> SnapshotMeta:
    with contextlib.closing(disk.open(path)) as file:
        _verify(file, path, index, term)
        return SnapshotMeta(index, term, file.size(), path)


def _verify(file: File, path: str, index: int, term: int) -> None:
    try:
        header = read_header(file)
        if header != SnapshotHeader(index, term):
            raise ValueError(f"the header says {header}, not index {index} of term {term}")
        for _ in read_chunks(file):
            pass
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: ValueError) -> SnapshotDamaged:
    return SnapshotDamaged(
        f"snapshot damaged: {path}: {error}; do not remove it, the log before it is gone: keep this folder "
        "for analysis, check the disk, and replace this replica by a new member with an empty data folder"
    )
