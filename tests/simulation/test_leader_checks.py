"""The checks of leaders: their votes, what they count, commit and serve; and what is cut off a log."""

from __future__ import annotations

from little_replicas import Cluster, View, rejects

from raftcoord.consensus import messages as m


class TestElectedByAMajority:
    def test_a_majority_voted(self) -> None:
        cluster = Cluster()
        cluster.lead("a", 2, voters="ab")

    def test_votes_of_another_term_are_none(self) -> None:
        cluster = Cluster()
        cluster.checks._votes["b", 1] = cluster.checks._votes["c", 1] = "a"
        rejects("elected by a majority", cluster.lead, "a", 2, voters="a")

    def test_votes_for_others_are_none(self) -> None:
        cluster = Cluster()
        cluster.checks._votes["b", 2] = cluster.checks._votes["c", 2] = "b"
        rejects("elected by a majority", cluster.lead, "a", 2)

    def test_only_a_vote_of_that_term_is_one(self) -> None:
        cluster = Cluster()
        cluster.vote("b", 2, "a")
        cluster.say("b", m.VOTE_REPLY, "a", term=2)
        cluster.checks.takes_vote(cluster.views["a"], "b", 2)
        rejects("elected by a majority", cluster.checks.takes_vote, cluster.views["a"], "b", 3)
        rejects("elected by a majority", cluster.checks.takes_vote, cluster.views["c"], "b", 2)


class TestCountedSoDurable:
    def test_what_is_counted_is_durable(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 2))
        cluster.views["a"].counted = {"b": 2, "c": 1}
        cluster.lead("a", 2)

    def test_what_is_not_synced_may_not_be_counted(self) -> None:
        cluster = Cluster()
        cluster.write("ac", (2, 2))
        cluster.write("b", (2, 2), sync=False)
        cluster.views["a"].counted = {"b": 2, "c": 2}
        rejects("counted, so durable", cluster.lead, "a", 2)

    def test_another_entry_at_that_index_may_not_be_counted(self) -> None:
        cluster = Cluster()
        cluster.write("a", (2, 2))
        cluster.write("b", (2, 1))
        cluster.views["a"].counted = {"b": 2}
        rejects("counted, so durable", cluster.lead, "a", 2)

    def test_what_a_later_leader_replaced_is_left_alone(self) -> None:
        cluster = Cluster()
        cluster.write("a", (2, 2))
        cluster.write("b", (2, 3))
        cluster.vote("b", 3, "c")
        cluster.views["a"].counted = {"b": 2}
        cluster.lead("a", 2)


class TestOfItsOwnTerm:
    def test_a_leader_commits_up_to_an_entry_of_its_own_term(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1), (3, 2))
        cluster.lead("a", 2)
        cluster.look("a", commit_index=3)

    def test_counting_an_earlier_term_is_not_enough(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1), (3, 2))
        cluster.lead("a", 2)
        rejects("of its own term", cluster.look, "a", commit_index=2)

    def test_what_it_had_committed_when_it_came_may_be_of_another_term(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1))
        cluster.views["a"].commit_index = 2
        cluster.lead("a", 2)

    def test_a_leader_serves_once_it_has_applied_an_entry_of_its_own(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1), (3, 2))
        cluster.lead("a", 2)
        cluster.look("a", commit_index=3)
        cluster.look("a", is_ready_leader=True, applied_index=3)
        rejects("of its own term", cluster.look, "a", applied_index=2)


class TestRemoving:
    def test_what_is_not_committed_may_go(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1))
        cluster.write("a", (3, 1))
        cluster.look("b", commit_index=2)
        cluster.checks.removing(cluster.views["a"], 3)

    def test_a_committed_entry_may_not_go(self) -> None:
        cluster = Cluster()
        cluster.write("abc", (2, 1))
        cluster.look("b", commit_index=2)
        rejects("committed is for ever", cluster.checks.removing, cluster.views["a"], 2)

    def test_another_entry_at_a_committed_index_may_go(self) -> None:
        cluster = Cluster()
        cluster.write("bc", (2, 2))
        cluster.write("a", (2, 1))
        cluster.look("b", commit_index=2)
        cluster.checks.removing(cluster.views["a"], 2)


def test_a_replica_goes_on_with_the_vote_that_it_finds() -> None:
    cluster = Cluster()
    cluster.vote("a", 2, "b")
    view = View("a", 2, term=2, vote=None, entries=[(b"", 1, 0)])
    rejects("nothing goes back", cluster.checks.recovered, view, 2, "b")
