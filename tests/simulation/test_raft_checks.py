"""The checks of consensus: what each of them must accept, and what it must reject."""

from __future__ import annotations

from typing import Any

import pytest
from little_replicas import Cluster, rejects

from raftcoord.consensus import messages as m
from raftcoord.testing.simulation.raft_checks import DurableLog


class TestElectionSafety:
    def test_terms_have_different_leaders(self) -> None:
        cluster = Cluster()
        cluster.lead("a", 1)
        cluster.lead("a", 1)
        cluster.lead("b", 2)
        cluster.look("a", term=2, is_leader=False)
        cluster.lead("a", 3)
        assert cluster.checks.leaders_seen == 3

    def test_one_term_has_one_leader(self) -> None:
        cluster = Cluster()
        cluster.lead("a", 1)
        rejects("election safety", cluster.lead, "b", 1)

    def test_nobody_leads_in_a_term_again_after_a_restart(self) -> None:
        cluster = Cluster()
        cluster.vote("a", 4, "a")
        cluster.lead("a", 4)
        cluster.restart("a")
        rejects("election safety", cluster.lead, "a", 4)


class TestLogMatching:
    def test_conflicting_entries_have_different_terms(self) -> None:
        cluster = Cluster()
        cluster.write("ab", (2, 1), (3, 1))
        cluster.write("c", (2, 2), (3, 2))
        cluster.truncate("c", 2)
        cluster.write("c", (2, 1), (3, 1), (4, 3))
        cluster.checks.entry_added("b", (b"4 of 3", 4, 3), None)

    def test_the_same_entry_is_the_same_everywhere(self) -> None:
        cluster = Cluster()
        cluster.write("a", (2, 1))
        rejects("log matching", cluster.write, "b", (2, 1), command=b"another")

    def test_what_is_before_the_same_entry_is_the_same(self) -> None:
        cluster = Cluster()
        cluster.write("a", (2, 1), (3, 2))
        cluster.write("b", (2, 2))
        rejects("log matching", cluster.write, "b", (3, 2))

    def test_a_disk_may_not_bring_back_another_entry(self) -> None:
        cluster = Cluster()
        cluster.write("ab", (2, 1))
        rejects("log matching", cluster.restart, "b", [(b"", 1, 0), (b"changed", 2, 1)])


class TestLeaderCompleteness:
    def _committed(self) -> Cluster:
        cluster = Cluster()
        cluster.lead("a", 1)
        cluster.write("ab", (2, 1), (3, 1))
        cluster.look("a", commit_index=3)
        return cluster

    def test_a_leader_has_what_is_committed(self) -> None:
        cluster = self._committed()
        cluster.lead("b", 2)

    def test_a_leader_has_it_in_a_snapshot(self) -> None:
        cluster = self._committed()
        cluster.look("c", entries=[(b"\x01", 3, 1)], snapshot_index=3, commit_index=3)
        cluster.lead("c", 2)

    def test_a_leaders_log_is_not_too_short(self) -> None:
        cluster = self._committed()
        rejects("leader completeness", cluster.lead, "c", 2)

    def test_a_leader_of_an_older_term_may_come_late(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1))
        cluster.write("ab", (3, 3))
        cluster.lead("a", 3)
        cluster.look("a", commit_index=3)
        cluster.lead("c", 2)

    def test_a_leaders_log_is_no_other_one(self) -> None:
        cluster = self._committed()
        cluster.write("c", (2, 2), (3, 2), (4, 2))
        rejects("leader completeness", cluster.lead, "c", 3)


class TestCommittedIsForEver:
    def test_followers_commit_what_is_committed(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1), (3, 1), (4, 2))
        for name, index in (("a", 2), ("b", 3), ("a", 4), ("c", 1), ("c", 4)):
            cluster.look(name, commit_index=index)
        assert (cluster.checks.commit_index, [*cluster.checks.committed]) == (4, [1, 2, 3, 4])

    def test_no_index_is_committed_with_another_term(self) -> None:
        cluster = Cluster()
        cluster.write("ab", (2, 1))
        cluster.look("a", commit_index=2)
        cluster.write("c", (2, 2))
        rejects("committed is for ever", cluster.look, "c", commit_index=2)

    def test_no_index_is_committed_with_another_command(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1))
        cluster.look("a", commit_index=2)
        cluster.views["c"].entries[-1] = (b"changed", 2, 1)
        rejects("committed is for ever", cluster.look, "c", commit_index=2)

    def test_a_stub_for_what_a_snapshot_covers_is_no_other_command(self) -> None:
        cluster = Cluster()
        cluster.write("ab", (2, 1), (3, 1))
        cluster.look("a", commit_index=3)
        cluster.look("c", entries=[(b"\x01", 3, 1)], snapshot_index=3, commit_index=3)

    def test_no_index_is_left_out(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1))
        cluster.look("a", commit_index=2)
        cluster.write("abc", (3, 1), (4, 1))
        cluster.views["b"].entries = cluster.views["b"].entries[-1:]
        rejects("committed is for ever", cluster.look, "b", commit_index=4)


class TestDurableMajority:
    def test_what_a_majority_synced_may_be_committed(self) -> None:
        cluster = Cluster()
        cluster.write("ab", (2, 1))
        cluster.write("c", (2, 1), sync=False)
        cluster.look("a", commit_index=2)

    def test_a_snapshot_counts(self) -> None:
        cluster = Cluster()
        cluster.write("a", (2, 1))
        cluster.checks.durable["b"].snapshot_index = 2
        cluster.look("a", commit_index=2)

    def test_what_is_not_synced_does_not_count(self) -> None:
        cluster = Cluster()
        cluster.write("a", (2, 1))
        cluster.write("bc", (2, 1), sync=False)
        rejects("durable majority", cluster.look, "a", commit_index=2)

    def test_what_was_truncated_does_not_count(self) -> None:
        cluster = Cluster()
        cluster.write("ab", (2, 1))
        cluster.truncate("b", 2)
        rejects("durable majority", cluster.look, "a", commit_index=2)

    def test_it_is_so_whenever_a_replica_applies_it(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1))
        for name in "abc":
            cluster.checks.applying(cluster.views[name], 2)
        for name in "bc":
            cluster.truncate(name, 2)
        rejects("durable majority", cluster.checks.applying, cluster.views["a"], 2)

    def test_what_a_snapshot_covers_may_be_applied(self) -> None:
        cluster = Cluster()
        cluster.look("c", entries=[(b"\x01", 3, 1)], snapshot_index=3, commit_index=0)
        cluster.checks.applying(cluster.views["c"], 2)

    def test_nothing_is_committed_that_is_not_in_the_log(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1))
        rejects("durable majority", cluster.look, "a", commit_index=3)


class TestNothingIsSaidThatIsNotDurable:
    NAME = "nothing is said that is not durable"

    def test_what_is_durable_may_be_said(self) -> None:
        cluster = Cluster()
        cluster.vote("a", 2, "b")
        cluster.write("a", (2, 1), (3, 2))
        cluster.say("a", m.PING)
        cluster.say("a", m.VOTE_REPLY, "b", term=2)
        cluster.say("a", m.APPEND_REPLY, next_node_idx=4, success=True, reset=False)
        cluster.say("a", m.APPEND_REPLY, next_node_idx=9, success=False, reset=True)
        cluster.say("a", m.SNAPSHOT_REPLY, index=3, offset=0, next_index=0)
        cluster.say("a", m.SNAPSHOT_REPLY, index=3, offset=0, next_index=4)
        cluster.vote("c", 3, "c")
        cluster.say("c", m.VOTE_REQUEST, term=3)

    def test_a_term(self) -> None:
        cluster = Cluster()
        cluster.vote("a", 2, None, sync=False)
        rejects(self.NAME, cluster.say, "a", m.PING)

    @pytest.mark.parametrize(("kind", "peer"), [(m.VOTE_REPLY, "b"), (m.VOTE_REQUEST, "c")])
    def test_a_vote(self, kind: str, peer: str) -> None:
        cluster = Cluster()
        cluster.vote("a", 2, None)
        cluster.vote("a", 2, "b" if kind == m.VOTE_REPLY else "a", sync=False)
        rejects(self.NAME, cluster.say, "a", kind, peer, term=2)

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            (m.APPEND_REPLY, {"next_node_idx": 3, "success": True, "reset": False}),
            (m.SNAPSHOT_REPLY, {"index": 2, "offset": 0, "next_index": 3}),
        ],
    )
    def test_an_entry(self, kind: str, body: dict[str, Any]) -> None:
        cluster = Cluster()
        cluster.vote("a", 1, None)
        cluster.write("a", (2, 1), sync=False)
        rejects(self.NAME, cluster.say, "a", kind, **body)

    def test_an_entry_that_is_not_there(self) -> None:
        cluster = Cluster()
        cluster.vote("a", 1, None)
        body = {"next_node_idx": 3, "success": True, "reset": False}
        rejects(self.NAME, cluster.say, "a", m.APPEND_REPLY, **body)

    def test_an_entry_in_place_of_which_another_one_is_durable(self) -> None:
        cluster = Cluster()
        cluster.vote("a", 2, None)
        cluster.write("a", (2, 1))
        cluster.truncate("a", 2, sync=False)
        cluster.write("a", (2, 2), sync=False)
        body = {"next_node_idx": 3, "success": True, "reset": False}
        rejects(self.NAME, cluster.say, "a", m.APPEND_REPLY, **body)

    def test_an_entry_that_a_snapshot_covers_is_durable(self) -> None:
        cluster = Cluster()
        cluster.vote("a", 1, None)
        cluster.views["a"].snapshot_index = 8
        cluster.say("a", m.SNAPSHOT_REPLY, index=8, offset=0, next_index=9)


class TestOneVoteATerm:
    def test_the_same_vote_may_be_repeated(self) -> None:
        cluster = Cluster()
        for term, choice in ((2, "b"), (3, "c")):
            cluster.vote("a", term, choice)
            cluster.say("a", m.VOTE_REPLY, choice, term=term)
            cluster.say("a", m.VOTE_REPLY, choice, term=term)

    def test_another_one_in_the_same_term(self) -> None:
        cluster = Cluster()
        cluster.vote("a", 2, "b")
        cluster.say("a", m.VOTE_REPLY, "b", term=2)
        cluster.vote("a", 2, "c")
        rejects("one vote a term", cluster.say, "a", m.VOTE_REPLY, "c", term=2)

    def test_another_one_after_standing_oneself(self) -> None:
        cluster = Cluster()
        cluster.vote("a", 2, "a")
        cluster.say("a", m.VOTE_REQUEST, term=2)
        rejects("one vote a term", cluster.say, "a", m.VOTE_REPLY, "b", term=2)


class TestNothingGoesBack:
    NAME = "nothing goes back"

    def test_a_commit_index_is_not_durable(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1), (3, 1))
        cluster.look("a", commit_index=2)
        cluster.look("a", commit_index=3, term=2)
        cluster.vote("a", 2, None)
        cluster.restart("a")
        cluster.look("a", commit_index=0)
        cluster.look("a", commit_index=1)

    def test_a_snapshot_of_another_log_replaces_what_was_durable(self) -> None:
        cluster = Cluster()
        cluster.write("a", (2, 2), (3, 2))
        cluster.restart("a", entries=[(b"", 2, 3)], snapshot_index=2, snapshot_term=3)

    def test_a_snapshot_of_the_same_log_does_not(self) -> None:
        cluster = Cluster()
        cluster.write("a", (2, 2), (3, 2))
        stub = [(b"", 2, 2)]
        rejects(self.NAME, cluster.restart, "a", entries=stub, snapshot_index=2, snapshot_term=2)

    @pytest.mark.parametrize("what", [{"commit_index": 1}, {"term": 1}])
    def test_of_a_running_replica(self, what: dict[str, int]) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1))
        cluster.look("a", commit_index=2, term=2)
        rejects(self.NAME, cluster.look, "a", **what)

    @pytest.mark.parametrize("survives", [False, True])
    def test_what_was_not_synced_may_survive_or_not(self, survives: bool) -> None:
        cluster = Cluster()
        cluster.vote("a", 2, "b")
        cluster.write("a", (2, 1))
        cluster.truncate("a", 2, sync=False)
        cluster.write("a", (2, 2), sync=False)
        cluster.vote("a", 3, None, sync=False)
        if survives:
            cluster.restart("a", [(b"", 1, 0), (b"2 of 2", 2, 2)], term=3, vote=None)
        else:
            cluster.restart("a", [(b"", 1, 0), (b"2 of 1", 2, 1)])

    @pytest.mark.parametrize(
        "found",
        [
            {"entries": [(b"", 1, 0)]},
            {"entries": [(b"", 1, 0), (b"2 of 1", 2, 1), (b"3 of 2", 3, 2)]},
            {"entries": [(b"", 1, 0), (b"2 of 2", 2, 2)]},
            {"term": 1},
            {"vote": "c"},
            {"vote": None},
        ],
        ids=["lost", "too much", "another one", "term", "vote", "no vote"],
    )
    def test_of_a_disk(self, found: dict[str, Any]) -> None:
        cluster = Cluster()
        cluster.vote("a", 2, "b")
        cluster.write("a", (2, 1))
        rejects(self.NAME, cluster.restart, "a", **found)

    def test_half_of_what_was_not_synced_does_not_survive(self) -> None:
        cluster = Cluster()
        cluster.write("a", (2, 1), (3, 1), sync=False)
        rejects(self.NAME, cluster.restart, "a", [(b"", 1, 0), (b"2 of 1", 2, 1)])

    def test_a_snapshot(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1), (3, 1))
        cluster.look("a", snapshot_index=2, commit_index=2)
        cluster.restart("a", [(b"\x01", 2, 1), (b"3 of 1", 3, 1)], snapshot_index=2, snapshot_term=1)
        cluster.restart("a", [(b"\x01", 3, 1)], snapshot_index=3, snapshot_term=1)
        rejects(
            self.NAME,
            cluster.restart,
            "a",
            [(b"", 1, 0), (b"2 of 1", 2, 1)],
            snapshot_index=2,
            snapshot_term=1,
        )


def test_a_durable_log_is_what_was_synced() -> None:
    log = DurableLog()
    log.pending += [("add", (1, 0)), ("add", (2, 1)), ("vote", (1, "a"))]
    assert not log.holds(2, 1)
    log.synced()
    assert (log.terms, log.term, log.vote, log.pending) == ({1: 0, 2: 1}, 1, "a", [])
    assert [log.holds(2, 1), log.holds(2, 2), log.holds(3, 1)] == [True, False, False]
    log.pending += [("clear", None), ("add", (7, 3)), ("add", (8, 3)), ("truncate", 8)]
    states = [one.state_above(0) for one in log.possible(in_parts=False)]
    assert states == [log.state_above(0), ({7: 3}, 1, "a")]
    assert len(list(log.possible(in_parts=True))) == len(log.pending) + 1 > 2
    assert log.state_above(1) == ({2: 1}, 1, "a")
