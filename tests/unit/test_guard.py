"""The guard's invariants, one by one, on a follower that is told things by a leader made up here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Kind, our, world
from ours import OurReplica
from world import World, body_of, kind_of

from raftcoord.consensus import messages as m
from raftcoord.consensus.interface import FatalError

TERM = 5


class Follower:
    """Replica B of three, and what A, as leader of term 5, says to it."""

    def __init__(self, running: World) -> None:
        self.world = running
        self.replica: OurReplica = our(running["B"])
        self.number = 0

    def tell(self, body: dict[str, Any], *, term: int = TERM, echo: list[int] | None = None) -> None:
        self.number += 1
        envelope = {"term": term, "epoch": 0, "number": self.number, "echo": echo, "body": body}
        self.replica.receive("A", envelope)

    def append(self, previous: int, terms: list[int], *, commit: int = 1, previous_term: int = TERM) -> None:
        entries = [[b"\x00v%d" % term, previous + 1 + n, term] for n, term in enumerate(terms)]
        self.tell(
            {
                "type": m.APPEND,
                "term": TERM,
                "commit_index": commit,
                "prevLogIdx": previous,
                "prevLogTerm": previous_term if previous > 1 else 0,
                "entries": entries,
            }
        )

    def answers(self, kind: str = m.APPEND_REPLY) -> list[dict[str, Any]]:
        """Take what it sent to A since the last call."""
        queue = self.world.links["B", "A"]
        taken = [body_of(message) for message in queue if kind_of(message) == kind]
        queue.clear()
        return taken

    @property
    def terms(self) -> list[int]:
        return [term for _, _, term in self.replica.log]


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    with world(Kind.OURS, tmp_path) as running:
        for link in running.links.values():
            link.clear()
        yield Follower(running)


def reply(next_index: int, *, success: bool = True) -> dict[str, Any]:
    return {"type": m.APPEND_REPLY, "next_node_idx": next_index, "reset": not success, "success": success}


def test_1_a_shorter_append_that_matches_truncates_nothing(follower: Follower) -> None:
    follower.append(1, [5, 5, 5, 5])
    follower.append(1, [5, 5])
    follower.append(1, [])
    assert follower.terms == [0, 5, 5, 5, 5]


def test_1_a_conflicting_tail_is_replaced(follower: Follower) -> None:
    follower.append(1, [4, 4, 4])
    follower.append(2, [5], previous_term=4)
    assert follower.terms == [0, 4, 5]


def test_1_what_is_committed_is_never_replaced_not_even_for_a_leader(follower: Follower) -> None:
    follower.append(1, [4, 4], commit=3)
    assert follower.replica.commit_index == 3
    follower.append(1, [5, 5])  # at or below the commit index: taken for matching
    assert follower.terms == [0, 4, 4]
    follower.append(2, [4, 5], previous_term=4)
    assert follower.terms == [0, 4, 4, 5]
    assert not follower.replica.failures


def test_2_an_answer_covers_what_was_compared(follower: Follower) -> None:
    follower.append(1, [5, 5, 5, 5])
    follower.append(1, [5, 5])
    follower.append(2, [])
    assert follower.answers() == [reply(6), reply(4), reply(3)]


def test_2_an_append_beyond_the_log_is_answered_with_where_to_go_on(follower: Follower) -> None:
    follower.append(9, [5])
    assert follower.answers() == [reply(2, success=False)]
    assert follower.terms == [0]


def test_2_an_append_behind_another_entry_starts_again_behind_the_commit_index(follower: Follower) -> None:
    follower.append(1, [3, 3, 3, 3], commit=2)
    follower.answers()
    follower.append(5, [5], previous_term=4)
    assert follower.answers() == [reply(3, success=False)]


def test_3_the_commit_index_stays_within_what_was_compared(follower: Follower) -> None:
    follower.append(1, [4, 4, 4, 4])
    follower.append(1, [4], commit=5)
    assert follower.replica.commit_index == 2, "entries 3 to 5 may be another leader's"
    follower.append(9, [5], commit=9)
    assert follower.replica.commit_index == 2
    follower.append(2, [4, 4], commit=9, previous_term=4)
    assert follower.replica.commit_index == 4


def test_3_a_chunk_of_a_snapshot_commits_nothing(follower: Follower) -> None:
    follower.append(1, [4, 4])
    chunk = {"index": 50, "index_term": 4, "size_bytes": 100, "offset": 0, "data": b"x" * 10}
    follower.tell({"type": m.SNAPSHOT_CHUNK, "term": TERM, **chunk})
    assert follower.replica.commit_index == 1
    (answer,) = follower.answers(m.SNAPSHOT_REPLY)
    assert answer == {"type": m.SNAPSHOT_REPLY, "index": 50, "offset": 10, "next_index": 0}


def test_4_an_older_leader_is_told_and_takes_over_the_term(follower: Follower) -> None:
    follower.append(1, [5])
    follower.answers()
    follower.tell({**append_body(), "term": 3}, term=3)
    assert follower.answers(m.STALE) == [{"type": m.STALE}]
    assert follower.terms == [0, 5]
    other = our(follower.world["C"])
    other.receive("B", {"term": TERM, "epoch": 0, "number": 1, "echo": None, "body": {"type": m.STALE}})
    assert other.term == TERM
    assert other.core.leader is None


def append_body() -> dict[str, Any]:
    return {
        "type": m.APPEND,
        "term": TERM,
        "commit_index": 1,
        "prevLogIdx": 1,
        "prevLogTerm": 0,
        "entries": [[b"\x00w", 2, 1]],
    }


@pytest.mark.parametrize("echo", [None, [1, 1], [TERM, 10**6]])
def test_4_an_answer_without_the_right_echo_counts_for_nothing(
    follower: Follower, echo: list[int] | None
) -> None:
    world = follower.world
    world.elect("B")
    world.cut("BC")
    world.write("B", b"value")
    last = follower.replica.log[-1][1]
    term = follower.replica.term + (echo == [TERM, 10**6])
    stale = None if echo is None else [term, echo[1]]
    follower.tell(reply(last + 1), term=follower.replica.term, echo=stale)
    if echo is None or term != follower.replica.term:
        assert follower.replica.match_index("A") < last


def test_5_votes_of_strangers_and_before_forming_count_for_nothing(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path, joined=False) as running:
        running.join("AB")
        assert not our(running["B"]).parts.members.is_formed
        lonely = Follower(running)
        request = {"type": m.VOTE_REQUEST, "term": 9, "last_log_index": 9, "last_log_term": 8}
        lonely.tell({**request, "hand_over": False}, term=9)
        lonely.tell({**request, "hand_over": True}, term=9)
        lonely.append(1, [5])
        assert not running.links["B", "A"]
        assert lonely.replica.term == 0
        assert lonely.terms == [0]


def test_6_no_vote_while_a_leader_is_heard_unless_it_hands_over(follower: Follower) -> None:
    follower.append(1, [5])
    request = {"type": m.VOTE_REQUEST, "term": 6, "last_log_index": 2, "last_log_term": 5}
    candidate = {"term": 6, "epoch": 0, "number": 1, "echo": None}
    links = follower.world.links
    follower.replica.receive("C", {**candidate, "body": {**request, "hand_over": False}})
    assert not links["B", "C"]
    assert follower.replica.term == TERM
    follower.world.advance(0.5)
    follower.append(1, [5])
    follower.replica.receive("C", {**candidate, "body": {**request, "hand_over": True}})
    assert [kind_of(message) for message in links["B", "C"]] == [m.VOTE_REPLY]
    assert follower.replica.term == 6


def test_6_a_vote_is_given_when_the_leader_is_silent(follower: Follower) -> None:
    follower.append(1, [5])
    follower.world.advance(0.5)
    request = {"type": m.VOTE_REQUEST, "term": 6, "last_log_index": 2, "last_log_term": 5, "hand_over": False}
    follower.replica.receive("C", {"term": 6, "epoch": 0, "number": 1, "echo": None, "body": request})
    assert [kind_of(message) for message in follower.world.links["B", "C"]] == [m.VOTE_REPLY]


def test_a_vote_is_on_the_disk_before_it_leaves(follower: Follower) -> None:
    seen: list[tuple[int, str | None]] = []

    def look(sender: str, _receiver: str, message: dict[str, Any]) -> bool:
        if kind_of(message) == m.VOTE_REPLY:
            assert not follower.replica.parts.journal.dirty
            journal = follower.replica.parts.journal
            seen.append((journal.getCurrentTerm(), journal.getVotedForNodeId()))
        return True

    follower.world.on_send = look
    request = {"type": m.VOTE_REQUEST, "term": 6, "last_log_index": 2, "last_log_term": 5, "hand_over": False}
    follower.replica.receive("C", {"term": 6, "epoch": 0, "number": 1, "echo": None, "body": request})
    assert seen == [(6, "C")]


def test_a_leader_with_another_history_stops_this_replica(follower: Follower) -> None:
    """The check of messages lets no such entries through; the guard does not rely on that."""
    follower.append(1, [4, 4], commit=3)
    body = {**append_body(), "entries": [[b"\x00w", 10, 5]]}
    envelope = {"term": TERM, "epoch": 0, "number": 99, "echo": None, "body": body}
    with pytest.raises(FatalError, match="diverged"):
        follower.replica.parts.guard.receive("A", envelope)
    assert follower.terms == [0, 4, 4]


def test_two_leaders_of_one_term_are_not_believed(follower: Follower) -> None:
    follower.world.elect("B")
    term = follower.replica.term
    follower.tell({**append_body(), "term": term}, term=term)
    assert follower.replica.is_leader
    assert b"\x00w" not in [command for command, _, _ in follower.replica.log]


def chunk(index: int, term: int) -> dict[str, Any]:
    return {
        "type": m.SNAPSHOT_CHUNK,
        "term": TERM,
        "index": index,
        "index_term": term,
        "size_bytes": 10,
        "offset": 0,
        "data": b"x" * 10,
    }


@pytest.mark.parametrize(
    ("index", "term", "commit"),
    [(2, 4, 3), (2, 3, 3), (3, 4, 3), (5, 4, 5)],
    ids=["below the commit index", "of another term", "at the commit index", "held in the log"],
)
def test_a_snapshot_over_newer_state_is_refused(
    follower: Follower, index: int, term: int, commit: int
) -> None:
    follower.append(1, [4, 4, 4, 4, 4], commit=3)
    follower.answers()
    follower.tell(chunk(index, term))
    (answer,) = follower.answers(m.SNAPSHOT_REPLY)
    assert answer["next_index"] == commit + 1
    assert follower.replica.commit_index == commit
    assert follower.terms == [0, 4, 4, 4, 4, 4]
    assert follower.replica.parts.store.latest is None
