"""Putting one replica's consensus together from its data folder, in the order that recovery needs.

folder (lock, identity) -> snapshot -> journal aligned to it -> state machine -> core -> peers
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from raftcoord.consensus.core import CoreHooks, RaftCore
from raftcoord.consensus.elections import Elections
from raftcoord.consensus.guard import Guard
from raftcoord.consensus.handshake import Handshake
from raftcoord.consensus.identity import DataFolder
from raftcoord.consensus.interface import EngineConfig, FatalError, StateMachine
from raftcoord.consensus.journal import Journal
from raftcoord.consensus.members import Members
from raftcoord.consensus.replication import Replication
from raftcoord.consensus.snapshot_installer import SnapshotInstaller
from raftcoord.consensus.snapshot_sender import SnapshotSender
from raftcoord.consensus.snapshot_store import SnapshotStore
from raftcoord.consensus.transport import PeerListener, PeerTransport
from raftcoord.runtime import Runtime

_FRAME_OVERHEAD_BYTES = 2 * 1024 * 1024  # an append carries one large entry, or many within its own bound


class Owner(CoreHooks, PeerListener, Protocol):
    """What the parts need of the engine."""

    def snapshot_installed(self, peer: str, index: int) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that one running replica consists of."""

    folder: DataFolder
    store: SnapshotStore
    journal: Journal
    members: Members
    guard: Guard
    elections: Elections
    replication: Replication
    installer: SnapshotInstaller
    core: RaftCore
    transport: PeerTransport

    def close(self) -> None:
        """Close the files and give up the folder."""
        self.journal.close()
        self.folder.close()


class _StoreAsSource:
    """Opens the newest snapshot for a follower."""

    def __init__(self, store: SnapshotStore, chunk_bytes: int) -> None:
        self._store, self._chunk_bytes = store, chunk_bytes

    def open_sender(self) -> SnapshotSender | None:
        if self._store.latest is None:
            return None
        return SnapshotSender(self._store.open_reader(), self._chunk_bytes)


def _open_storage(
    config: EngineConfig, runtime: Runtime, folder: DataFolder
) -> tuple[SnapshotStore, Journal]:
    store = SnapshotStore.open(disk=runtime.disk, directory=folder.snapshot_directory)
    latest = store.latest
    journal = Journal.open(
        disk=runtime.disk,
        directory=folder.journal_directory,
        segment_bytes=config.segment_bytes,
        snapshot=None if latest is None else (latest.index, latest.term),
        salt=runtime.rng.token(16),
        must_exist=folder.members is not None,
    )
    return store, journal


def _restore(state_machine: StateMachine, store: SnapshotStore) -> None:
    if store.latest is not None:
        try:
            state_machine.restore(store.read())
        except ValueError as error:
            raise FatalError(f"the snapshot {store.latest.path} cannot be restored: {error}") from error


def _make_core(
    config: EngineConfig,
    runtime: Runtime,
    journal: Journal,
    guard: Guard,
    elections: Elections,
    owner: Owner,
) -> RaftCore:
    return RaftCore(
        name=config.name,
        peers=[peer for peer in config.peers if peer != config.name],
        journal=journal,
        transport=guard,
        hooks=owner,
        elections=elections,
        clock=runtime.clock,
        election_timeout_s=config.election_timeout_ms / 1000,
        heartbeat_s=config.heartbeat_ms / 1000,
    )


def _make_transport(
    config: EngineConfig, runtime: Runtime, folder: DataFolder, members: Members, owner: Owner
) -> PeerTransport:
    handshake = Handshake(
        name=config.name,
        names=list(config.peers),
        identity=folder.identity,
        client_address=config.client_address,
        secret=config.secret,
        members=members,
        rng=runtime.rng,
    )
    return PeerTransport(
        addresses={peer: address for peer, address in config.peers.items() if peer != config.name},
        listen=config.listen or config.peers[config.name],
        handshake=handshake,
        runtime=runtime,
        listener=owner,
        frame_bytes_max=config.entry_bytes_max + _FRAME_OVERHEAD_BYTES,
    )


def open_parts(
    config: EngineConfig,
    runtime: Runtime,
    state_machine: StateMachine,
    owner: Owner,
) -> Parts:
    """Recover one replica from its data folder and connect its parts; nothing runs yet.

    Raises:
        FatalError: the folder cannot be used; whatever was opened is closed again.
    """
    names = list(config.peers)
    if config.name not in names:
        raise FatalError(f"replica {config.name!r} is not among the members {sorted(names)}")
    peers = [peer for peer in names if peer != config.name]
    with ExitStack() as undo:
        folder = DataFolder.open(disk=runtime.disk, rng=runtime.rng, path=config.data_dir, name=config.name)
        undo.callback(folder.close)
        store, journal = _open_storage(config, runtime, folder)
        undo.callback(journal.close)
        _restore(state_machine, store)
        # Only now: the folder of a single replica forms at once, and a formed folder must have a journal.
        members = Members(folder, config.name, names)
        undo.pop_all()
    guard = Guard()
    elections = Elections(
        name=config.name,
        names=names,
        clock=runtime.clock,
        rng=runtime.rng,
        timeout_s=config.election_timeout_ms / 1000,
        queue=guard.queue,
    )
    replication = Replication(
        peers=peers, guard=guard, snapshots=_StoreAsSource(store, config.snapshot_chunk_bytes)
    )
    installer = SnapshotInstaller(
        store=store,
        journal=journal,
        state_machine=state_machine,
        spawn=owner.spawn,
        installed=owner.snapshot_installed,
    )
    core = _make_core(config, runtime, journal, guard, elections, owner)
    elections.core = replication.core = installer.core = core
    guard.attach(core, elections, replication, installer)
    if members.is_formed:
        elections.begin()
    if store.latest is not None:
        core.set_position(applied=store.latest.index, commit=store.latest.index)
    transport = _make_transport(config, runtime, folder, members, owner)
    return Parts(folder, store, journal, members, guard, elections, replication, installer, core, transport)
