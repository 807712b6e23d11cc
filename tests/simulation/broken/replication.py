"""Broken variants: what a follower takes in and answers, what a leader makes of it, and what is applied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from broken.cautious import cautious_leader
from broken.registry import patched, variant
from raftcoord.consensus import applier, replication
from raftcoord.consensus.applier import Applier
from raftcoord.consensus.core import RaftCore
from raftcoord.consensus.guard import Guard
from raftcoord.consensus.interface import Committed, Role
from raftcoord.consensus.proposals import Proposals
from raftcoord.consensus.replication import Replication


@variant
def truncate_on_match() -> Iterator[None]:
    """A follower cuts its log behind the previous entry of every append, also when what follows matches."""
    append = Guard._append

    def broken(guard: Any, peer: str, body: Any) -> None:
        log, previous = guard.core.log, body["prevLogIdx"]
        first, last = log[0][1], log[-1][1]
        if first <= previous <= last and log[previous - first][2] == body["prevLogTerm"]:
            guard._hand_to_core(
                peer, body, body["entries"], previous, body["prevLogTerm"], body["commit_index"]
            )
        else:
            append(guard, peer, body)

    with cautious_leader(), patched(Guard, _append=broken):
        yield


@variant
def previous_entry_not_compared() -> Iterator[None]:
    """A follower takes entries behind a previous one of another term."""
    append = Guard._append

    def broken(guard: Any, peer: str, body: Any) -> None:
        log, previous = guard.core.log, body["prevLogIdx"]
        first, last = log[0][1], log[-1][1]
        if first <= previous <= last:
            body = {**body, "prevLogTerm": log[previous - first][2]}
        append(guard, peer, body)

    with patched(Guard, _append=broken):
        yield


@variant
def success_beyond_verified() -> Iterator[None]:
    """A follower answers that its whole log matches, of which only a part was compared."""
    hand = Guard._hand_to_core

    def broken(guard: Any, *arguments: Any) -> None:
        if guard._reply is not None and guard._reply["success"]:
            guard._reply["next_node_idx"] = guard.core.last_index + 1
        hand(guard, *arguments)

    with cautious_leader(), patched(Guard, _hand_to_core=broken):
        yield


@variant
def commit_past_match() -> Iterator[None]:
    """A follower commits as far as the leader did, also where its own log was not compared."""
    hand = Guard._hand_to_core

    def broken(guard: Any, peer: str, body: Any, entries: Any, previous: int, term: int, commit: int) -> None:
        hand(guard, peer, body, entries, previous, term, body.get("commit_index", commit))

    with cautious_leader(), patched(Guard, _hand_to_core=broken):
        yield


@variant
def term_check_skipped() -> Iterator[None]:
    """A follower takes the appends of a leader of an earlier term as if they were of its own."""
    on_append = Guard._on_append

    def broken(guard: Any, peer: str, envelope: Any, body: Any) -> None:
        on_append(guard, peer, envelope, {**body, "term": max(body["term"], guard.core.term)})

    with patched(Guard, _on_append=broken):
        yield


@variant
def refusals_counted() -> Iterator[None]:
    """A leader takes a follower's refusal for the confirmation of all before the named entry."""
    on_reply = Replication.on_append_reply

    def broken(self: Any, peer: str, number: int, body: Any) -> None:
        on_reply(self, peer, number, {**body, "success": True})

    with patched(Replication, on_append_reply=broken):
        yield


def _matches(core: Any) -> list[int]:
    """How far everybody's log matches, the leader's own first, in falling order."""
    return sorted([core.last_index, *(core.match_index(peer) for peer in core._nodes)], reverse=True)


@variant
def commit_earlier_term_by_counting() -> Iterator[None]:
    """A leader commits entries of earlier terms because a majority holds them; one entry to an append."""
    tick = RaftCore.tick

    def broken(core: Any) -> None:
        if core.role is Role.LEADER:
            matches = _matches(core)
            commit = max(core.commit_index, matches[len(matches) // 2])
            core.set_position(applied=core.applied_index, commit=commit)
        tick(core)

    with patched(RaftCore, tick=broken), patched(replication, APPEND_BYTES=1):
        yield


@variant
def commit_by_half() -> Iterator[None]:
    """A leader commits what one replica less than a majority holds."""
    tick = RaftCore.tick

    def broken(core: Any) -> None:
        matches = _matches(core)
        if core.role is Role.LEADER and len(matches) > 1:
            commit = matches[len(matches) // 2 - 1]
            if commit > core.commit_index and core.term_at(commit) == core.term:
                core.set_position(applied=core.applied_index, commit=commit)
        tick(core)

    with patched(RaftCore, tick=broken):
        yield


@variant
def applied_twice_at_slice_end() -> Iterator[None]:
    """Where a slice of applying ends, the next one begins with the same entry; slices are of one entry."""
    apply_slice = Applier.apply_slice

    def broken(self: Any) -> None:
        core, before = self._core, self._core.applied_index
        apply_slice(self)
        applied = core.applied_index
        if before < applied < core.commit_index and applied > self.__dict__.get("ended_at", 0):
            self.ended_at = applied
            core.set_position(applied=applied - 1, commit=core.commit_index)

    with patched(Applier, apply_slice=broken), patched(applier, SLICE_S=-1.0):
        yield


@variant
def outcome_by_index_only() -> Iterator[None]:
    """A proposal is told the outcome of whatever entry is applied at its index, also after a lost lead."""

    def applied(self: Any, index: int, term: int, result: Any) -> None:
        proposed = self._in_log.pop(index, None)
        if proposed is not None:
            self._tell(proposed[1], Committed(index, result))

    with patched(Proposals, applied=applied, lose_in_log=lambda self: None):
        yield
