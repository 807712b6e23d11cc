"""When to start an election, and whom to let start one.

The core starts an election whenever its deadline passes. Here a pre-vote comes first (Ongaro, "Consensus:
Bridging Theory and Practice", section 9.6), so that a replica which cannot win never raises the term, and a
broken connection to the leader starts one at once, since a killed process closes its sockets.

Invariants:
  1. An election starts only after a majority said, for this very term, that it would vote and hears no
     leader; or because the leader itself asked for it (hand-over).
  2. A replica that has not met all members (not formed) neither votes nor campaigns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from raftcoord.consensus import messages as m
from raftcoord.consensus.core import RaftCore, draw_timeout_s
from raftcoord.consensus.interface import Role
from raftcoord.runtime import Clock, Rng

logger = logging.getLogger(__name__)

# After the connection to the leader broke: who goes first, and how soon anyone tries again.
_RANK_DELAY_S: Final = 0.02
_FAST_RETRY_S: Final = (0.015, 0.035)
_FAST_TIMEOUT_S: Final = (0.06, 0.12)
_FAST_PERIOD_S: Final = 2.0
_NEVER: Final = float("-inf")


class Elections:
    """Pre-vote and leader liveness of one replica.

    Args:
        names: all members, this one included.
        queue: puts a message into the outbox.
    """

    is_formed: bool = False

    def __init__(
        self,
        *,
        name: str,
        names: list[str],
        clock: Clock,
        rng: Rng,
        timeout_s: float,
        queue: Callable[[str, m.Body], int],
    ) -> None:
        self._name, self._names = name, sorted(names)
        self._others = [other for other in self._names if other != name]
        self._clock, self._rng, self._timeout_s = clock, rng, timeout_s
        self._queue = queue
        self._leader_heard_at = _NEVER
        self._fast_until = _NEVER
        self._forced_term = -1
        self._asked_term = -1
        self._granted: set[str] = set()
        self._retry_at = _NEVER
        self.pre_votes_started = 0
        self.core: RaftCore

    def __repr__(self) -> str:
        return f"<Elections asked_term={self._asked_term} granted={sorted(self._granted)}>"

    def is_peer(self, name: str) -> bool:
        """Whether `name` is another member."""
        return name in self._others

    # Liveness of the leader.

    def leader_heard(self) -> None:
        """A valid message of the current leader came in."""
        self._leader_heard_at = self._clock.now()
        self._fast_until = _NEVER

    def leader_is_alive(self) -> bool:
        """Whether this replica leads, or heard its leader within the election timeout."""
        if self.core.role is Role.LEADER:
            return True
        return self.core.leader is not None and self._clock.now() - self._leader_heard_at < self._timeout_s

    def leader_connection_lost(self, leader: str) -> None:
        """The connection to the leader broke: do not wait for the election timeout.

        The members take turns by name, so that one of them usually wins before the next one tries.
        """
        self._leader_heard_at = _NEVER
        self._hurry([other for other in self._names if other != leader])

    def begin(self) -> None:
        """Take part from now on: after a restart, or when all members have met for the first time.

        No leader has been heard, so none is waited for; one that is alive refuses the pre-vote.
        """
        self.is_formed = True
        self._hurry(self._names)

    def _hurry(self, candidates: list[str]) -> None:
        now = self._clock.now()
        self._fast_until = now + _FAST_PERIOD_S
        self._retry_at = _NEVER
        self.core.election_deadline = now + candidates.index(self._name) * _RANK_DELAY_S

    def timeout_s(self) -> float:
        """Draw an election timeout; short for a while after the leader's connection broke."""
        if self._clock.now() < self._fast_until:
            return draw_timeout_s(self._rng, *_FAST_TIMEOUT_S)
        return draw_timeout_s(self._rng, self._timeout_s, 2 * self._timeout_s)

    # Campaigning.

    def may_campaign(self) -> bool:
        """Decide, with the deadline expired, whether the core may start an election in this tick."""
        term = self.core.term + 1
        if not self.is_formed:
            return False
        if self.core.hand_over_requested:
            self._forced_term = term
            return True
        if not self._others:
            return True
        if self._asked_term == term and 2 * len(self._granted) > len(self._names):
            self._asked_term = -1
            logger.info("election_started term=%d pre_votes=%s", term, sorted(self._granted))
            return True
        if self._asked_term != term or self._clock.now() >= self._retry_at:
            self._ask(term)
        return False

    def _ask(self, term: int) -> None:
        fast = self._clock.now() < self._fast_until
        low_s, high_s = _FAST_RETRY_S if fast else (self._timeout_s / 2, self._timeout_s)
        self._retry_at = self._clock.now() + draw_timeout_s(self._rng, low_s, high_s)
        self._asked_term, self._granted = term, {self._name}
        self.pre_votes_started += 1
        for other in self._others:
            self._queue(
                other,
                {
                    "type": m.PRE_VOTE,
                    "term": term,
                    "last_log_index": self.core.last_index,
                    "last_log_term": self.core.last_term,
                },
            )

    def pre_vote_granted(self, peer: str, term: int) -> None:
        """Count a member's promise for the term that is being asked for."""
        if term == self._asked_term == self.core.term + 1:
            self._granted.add(peer)

    def grants_pre_vote(self, peer: str, term: int, last: tuple[int, int]) -> bool:
        """Decide whether `peer`, whose last entry is (term, index) `last`, may start an election."""
        own = (self.core.last_term, self.core.last_index)
        if term <= self.core.term or self.leader_is_alive() or last < own:
            return False
        # Two that ask each other at the same time would split the votes: the first by name goes on.
        return not (self._is_asking() and last == own and self._name < peer)

    def _is_asking(self) -> bool:
        return self._asked_term == self.core.term + 1 and self._clock.now() < self._retry_at

    def is_forced(self, term: int) -> bool:
        """Whether the election of this term was asked for by the leader."""
        return term == self._forced_term

    def next_event_at(self) -> float:
        """Return when the election deadline, or the next try after it, is due."""
        deadline = self.core.election_deadline
        return max(deadline, self._retry_at) if self._asked_term == self.core.term + 1 else deadline
