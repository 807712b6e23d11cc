"""Broken variants: who votes for whom, and who takes itself for the leader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broken.registry import patched, variant
from raftcoord.consensus import messages as m
from raftcoord.consensus.core import RaftCore
from raftcoord.consensus.elections import Elections
from raftcoord.consensus.engine import RaftEngine
from raftcoord.consensus.guard import Guard
from raftcoord.consensus.interface import Role


@variant
def vote_twice() -> Iterator[None]:
    """A replica votes for everybody who asks in a term."""
    handle = RaftCore.handle

    def broken(core: Any, peer: str, message: Any) -> None:
        if message["type"] == m.VOTE_REQUEST and message["term"] == core.term:
            core._SyncObj__votedForNodeId = None
        handle(core, peer, message)

    with patched(RaftCore, handle=broken):
        yield


@variant
def logs_not_compared_in_votes() -> Iterator[None]:
    """A replica votes for candidates that lack entries which it holds."""
    on_request, grants = Guard._on_vote_request, Elections.grants_pre_vote
    newest = {"last_log_term": 2**60, "last_log_index": 2**60}

    def vote(guard: Any, peer: str, envelope: Any, body: Any) -> None:
        on_request(guard, peer, envelope, {**body, **newest})

    def pre_vote(self: Any, peer: str, term: int, last: tuple[int, int]) -> bool:
        return grants(self, peer, term, max(last, (self.core.last_term, self.core.last_index)))

    with patched(Guard, _on_vote_request=vote), patched(Elections, grants_pre_vote=pre_vote):
        yield


@variant
def late_votes_counted() -> Iterator[None]:
    """A candidate counts votes that were given to it in an earlier term."""
    on_reply = Guard._on_vote_reply

    def broken(guard: Any, peer: str, envelope: Any, body: Any) -> None:
        on_reply(guard, peer, envelope, {**body, "term": guard.core.term})

    with patched(Guard, _on_vote_reply=broken):
        yield


@variant
def own_vote_counted_twice() -> Iterator[None]:
    """A candidate begins with two votes."""
    tick = RaftCore.tick

    def broken(core: Any) -> None:
        was = core.role, core.term
        tick(core)
        if core.role is Role.CANDIDATE and was != (core.role, core.term):
            core._SyncObj__votesCount += 1
            if 2 * core._SyncObj__votesCount > len(core._nodes) + 1:
                core._SyncObj__onBecomeLeader()

    with patched(RaftCore, tick=broken):
        yield


@variant
def serve_before_own_entry() -> Iterator[None]:
    """A new leader serves before it has applied an entry of its own term."""
    after_tick = RaftEngine._after_tick

    def broken(engine: Any) -> None:
        core = engine._core
        if core.role is Role.LEADER and engine._ready_term != core.term:
            engine._ready_term = core.term
            engine._tell(engine._listener.on_leader_ready, core.term)
        after_tick(engine)

    with patched(RaftEngine, _after_tick=broken):
        yield
