"""Replicas of which nothing is real but what the checks of consensus are told of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from raftcoord.testing.simulation.raft_checks import Entry, RaftChecks
from raftcoord.testing.simulation.violation import Violation


@dataclass
class View:
    """A `ReplicaView` that is what the test says."""

    name: str
    incarnation: int = 1
    is_leader: bool = False
    is_ready_leader: bool = False
    vote: str | None = None
    applied_index: int = 0
    counted: dict[str, int] = field(default_factory=dict)
    term: int = 1
    commit_index: int = 0
    snapshot_index: int = 0
    snapshot_term: int = 0
    entries: list[Entry] = field(default_factory=list)

    @property
    def first_index(self) -> int:
        return self.entries[0][1]

    @property
    def last_index(self) -> int:
        return self.entries[-1][1]

    def entry(self, index: int) -> Entry:
        return self.entries[index - self.first_index]

    def matches(self) -> dict[str, int]:
        return self.counted


class Cluster:
    """Replicas "a", "b" and "c" with one entry each, and what is told of them."""

    def __init__(self) -> None:
        self.checks = RaftChecks(3)
        self.views = {name: View(name, entries=[(b"", 1, 0)]) for name in "abc"}
        for view in self.views.values():
            view.term = 0
            self.checks.recovered(view, 0, None)
            view.term = 1

    def write(self, names: str, *entries: tuple[int, int], sync: bool = True, command: bytes = b"") -> None:
        """Let replicas append entries (index, term)."""
        for name in names:
            view, durable = self.views[name], self.checks.durable[name]
            for index, term in entries:
                entry = (command or b"%d of %d" % (index, term), index, term)
                self.checks.entry_added(name, entry, view.entries[-1][2])
                view.entries.append(entry)
                durable.pending.append(("add", (index, term)))
            if sync:
                durable.synced()

    def truncate(self, name: str, index: int, *, sync: bool = True) -> None:
        """Let a replica drop its entries from an index on."""
        view, durable = self.views[name], self.checks.durable[name]
        view.entries = [entry for entry in view.entries if entry[1] < index]
        durable.pending.append(("truncate", index))
        if sync:
            durable.synced()

    def vote(self, name: str, term: int, choice: str | None, *, sync: bool = True) -> None:
        """Let a replica write down term and vote."""
        self.views[name].term = term
        self.checks.durable[name].pending.append(("vote", (term, choice)))
        if sync:
            self.checks.durable[name].synced()

    def look(self, name: str, **now: Any) -> None:
        """Look at a replica, in which something has changed."""
        for what, value in now.items():
            setattr(self.views[name], what, value)
        self.checks.look_at(self.views[name])

    def lead(self, name: str, term: int, voters: str = "abc") -> None:
        """Let a replica be seen as the leader of a term; these voted for it, or else for another."""
        for voter in voters:
            self.checks._votes.setdefault((voter, term), name)
        self.look(name, is_leader=True, term=term)

    def say(self, name: str, kind: str, peer: str = "b", **body: Any) -> None:
        """Let a replica send a message."""
        view = self.views[name]
        envelope = {"term": view.term, "number": 1, "echo": None, "body": {"type": kind, **body}}
        self.checks.said(view, peer, envelope)

    def restart(self, name: str, entries: list[Entry] | None = None, **now: Any) -> None:
        """Let a replica start again with what was durable, or with what the test says."""
        view, durable = self.views[name], self.checks.durable[name]
        term, vote = now.pop("term", durable.term), now.pop("vote", durable.vote)
        kept = [e for e in view.entries if durable.terms.get(e[1]) == e[2]]
        self.views[name] = View(
            name,
            view.incarnation + 1,
            term=term,
            vote=vote,
            entries=kept if entries is None else entries,
            **now,
        )
        self.checks.recovered(self.views[name], term, vote)


def rejects(invariant: str, function: Callable[..., object], *arguments: Any, **named: Any) -> None:
    with pytest.raises(Violation) as caught:
        function(*arguments, **named)
    assert caught.value.invariant == invariant, caught.value
