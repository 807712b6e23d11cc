"""A leader that goes back further than ours, which makes some mistakes of followers show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from broken.registry import patched
from raftcoord.consensus.engine import RaftEngine
from raftcoord.consensus.interface import Role
from raftcoord.consensus.replication import Replication


@contextmanager
def cautious_leader() -> Iterator[None]:
    """A leader that first asks how far a follower's log matches, from what it last confirmed on.

    That is right too, and what many implementations do. Ours sends on from where it was, over connections
    that keep the order, so that a follower is never asked for less than it holds: mistakes that it could make
    then show only with another leader.
    """
    send_to, peer_up = Replication._send_to, RaftEngine.peer_up

    def ask_first(self: Any, peer: str) -> bool:
        return self._progress[peer].answered > 0 and send_to(self, peer)

    def begin_at_match(engine: Any, peer: str, incarnation: str) -> None:
        peer_up(engine, peer, incarnation)
        core = engine._core
        if core.role is Role.LEADER and core.match_index(peer):
            core.set_next_index(peer, min(core.next_index(peer), core.match_index(peer) + 1))

    with patched(Replication, _send_to=ask_first), patched(RaftEngine, peer_up=begin_at_match):
        yield
