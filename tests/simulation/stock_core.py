"""The stock library's core, and what is handed to it: transport, clock, randomness, and a perfect disk.

`PerfectJournal` is kept in memory, the library's snapshot in a real file; both belong to a simulated host,
live on across its restarts and lose nothing, whatever happens to it. What goes wrong is not the disk's fault.

No repair of the library may live here. All names of the library's that begin with an underscore are in this
file.

Invariants:
  1. Nothing of the library is changed but what it takes as a parameter or as a module's name: transport,
     journal object, serializer, clock, randomness.
  2. Every call into the library happens inside `StockCore.inside`.
  3. Entries have the indexes of the library's log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec
from pysyncobj import replicated
from stock import PerfectJournal
from stock_links import Message

from raftcoord.consensus.interface import EngineConfig, Role, StateMachine
from raftcoord.consensus.library import (
    NullPoller,
    PeerNode,
    SyncObj,
    SyncObjConf,
    Transport,
    journal_for_construction,
    running,
)
from raftcoord.runtime import Clock, Rng, Runtime
from raftcoord.testing.simulation.disk import HostDisk, ProcessDisk
from raftcoord.testing.simulation.process import SimClock
from raftcoord.testing.simulation.raft_checks import Entry

READ_S: Final = 50e-6
# Sizes, as much smaller than the library's as everything that is simulated.
BATCH_BYTES: Final = 2048  # of one append; 64 KiB by default
SNAPSHOT_LOG_ENTRIES: Final = 4  # 5000 by default
NEVER: Final = 10**9
_ROLES: Final = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[Entry, Entry, list[str], bytes]).decode


@dataclass(frozen=True, slots=True)
class StockDisk:
    """What one host keeps for the library."""

    dump_path: str
    journal: PerfectJournal = field(default_factory=PerfectJournal)


class Randomness:
    """Stands in the library for the module `random`: that of the replica which runs."""

    rng: Rng

    def random(self) -> float:
        """Return a float in [0, 1)."""
        return self.rng.random()


class Hosts:
    """The disks of all hosts, and the randomness that they share; `folder` is a real one."""

    def __init__(self, folder: Path) -> None:
        self.randomness = Randomness()
        self._folder = folder
        self._count = 0
        self._disks: WeakKeyDictionary[HostDisk, StockDisk] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<Hosts disks={len(self._disks)}>"

    def disk(self, runtime: Runtime) -> StockDisk:
        """Return the disk of the host on which a process runs."""
        assert isinstance(runtime.disk, ProcessDisk)
        host = runtime.disk._host_disk
        if host not in self._disks:
            self._count += 1
            self._disks[host] = StockDisk(str(self._folder / f"{self._count}.dump"))
        return self._disks[host]


class _WorkingClock:
    """A process's clock, on which looking at it takes a little time.

    The library leaves some of its loops when time has passed in them.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        if isinstance(self._clock, SimClock):
            self._clock.elapsed_s += READ_S
        return self._clock.now()


class StockTransport(Transport):  # type: ignore[misc]
    """What the library sends goes to `send`; what arrives is told by the methods of its base class."""

    def __init__(self, send: Callable[[str, Message], bool]) -> None:
        super().__init__(None, None, [])
        self._send = send

    def send(self, node: Any, message: Message) -> bool:
        return self._send(node.id, message)

    def connected(self, peer: str) -> None:
        self._onNodeConnected(PeerNode(peer))

    def disconnected(self, peer: str) -> None:
        self._onNodeDisconnected(PeerNode(peer))

    def arrived(self, peer: str, message: Message) -> None:
        self._onMessageReceived(PeerNode(peer), message)


class StockCore(SyncObj):  # type: ignore[misc]
    """The library's object, with one replicated method, and names for what is read of it.

    Args:
        state_machine: returns where commands are applied, and what snapshots are taken of.
        on_state_changed: told (old role, new role).
    """

    def __init__(
        self,
        config: EngineConfig,
        runtime: Runtime,
        hosts: Hosts,
        *,
        transport: StockTransport,
        state_machine: Callable[[], StateMachine],
        on_state_changed: Callable[[Role, Role], None],
    ) -> None:
        self._rng, self._randomness = runtime.rng, hosts.randomness
        self._working_clock = _WorkingClock(runtime.clock)
        self._state_machine = state_machine
        self.dump_index = 0  # of the snapshot that was written or restored last
        disk = hosts.disk(runtime)
        timeout_s = config.election_timeout_ms / 1000
        conf = SyncObjConf(
            autoTick=False,
            commandsWaitLeader=False,
            raftMinTimeout=timeout_s,
            raftMaxTimeout=2 * timeout_s,
            appendEntriesPeriod=config.heartbeat_ms / 1000,
            appendEntriesBatchSizeBytes=BATCH_BYTES,
            fullDumpFile=disk.dump_path,
            serializer=self._write_dump,
            deserializer=self._restore_dump,
            logCompactionMinEntries=SNAPSHOT_LOG_ENTRIES,
            logCompactionMinTime=NEVER,
            logCompactionBatchSize=config.snapshot_chunk_bytes,
            onStateChanged=lambda old, new: on_state_changed(_ROLES[old], _ROLES[new]),
            pollerType="select",
        )
        others = [PeerNode(name) for name in config.peers if name != config.name]
        with self.inside(), journal_for_construction(disk.journal):
            super().__init__(PeerNode(config.name), others, conf, transport=transport)
        self._poller = NullPoller()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let the library see this replica's clock and randomness."""
        self._randomness.rng = self._rng
        with running(self._working_clock):
            yield

    @replicated  # type: ignore[untyped-decorator]
    def put(self, payload: bytes) -> Any:
        """Apply one command; the library counts it as applied after this returns."""
        return self._state_machine().apply(self.raftLastApplied + 1, payload)

    # Snapshots, as the library calls for them.

    def _write_dump(self, path: str, data: tuple[Entry, Entry, set[Any]]) -> None:
        last, before, nodes = data
        state = b"".join(self._state_machine().begin_snapshot())
        Path(path).write_bytes(_encode((last, before, sorted(node.id for node in nodes), state)))
        self.dump_index = last[1]

    def _restore_dump(self, path: str) -> tuple[Entry, Entry, set[Any]]:
        last, before, names, state = _decode(Path(path).read_bytes())
        self.dump_index = last[1]
        self._state_machine().restore([state])
        return last, before, {PeerNode(name) for name in names}

    # What is read.

    def role_now(self) -> Role:
        """Return what this replica is."""
        return _ROLES[self._SyncObj__raftState]

    def log_now(self) -> Any:
        """Return the journal."""
        return self._SyncObj__raftLog

    def leader_name(self) -> str | None:
        """Return whom this replica takes for the leader."""
        node = self._SyncObj__raftLeader
        return None if node is None else node.id

    def has_applied_own_term(self) -> bool:
        """Return whether the no-op with which its latest leadership began is applied."""
        index: int | None = self._SyncObj__noopIDx
        return index is not None and self.raftLastApplied >= index
