"""What must hold of the replicas' logs, terms, votes and commit indexes, whatever happens to them.

The checks know the whole cluster at once: every log ever written, what is durable on every disk, and what
was ever said. Who tells them is `probe.py`.

Invariants of what is checked (names as in docs/simulation.md):
  1. election safety: at most one replica leads in a term.
  2. log matching: entries of the same index and term are the same, and so is everything before them.
  3. leader completeness: a new leader's log holds every committed entry.
  4. committed is for ever: no index is committed twice with different entries.
  5. durable majority: when an entry is committed, it is synced on a majority.
  6. nothing is said that is not durable: term, vote and acknowledged entries are synced before a message
     that says so leaves; no replica votes twice in a term.
  7. nothing goes back: commit index and term of a running replica; what is on a disk after a restart.
  8. elected by a majority: whoever leads was voted for, in that term, by a majority.
  9. counted, so durable: what a leader counts as a peer's is on that peer's disk (unless a later leader had
     the peer replace it); what it commits by counting ends with an entry of its own term.
 10. a leader serves only once it has applied an entry of its own term.
 11. no replica removes a committed entry from its log but for a snapshot that covers it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from raftcoord.consensus import messages as m
from raftcoord.testing.simulation.violation import Violation

Entry = tuple[bytes, int, int]  # command, index, term


class ReplicaView(Protocol):
    """What can be seen of a running replica."""

    name: str
    incarnation: int

    @property
    def is_leader(self) -> bool: ...

    @property
    def is_ready_leader(self) -> bool: ...

    @property
    def vote(self) -> str | None: ...

    @property
    def applied_index(self) -> int: ...

    @property
    def term(self) -> int: ...

    @property
    def commit_index(self) -> int: ...

    @property
    def first_index(self) -> int: ...

    @property
    def last_index(self) -> int: ...

    @property
    def snapshot_index(self) -> int: ...

    @property
    def snapshot_term(self) -> int: ...

    def entry(self, index: int) -> Entry: ...

    def matches(self) -> dict[str, int]: ...


class DurableLog:
    """What is certainly on one disk: entries (index to term), term, vote, and the newest snapshot's index.

    `pending` is what was changed since the last sync: it may have reached the disk or not.
    """

    def __init__(self) -> None:
        self.terms: dict[int, int] = {}
        self.term = 0
        self.vote: str | None = None
        self.snapshot_index = 0
        self.pending: list[tuple[str, Any]] = []

    def __repr__(self) -> str:
        last = max(self.terms, default=0)
        return f"<DurableLog last={last} term={self.term} vote={self.vote} pending={len(self.pending)}>"

    def holds(self, index: int, term: int) -> bool:
        """Whether an entry would survive a loss of power."""
        return index <= self.snapshot_index or self.terms.get(index) == term

    def synced(self) -> None:
        """Everything so far is on the disk."""
        for what, value in self.pending:
            if what == "add":
                self.terms[value[0]] = value[1]
            elif what == "truncate":
                for index in [one for one in self.terms if one >= value]:
                    del self.terms[index]
            elif what == "clear":
                self.terms.clear()
            else:
                self.term, self.vote = value
        self.pending.clear()

    def possible(self, *, in_parts: bool) -> Iterator[DurableLog]:
        """Yield the states in which none or all of the pending changes reached the disk.

        Args:
            in_parts: they are written one after the other, so that the first of them may be there alone.
        """
        for count in range(len(self.pending) + 1) if in_parts else (0, len(self.pending)):
            later = DurableLog()
            later.terms, later.term, later.vote = dict(self.terms), self.term, self.vote
            later.snapshot_index, later.pending = self.snapshot_index, self.pending[:count]
            later.synced()
            yield later

    def state_above(self, index: int) -> tuple[dict[int, int], int, str | None]:
        """Return what matters when everything up to `index` is in a snapshot."""
        return {i: term for i, term in self.terms.items() if i > index}, self.term, self.vote


class RaftChecks:
    """The whole cluster's consensus so far.

    Args:
        in_parts: what a journal syncs at once may be several batches.
    """

    def __init__(self, replicas: int, *, in_parts: bool = False) -> None:
        self.replicas = replicas
        self._in_parts = in_parts
        self.durable: dict[str, DurableLog] = {}
        self.committed: dict[int, tuple[int, int | None]] = {}  # index -> term, CRC of the command
        self._commit_terms: dict[int, int] = {}  # index -> the term in which it was committed, or a later one
        self.commit_index = 0
        self._leaders: dict[int, tuple[str, int]] = {}
        self._entries: dict[tuple[int, int], tuple[int, int | None]] = {}  # (index, term) -> CRC, term before
        self._votes: dict[tuple[str, int], str] = {}
        self._seen: dict[str, tuple[int, int, int]] = {}  # incarnation, term, commit index

    def __repr__(self) -> str:
        return f"<RaftChecks commit={self.commit_index} leaders={len(self._leaders)}>"

    @property
    def leaders_seen(self) -> int:
        """How many terms had a leader."""
        return len(self._leaders)

    # Logs.

    def entry_added(self, name: str, entry: Entry, term_before: int | None) -> None:
        """A replica appended an entry; `term_before` is that of the one before it, None when unknown."""
        command, index, term = entry
        crc = zlib.crc32(command)
        known = self._entries.get((index, term))
        if known is None:
            self._entries[index, term] = (crc, term_before)
            return
        if known[0] != crc:
            raise Violation("log matching", f"{name}: entry {index} of term {term} is not the one of others")
        if term_before is None or known[1] is None:
            return
        if known[1] != term_before:
            raise Violation(
                "log matching",
                f"{name}: before entry {index} of term {term} is one of term {term_before}, not {known[1]}",
            )

    # After every iteration of a replica.

    def look_at(self, view: ReplicaView) -> None:
        """Compare a replica with what it was, and with all others."""
        term, commit = view.term, view.commit_index
        incarnation, old_term, old_commit = self._seen.get(view.name, (0, 0, 0))
        if incarnation == view.incarnation:
            if term < old_term:
                raise Violation("nothing goes back", f"{view.name}: term {term} after {old_term}")
            if commit < old_commit:
                raise Violation("nothing goes back", f"{view.name}: commit index {commit} after {old_commit}")
        else:
            old_commit = 0
        self._note_snapshot(view)
        if view.is_leader:
            led_before = self._note_leader(view, term)
            self._check_counted(view)
            if led_before and commit != old_commit:
                self._check_own_term(view, commit, "commits")
            if view.is_ready_leader:
                self._check_own_term(view, view.applied_index, "serves, and has applied")
        if commit != old_commit:
            self._note_commit(view, old_commit, commit)
        self._seen[view.name] = (view.incarnation, term, commit)

    def _note_snapshot(self, view: ReplicaView) -> None:
        durable = self.durable.get(view.name)
        if durable is not None:
            durable.snapshot_index = max(durable.snapshot_index, view.snapshot_index)

    def _note_leader(self, view: ReplicaView, term: int) -> bool:
        """Check a new leader; return whether it is one that was seen to lead before."""
        this = (view.name, view.incarnation)
        known = self._leaders.get(term)
        if known == this:
            return True
        if known is not None:
            raise Violation("election safety", f"{view.name} and {known[0]} both lead in term {term}")
        self._leaders[term] = this
        voters = {
            name for (name, in_term), choice in self._votes.items() if (in_term, choice) == (term, view.name)
        }
        if self.durable and 2 * len(voters | {view.name}) <= self.replicas:
            raise Violation(
                "elected by a majority",
                f"{view.name} leads in term {term}; it was voted for by {sorted(voters)}",
            )
        self._check_complete(view, term)
        return False

    def _check_complete(self, view: ReplicaView, term: int) -> None:
        newest = self.commit_index
        while newest and self._commit_terms.get(newest, 0) >= term:
            newest -= 1  # committed by a later leader: this one comes too late, and will commit nothing
        if newest and view.first_index <= newest:
            if view.last_index < newest:
                raise Violation(
                    "leader completeness",
                    f"{view.name} leads in term {term}, its log ends at {view.last_index}; "
                    f"{newest} is committed",
                )
            have, want = view.entry(newest)[2], self.committed[newest][0]
            if have != want:
                raise Violation(
                    "leader completeness",
                    f"{view.name} leads in term {term} with entry {newest} of term {have}; "
                    f"that of term {want} is committed",
                )

    def _check_counted(self, view: ReplicaView) -> None:
        for peer, index in view.matches().items():
            durable = self.durable.get(peer)
            if durable is None or durable.term > view.term or index < view.first_index:
                continue
            if index > view.last_index or not durable.holds(index, view.entry(index)[2]):
                raise Violation(
                    "counted, so durable",
                    f"{view.name} in term {view.term} counts {peer} up to {index}; durable is {durable!r}",
                )

    def _check_own_term(self, view: ReplicaView, index: int, what: str) -> None:
        if index >= view.first_index and view.entry(index)[2] != view.term:
            raise Violation(
                "of its own term",
                f"{view.name} leads in term {view.term} and {what} {index} of term {view.entry(index)[2]}",
            )

    def removing(self, view: ReplicaView, first: int) -> None:
        """A replica removes its entries from an index on, because a leader has others there."""
        for index in range(first, min(view.last_index, self.commit_index) + 1):
            if index in self.committed and view.entry(index)[2] == self.committed[index][0]:
                raise Violation("committed is for ever", f"{view.name} removes the committed entry {index}")

    def _note_commit(self, view: ReplicaView, old: int, new: int) -> None:
        if new > view.last_index:
            raise Violation(
                "durable majority", f"{view.name}: commit index {new}, log ends at {view.last_index}"
            )
        for index in range(max(old + 1, view.first_index), new + 1):
            command, _, term = view.entry(index)
            # What a snapshot covers may stand in the log as a stub.
            crc = None if index <= view.snapshot_index else zlib.crc32(command)
            known = self.committed.get(index)
            if known is None:
                self._newly_committed(view.name, index, term)
                self._commit_terms[index] = view.term
                self.committed[index] = (term, crc)
            elif known[0] != term or (known[1] not in (None, crc) and crc is not None):
                raise Violation(
                    "committed is for ever",
                    f"{view.name} commits entry {index} of term {term}; one of term {known[0]} is committed",
                )
            elif known[1] is None:
                self.committed[index] = (term, crc)

    def applying(self, view: ReplicaView, index: int) -> None:
        """A replica applies an entry: whoever asked for it may be told from now on."""
        if index >= view.first_index and self.durable:
            self._require_durable(view.name, index, view.entry(index)[2])

    def _newly_committed(self, name: str, index: int, term: int) -> None:
        if index != self.commit_index + 1 and self.commit_index:
            raise Violation(
                "committed is for ever", f"{name} commits {index} right after {self.commit_index}"
            )
        self.commit_index = index
        # The first entry is the same everywhere and counts as committed from the start.
        if index > 1 and self.durable:
            self._require_durable(name, index, term)

    def _require_durable(self, name: str, index: int, term: int) -> None:
        holders = [other for other, log in self.durable.items() if log.holds(index, term)]
        if 2 * len(holders) <= self.replicas:
            raise Violation(
                "durable majority",
                f"{name} commits entry {index} of term {term}, which only {holders} hold durably",
            )

    # Restarts.

    def recovered(self, view: ReplicaView, term: int, vote: str | None) -> None:
        """A replica started from its disk: all that was durable must be there."""
        now = DurableLog()
        now.snapshot_index = view.snapshot_index
        now.term, now.vote = term, vote
        if (view.term, view.vote) != (term, vote):
            raise Violation(
                "nothing goes back",
                f"{view.name} starts in term {view.term} with vote {view.vote}, not {term} and {vote}",
            )
        before: int | None = None
        for entry in _entries_of(view):
            now.terms[entry[1]] = entry[2]
            if entry[1] > view.snapshot_index:
                self.entry_added(view.name, entry, before)
            before = entry[2]
        old = self.durable.get(view.name)
        self.durable[view.name] = now
        if old is None:
            return
        if now.snapshot_index < old.snapshot_index:
            raise Violation(
                "nothing goes back",
                f"{view.name}: snapshot {now.snapshot_index} after {old.snapshot_index} was durable",
            )
        covered = now.snapshot_index
        found = now.state_above(covered)
        possible = list(old.possible(in_parts=self._in_parts))
        if old.terms.get(covered, view.snapshot_term) != view.snapshot_term:
            for one in possible:  # the log that the snapshot replaced was another one: nothing of it counts
                one.terms.clear()
        if all(found != one.state_above(covered) for one in possible):
            raise Violation(
                "nothing goes back",
                f"{view.name} starts with {_brief(found)}; {_brief(old.state_above(covered))} was durable, "
                f"{_brief(possible[-1].state_above(covered))} was written",
            )

    # Messages.

    def said(self, view: ReplicaView, peer: str, envelope: m.Envelope) -> None:
        """A replica sends a message to another one."""
        self._note_snapshot(view)
        durable, body = self.durable[view.name], envelope["body"]
        if envelope["term"] > durable.term:
            raise Violation(
                "nothing is said that is not durable",
                f"{view.name} speaks of term {envelope['term']}, on its disk is {durable.term}",
            )
        kind = body["type"]
        if kind == m.VOTE_REPLY:
            self._voted(view.name, body["term"], peer)
        elif kind == m.VOTE_REQUEST:
            self._voted(view.name, body["term"], view.name)
        elif kind == m.APPEND_REPLY and body["success"]:
            self._acknowledged(view, body["next_node_idx"] - 1)
        elif kind == m.SNAPSHOT_REPLY and body["next_index"] > 0:
            self._acknowledged(view, body["next_index"] - 1)

    def _voted(self, name: str, term: int, choice: str) -> None:
        before = self._votes.setdefault((name, term), choice)
        if before != choice:
            raise Violation("one vote a term", f"{name} votes for {choice} in term {term}, after {before}")
        durable = self.durable[name]
        if durable.term == term and durable.vote != choice:
            raise Violation(
                "nothing is said that is not durable",
                f"{name} votes for {choice} in term {term}, on its disk is a vote for {durable.vote}",
            )

    def takes_vote(self, view: ReplicaView, peer: str, term: int) -> None:
        """A replica takes a message for a vote that a peer gave it in a term."""
        if self._votes.get((peer, term)) != view.name:
            raise Violation(
                "elected by a majority",
                f"{view.name} counts a vote of {peer} in term {term}, which it did not give",
            )

    def _acknowledged(self, view: ReplicaView, index: int) -> None:
        durable = self.durable[view.name]
        if index <= durable.snapshot_index:
            return
        if index > view.last_index or not durable.holds(index, view.entry(index)[2]):
            raise Violation(
                "nothing is said that is not durable",
                f"{view.name} acknowledges entry {index}; durable is {durable!r}",
            )


def _entries_of(view: ReplicaView) -> Iterator[Entry]:
    for index in range(view.first_index, view.last_index + 1):
        yield view.entry(index)


def _brief(state: tuple[dict[int, int], int, str | None]) -> str:
    terms, term, vote = state
    ends = f"entries {min(terms)}..{max(terms)}" if terms else "no entries"
    return f"{ends}, term {term}, vote {vote}"
