"""Broken variants: how snapshots are written, sent and installed, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broken.cautious import cautious_leader
from broken.registry import Unsynced, patched, variant
from raftcoord.consensus import snapshot_store
from raftcoord.consensus.compaction import Compaction
from raftcoord.consensus.interface import Role
from raftcoord.consensus.journal import Journal
from raftcoord.consensus.snapshot_installer import SnapshotInstaller
from raftcoord.consensus.snapshot_store import SnapshotStore
from raftcoord.consensus.snapshot_transfer import SnapshotMeta, SnapshotReceiver
from raftcoord.machine import lock, queue, variable
from raftcoord.machine.machine import Machine
from raftcoord.machine.session import Session
from raftcoord.machine.snapshot import CopyOnWrite
from raftcoord.machine.waiting import Waiters, encode_waiters

# On the disk.


@variant
def snapshot_named_before_synced() -> Iterator[None]:
    """A snapshot gets its name before its contents are synced."""
    make = snapshot_store._Output.__init__

    def broken(self: Any, file: Any, header: Any) -> None:
        make(self, Unsynced(file), header)

    with patched(snapshot_store._Output, __init__=broken):
        yield


@variant
def snapshot_name_not_synced() -> Iterator[None]:
    """A snapshot counts, and older ones are removed, before its name is durable."""

    def broken(store: Any, temporary_path: str, meta: SnapshotMeta) -> None:
        store._disk.rename(temporary_path, meta.path)

    with patched(SnapshotStore, _commit=broken):
        yield


@variant
def log_compacted_before_snapshot() -> Iterator[None]:
    """The log is cut, and its files removed, before the snapshot that covers it is durable."""
    run = Compaction.run

    async def broken(self: Any) -> None:
        index = self._core.applied_index
        if self._under_way is None and index > self.snapshot_index and index >= self._core.first_index:
            self._journal.compact_to(self._first_index_to_keep(index))
            await self._disk.run(self._journal.collect_garbage)
        await run(self)

    with patched(Compaction, run=broken):
        yield


@variant
def journal_not_aligned() -> Iterator[None]:
    """A restarted replica goes on with its log as it is, also where the snapshot replaced it."""
    with patched(Journal, _align=lambda self, snapshot: None):
        yield


# On their way.


@variant
def older_snapshot_installed() -> Iterator[None]:
    """A snapshot that a leader sends is installed, however old it is."""

    async def install(self: Any, peer: str, receiver: SnapshotReceiver) -> None:
        try:
            meta = await self._store.install(receiver)
        finally:
            self._installing = False
        if self.core.role is not Role.LEADER:
            self._state_machine.restore(self._store.read())
            self._journal.reset_to(meta.index, meta.term)
            self.core.set_position(applied=meta.index, commit=meta.index)
            self._installed(peer, meta.index)

    def next_index(self: Any, index: int, term: int) -> int:
        return 0 if index < self.core.commit_index else int(needless(self, index, term))

    needless = SnapshotInstaller._next_index_when_needless
    installer = patched(SnapshotInstaller, _install=install, _next_index_when_needless=next_index)
    with cautious_leader(), installer, patched(SnapshotStore, _reaches_as_far=lambda self, meta: True):
        yield


@variant
def received_snapshot_not_synced() -> Iterator[None]:
    """A snapshot that was received is installed before its contents are synced."""
    check = SnapshotStore._check_received

    def broken(store: Any, receiver: Any) -> SnapshotMeta:
        receiver._file = Unsynced(receiver._file)
        return check(store, receiver)

    with patched(SnapshotStore, _check_received=broken):
        yield


@variant
def chunk_commits_unverified() -> Iterator[None]:
    """A chunk of a snapshot commits the log up to its index, also where the log is another one."""

    def broken(self: Any, index: int, term: int) -> int:
        core = self.core
        if index <= core.commit_index:
            return int(core.commit_index) + 1
        if core.first_index <= index <= core.last_index:
            core.set_position(applied=core.applied_index, commit=index)
            return index + 1
        return 0

    with patched(SnapshotInstaller, _next_index_when_needless=broken):
        yield


@variant
def applied_not_moved_by_install() -> Iterator[None]:
    """After an install a replica applies what the snapshot holds already."""
    install = SnapshotInstaller._install

    async def broken(self: Any, peer: str, receiver: SnapshotReceiver) -> None:
        applied = self.core.applied_index
        await install(self, peer, receiver)
        self.core.set_position(applied=applied, commit=self.core.commit_index)

    with patched(SnapshotInstaller, _install=broken):
        yield


# What they hold.


@variant
def snapshot_not_frozen() -> Iterator[None]:
    """What is applied while a snapshot is written gets into it."""
    with patched(CopyOnWrite, touch=lambda self, item: None):
        yield


@variant
def dedupe_forgotten_in_snapshots() -> Iterator[None]:
    """A snapshot does not hold the stored answers."""
    fields = Session.fields

    def broken(session: Any) -> list[Any]:
        values = fields(session)
        values[5] = []
        return values

    with patched(Session, fields=broken):
        yield


@variant
def counter_not_in_snapshots() -> Iterator[None]:
    """After a restore fences and revisions start again behind the newest session."""
    restore = Machine._restore_values

    def broken(machine: Any, values: Iterator[Any]) -> None:
        restore(machine, values)
        machine._context.number = max(machine._context.sessions, default=0)

    with patched(Machine, _restore_values=broken):
        yield


@variant
def waiters_sorted_in_snapshots() -> Iterator[None]:
    """A snapshot holds the waiters of an object by session and not in the order in which they came."""

    def broken(waiters: Waiters) -> list[Any]:
        return sorted(encode_waiters(waiters), key=lambda fields: (fields[0], fields[1]))

    in_locks, in_queues = patched(lock, encode_waiters=broken), patched(queue, encode_waiters=broken)
    with in_locks, in_queues, patched(variable, encode_waiters=broken):
        yield
