"""What the rest of the system knows of consensus. Nothing above this file knows the library behind it.

Invariants:
  1. `StateMachine.apply` is called once per index, in index order, on every replica.
  2. A proposal's callback is called exactly once: with `Committed` after this replica applied it, or with
     `NotCommitted` when this replica will not learn its fate. Callbacks run inside the engine and must
     only enqueue: they never raise and never call back into the engine's tick.
  3. A barrier answers True only if this replica was leader at some moment after the call, has applied an
     entry of its own term, and has applied everything that was committed at the moment of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol


class Role(Enum):
    """What a replica is at the moment."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class ConsensusError(Exception):
    """Root of what the engine raises at its user."""


class NotLeaderError(ConsensusError):
    """Only a ready leader can do this."""


class FatalError(ConsensusError):
    """The replica cannot go on: a disk failed, the log is damaged, or apply raised."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The entry is committed and applied here; `result` is what `StateMachine.apply` returned."""

    index: int
    result: Any


class NotCommitted(Enum):
    """Why a proposal ended without a result."""

    NOT_LEADER = "not leader"  # never entered the log
    OUTCOME_UNKNOWN = "outcome unknown"  # entered the log; a later leader may or may not commit it


Outcome = Committed | NotCommitted
ProposalCallback = Callable[[Outcome], None]
BarrierCallback = Callable[[bool], None]


class StateMachine(Protocol):
    """The replicated state. Deterministic and total: an exception stops the replica."""

    def apply(self, index: int, payload: bytes) -> Any:
        """Apply one committed entry; the return value reaches the proposer only."""

    def begin_snapshot(self) -> Iterator[bytes]:
        """Freeze the state as of now; return its bytes in slices, each cheap to produce.

        Entries may be applied between two slices; the bytes must not show them. Only one snapshot is
        under way at a time; closing the iterator (`close()`) abandons it.
        """

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by what `begin_snapshot` gave; raise ValueError when it is damaged."""


class EngineListener(Protocol):
    """What the engine tells its user, always from the event loop, never during a call into it."""

    def on_leader_ready(self, term: int) -> None:
        """This replica leads and has applied an entry of its own term: it may serve."""

    def on_leadership_lost(self) -> None:
        """This replica was a ready leader and is no more."""

    def after_turn(self) -> None:
        """The engine has done a round of work and told all it had to tell; it may be called into now."""

    def on_fatal(self, error: BaseException) -> None:
        """The engine has stopped itself and will never acknowledge anything again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How one replica takes part.

    `peers` maps the name of every member, this one included, to its peer address "host:port".
    `client_address` is told to the other members, so that any of them can name the leader to a client.
    """

    name: str
    data_dir: str
    peers: Mapping[str, str]
    client_address: str
    secret: str = ""
    listen: str | None = None  # where to accept peers; the own entry in `peers` when None
    heartbeat_ms: int = 75
    election_timeout_ms: int = 400
    segment_bytes: int = 16 * 1024 * 1024
    snapshot_log_bytes: int = 64 * 1024 * 1024
    snapshot_log_entries: int = 500_000
    trailing_log_bytes: int = 4 * 1024 * 1024
    entry_bytes_max: int = 12 * 1024 * 1024
    snapshot_chunk_bytes: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What a replica knows of another one.

    `match_index` is None unless asked of the leader; `problem` says why the last connection ended.
    """

    name: str
    address: str
    connected: bool
    match_index: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A consistent view of one replica. Indexes count log entries."""

    name: str
    identity: str
    role: Role
    term: int
    leader: str | None
    leader_client_address: str | None
    ready: bool
    formed: bool
    first_index: int
    last_index: int
    commit_index: int
    applied_index: int
    snapshot_index: int
    log_bytes: int
    peers: tuple[PeerStatus, ...] = ()
    counters: Mapping[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """One replica's part in the consensus."""

    async def start(self) -> None:
        """Recover from disk, then listen and connect.

        Raises:
            FatalError: the data folder cannot be used; the message says why and what to do.
            OSError: the peer address cannot be listened on.
        """

    async def stop(self, *, hand_over: bool = True) -> None:
        """Stop; a leader first hands over to its most up-to-date follower, within a bounded time."""

    def propose(self, payload: bytes, callback: ProposalCallback) -> None:
        """Append one entry; `callback` learns its fate (invariant 2)."""

    def hurry(self) -> None:
        """Do at once what is due, instead of in the next iteration of the event loop: a hop less in the
        latency of a write. Without effect from inside a callback.
        """

    def read_barrier(self, callback: BarrierCallback) -> None:
        """Call back with True when a read of the state machine is linearizable (invariant 3)."""

    @property
    def is_ready_leader(self) -> bool:
        """Whether this replica leads and has applied an entry of its own term."""

    def leader_hint(self) -> str | None:
        """Return the client address of the leader as far as known, else None."""

    @property
    def is_in_touch(self) -> bool:
        """Whether this replica leads, or heard its leader within the election timeout."""

    async def transfer_leadership(self, target: str | None = None) -> bool:
        """Hand over to `target`, or to the most up-to-date follower; tell whether another now leads.

        Raises:
            NotLeaderError: this replica does not lead.
            ValueError: `target` is no other member.
        """

    async def snapshot(self) -> int:
        """Write a snapshot now and return its index; joins one that is under way.

        Raises:
            FatalError: the engine has failed or is not running.
        """

    def status(self) -> EngineStatus: ...
