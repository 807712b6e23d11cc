"""The whole surface between the engine and PySyncObj's core: every private name that is touched is here.

The core supplies roles, terms, votes, log replication and the commit rule. It is run with `autoTick=False`,
without its sockets, its snapshots, its command queue, its method calls and its membership changes.

Overridden: the election gate (pre-vote comes first), the sending of appends (windows, snapshots), the
apply loop (total, in slices), the timeout draw (injected randomness), log compaction (the engine's own).
Written: commit index and last applied (after a restore or an install), next and match index, the election
deadline (when the connection to the leader broke), the time of the next heartbeat.

Invariants:
  1. Nothing outside this file names a private of the core.
  2. Every call into the core runs with the replica's own clock (`library.use_clock`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from raftcoord.consensus.interface import Role
from raftcoord.consensus.library import (
    NullPoller,
    PeerNode,
    SyncObj,
    SyncObjConf,
    Transport,
    journal_for_construction,
    running,
    use_clock,
)
from raftcoord.runtime import Clock, Rng

COMMAND: Final = b"\x00"
NO_OP: Final = b"\x01"
_ROLES: Final = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)

Entry = tuple[bytes, int, int]  # command, index, term


class ElectionRules(Protocol):
    """When the core may start an election; asked from inside a tick or a message."""

    def may_campaign(self) -> bool:
        """Decide whether an expired election deadline may start an election now."""

    def timeout_s(self) -> float:
        """Draw a fresh election timeout in seconds."""


class CoreHooks(Protocol):
    """What the engine does for the core; called from inside a tick or a message."""

    def send_appends(self) -> None:
        """Send what the followers need; called when a heartbeat is due."""

    def apply_committed(self) -> None:
        """Apply entries up to the commit index, or as many as one slice takes."""

    def role_changed(self, old: Role, new: Role) -> None:
        """Take note of a change of role; the core is in the middle of it."""


class RaftCore(SyncObj):  # type: ignore[misc]
    """One replica's Raft state, on the library's core.

    Args:
        name: this replica's name; `peers` are the names of the others.
        journal: the durable log, already recovered.
        transport: takes what the core sends.
        election_timeout_s, heartbeat_s: the library's minimum election timeout and append period.
    """

    # The library's constructor reads every attribute of the class, ours included, before it sets this one.
    _SyncObj__newAppendEntriesTime: float = 0.0

    def __init__(
        self,
        *,
        name: str,
        peers: Iterable[str],
        journal: Any,
        transport: Transport,
        hooks: CoreHooks,
        elections: ElectionRules,
        clock: Clock,
        election_timeout_s: float,
        heartbeat_s: float,
    ) -> None:
        self._clock = clock
        self._hooks = hooks
        self._elections = elections
        conf = SyncObjConf(
            autoTick=False,
            dynamicMembershipChange=False,
            commandsWaitLeader=False,
            raftMinTimeout=election_timeout_s,
            raftMaxTimeout=2 * election_timeout_s,
            appendEntriesPeriod=heartbeat_s,
            leaderFallbackTimeout=election_timeout_s,
            connectionTimeout=4 * election_timeout_s,
            onStateChanged=self._on_state_changed,
            pollerType="select",
        )
        self._nodes = {peer: PeerNode(peer) for peer in peers}
        with running(clock), journal_for_construction(journal):
            super().__init__(PeerNode(name), list(self._nodes.values()), conf, transport=transport)
        self._poller = NullPoller()
        self._SyncObj__needLoadDumpFile = False

    def __repr__(self) -> str:
        return (
            f"<RaftCore {self.role.value} term={self.term} leader={self.leader} "
            f"commit={self.commit_index} applied={self.applied_index} last={self.last_index}>"
        )

    # What the engine reads.

    @property
    def role(self) -> Role:
        return _ROLES[self._SyncObj__raftState]

    @property
    def term(self) -> int:
        term: int = self._SyncObj__raftCurrentTerm
        return term

    @property
    def leader(self) -> str | None:
        node = self._SyncObj__raftLeader
        return None if node is None else node.id

    @property
    def commit_index(self) -> int:
        index: int = self._SyncObj__raftCommitIndex
        return index

    @property
    def applied_index(self) -> int:
        index: int = self._SyncObj__raftLastApplied
        return index

    @property
    def log(self) -> Any:
        return self._SyncObj__raftLog

    @property
    def first_index(self) -> int:
        index: int = self.log[0][1]
        return index

    @property
    def last_index(self) -> int:
        index: int = self.log[-1][1]
        return index

    @property
    def last_term(self) -> int:
        term: int = self.log[-1][2]
        return term

    def term_at(self, index: int) -> int:
        """Return the term of the entry at an index that the log holds."""
        term: int = self.log[index - self.first_index][2]
        return term

    @property
    def first_index_of_term(self) -> int | None:
        """Index of the no-op with which this replica began its latest leadership."""
        index: int | None = self._SyncObj__noopIDx
        return index

    @property
    def hand_over_requested(self) -> bool:
        """Whether the leader told this replica to take over."""
        requested: bool = self._SyncObj__transferInProgress
        return requested

    @property
    def election_deadline(self) -> float:
        deadline: float = self._SyncObj__raftElectionDeadline
        return deadline

    @election_deadline.setter
    def election_deadline(self, at: float) -> None:
        self._SyncObj__raftElectionDeadline = at

    @property
    def heartbeat_due_at(self) -> float:
        return self._SyncObj__newAppendEntriesTime

    def heartbeat_sent(self) -> None:
        """Plan the next heartbeat one period from now."""
        self._SyncObj__newAppendEntriesTime = self._clock.now() + self.conf.appendEntriesPeriod

    def next_index(self, peer: str) -> int:
        index: int = self._SyncObj__raftNextIndex[self._nodes[peer]]
        return index

    def set_next_index(self, peer: str, index: int) -> None:
        self._SyncObj__raftNextIndex[self._nodes[peer]] = index

    def match_index(self, peer: str) -> int:
        index: int = self._SyncObj__raftMatchIndex.get(self._nodes[peer], 0)
        return index

    def forget_match(self, peer: str) -> None:
        """The peer is a new incarnation: count nothing that the old one said."""
        if self._nodes[peer] in self._SyncObj__raftMatchIndex:
            self._SyncObj__raftMatchIndex[self._nodes[peer]] = 0

    def set_position(self, *, applied: int, commit: int) -> None:
        """State what a restored or installed snapshot covers."""
        self._SyncObj__raftLastApplied = applied
        self._SyncObj__raftCommitIndex = commit

    def advance_applied(self) -> None:
        """One more entry was applied."""
        self._SyncObj__raftLastApplied += 1

    # What the engine makes it do.

    def tick(self) -> None:
        """Check deadlines, advance the commit index, apply, send heartbeats."""
        use_clock(self._clock)
        self.doTick(0.0)

    def handle(self, peer: str, message: dict[str, Any]) -> None:
        """Give one message from a peer to the core, past all our guards."""
        use_clock(self._clock)
        self._SyncObj__transport._onMessageReceived(self._nodes[peer], message)

    def peer_connected(self, peer: str) -> None:
        self._SyncObj__transport._onNodeConnected(self._nodes[peer])

    def peer_disconnected(self, peer: str) -> None:
        self._SyncObj__transport._onNodeDisconnected(self._nodes[peer])

    def append(self, command: bytes) -> tuple[int, int]:
        """As leader, add one entry to the log; return its (index, term)."""
        index, term = self.last_index + 1, self.term
        self.log.add(command, index, term)
        return index, term

    def hand_over_to(self, peer: str) -> None:
        """As leader, tell a follower that has the whole log to start an election at once."""
        use_clock(self._clock)
        self.transferLeadership(self._nodes[peer])

    # What the core asks of us instead of doing it its own way.

    def _on_state_changed(self, old: int, new: int) -> None:
        self._hooks.role_changed(_ROLES[old], _ROLES[new])

    def _checkCommandsToApply(self) -> None:
        """The library's command queue is not used."""

    def _SyncObj__connectedToAnyone(self) -> bool:
        return self._elections.may_campaign()

    def _SyncObj__sendAppendEntries(self) -> None:
        self.heartbeat_sent()
        self._hooks.send_appends()

    def _SyncObj__generateRaftTimeout(self) -> float:
        return self._elections.timeout_s()

    def _SyncObj__applyLogEntries(self) -> bool:
        self._hooks.apply_committed()
        return False

    def _SyncObj__tryLogCompaction(self) -> None:
        """Snapshots and compaction are the engine's."""


def draw_timeout_s(rng: Rng, low_s: float, high_s: float) -> float:
    """Draw a duration evenly from [low_s, high_s)."""
    return low_s + (high_s - low_s) * rng.random()
