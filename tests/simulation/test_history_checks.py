"""The checks of what callers saw: histories that they must accept, and ones that they must reject."""

from __future__ import annotations

import pytest
from little_history import History

from raftcoord.client.aio_variable import UNSET
from raftcoord.client.errors import SemaphoreClosed, TopicDeleted
from raftcoord.protocol.errors import LimitReached, NotHolder, QueueClosed, WrongType
from raftcoord.testing.simulation.records import Outcome


def test_no_calls_are_fine() -> None:
    History().check()


class TestVariables:
    def test_one_after_the_other(self) -> None:
        history = History()
        history.add("get", None, (UNSET, 0)).add("set", "a").add("get", None, ("a", 5))
        history.add("compare_and_set", ("a", "b"), True).add("compare_and_set", ("a", "c"), False)
        history.add("watch", 5, ("b", 7)).add("compare_revision_and_set", (7, "d"), True)
        history.add("compare_revision_and_set", (7, "e"), False).add("delete", None, True)
        history.add("delete", None, False).add("get", None, (UNSET, 0)).add(
            "compare_and_set", (UNSET, 1), True
        )
        history.add("add", 2, 3).check()

    def test_what_overlaps_may_be_in_either_order(self) -> None:
        for seen in "ab":
            history = History().add("set", "a", at=(1, 5)).add("set", "b", at=(2, 4))
            history.add("get", None, (seen, 9), at=(6, 7)).check()

    def test_what_is_unknown_may_have_happened_or_not(self) -> None:
        for seen in ("a", "b"):
            history = History().add("set", "a").add("set", "b", outcome=Outcome.UNKNOWN)
            history.add("get", None, (seen, 9)).check()

    def test_a_stale_read(self) -> None:
        history = History().add("set", "a").add("set", "b").add("get", None, ("a", 3))
        history.rejected("linearizable", "variable x")

    def test_an_update_that_is_lost(self) -> None:
        History().add("add", 1, 1).add("add", 1, 1).rejected("linearizable", "variable x")

    def test_what_failed_did_not_happen(self) -> None:
        history = History().add("set", "a").add("set", "b", outcome=Outcome.FAILED)
        history.add("get", None, ("b", 9)).rejected("linearizable")

    def test_a_revision_that_goes_back(self) -> None:
        history = History().add("set", "a").add("get", None, ("a", 9)).add("set", "b")
        history.add("get", None, ("b", 8)).rejected("linearizable")

    def test_two_winners_of_one_race(self) -> None:
        history = History().add("compare_and_set", (UNSET, "a"), True, at=(1, 4))
        history.add("compare_and_set", (UNSET, "b"), True, at=(2, 3)).rejected("linearizable")

    def test_each_name_is_judged_alone(self) -> None:
        history = History().add("set", "a", name="x").add("set", "b", name="y")
        history.add("get", None, ("a", 3), name="x").check()
        history.add("get", None, ("a", 3), name="y").rejected("linearizable", "variable y")


class TestLocks:
    def test_one_after_the_other(self) -> None:
        history = History().add("acquire", True, 5).add("acquire", False, False).add("release", 5)
        history.add("acquire", False, 8).add("release", 8).check()

    def test_a_wait_may_end_without_the_lock(self) -> None:
        History().add("acquire", True, 5).add("acquire", True, False).add("release", 5).check()
        History().add("acquire", True, outcome=Outcome.FAILED).add("acquire", True, 5).check()

    def test_a_holder_may_be_gone(self) -> None:
        history = History().add("acquire", True, 5).add("acquire", True, 9)
        history.add("release", 5, outcome=Outcome.UNKNOWN).add("release", 9).check()

    def test_whose_outcome_is_unknown_may_hold_it_for_a_while(self) -> None:
        history = History().add("acquire", True, outcome=Outcome.UNKNOWN)
        history.add("acquire", False, False).add("acquire", True, 7).check()

    def test_two_holders(self) -> None:
        history = History().add("acquire", True, 5).add("acquire", True, 9).add("release", 5)
        history.rejected("linearizable", "lock x")

    def test_a_fence_that_does_not_grow(self) -> None:
        history = History().add("acquire", True, 5).add("release", 5).add("acquire", True, 5)
        history.rejected("linearizable", "lock x")

    def test_a_free_lock_that_is_refused(self) -> None:
        history = History().add("acquire", False, False)
        history.rejected("linearizable", "lock x")

    def test_status_is_for_the_oracle(self) -> None:
        History().add("locked", None, True).check()


class TestQueues:
    def test_one_after_the_other(self) -> None:
        history = History().add("put", ["a"]).add("put", ["b", "c"]).add("qsize", None, 3)
        history.add("take", 1, "a").add("take_batch", 2, ["b", "c"]).add("put", ["d"])
        history.add("drain", None, ["d"]).add("drain", None, []).add("put", ["e"]).left("e").check()

    def test_puts_that_overlap_may_be_in_either_order(self) -> None:
        for order in (["a", "b"], ["b", "a"]):
            history = History().add("put", ["a"], at=(1, 4)).add("put", ["b"], at=(2, 3))
            history.add("drain", None, order).check()

    def test_another_order_than_that_of_the_puts(self) -> None:
        history = History().add("put", ["a"]).add("put", ["b"]).add("take", 1, "b").add("take", 1, "a")
        history.rejected("linearizable", "queue x")

    def test_an_empty_queue_that_is_not_empty(self) -> None:
        history = History().add("put", ["a"]).add("drain", None, []).left("a")
        history.rejected("linearizable", "queue x")

    def test_an_item_that_nobody_put(self) -> None:
        history = History().add("put", ["a"]).add("take", 1, "b").left("a")
        history.rejected("items are conserved", "'b' was taken and never put")

    def test_an_item_whose_put_failed(self) -> None:
        history = History().add("put", ["a"], outcome=Outcome.FAILED).add("take", 1, "a")
        history.rejected("items are conserved", "never put")

    @pytest.mark.parametrize("kind", ["take", "take_batch", "drain"])
    def test_an_item_that_is_lost(self, kind: str) -> None:
        history = History().add("put", ["a"]).add("put", ["b"])
        history.add(kind, 1, "a" if kind == "take" else ["a"])
        history.rejected("items are conserved", "'b'.* are nowhere")

    def test_an_unacknowledged_item_may_be_nowhere(self) -> None:
        History().add("put", ["a"], outcome=Outcome.UNKNOWN).add("drain", None, []).check()
        History().add("put", ["a"], outcome=Outcome.UNKNOWN).add("drain", None, ["a"]).check()

    def test_an_item_that_is_taken_twice(self) -> None:
        history = History().add("put", ["a"]).add("take", 1, "a").add("take", 1, "a")
        history.rejected("items are conserved", "taken 2 times")

    def test_an_item_that_is_taken_and_still_there(self) -> None:
        history = History().add("put", ["a"]).add("take", 1, "a").left("a")
        history.rejected("items are conserved", "taken 1 times")

    def test_an_item_that_was_given_back(self) -> None:
        history = History().add("put", ["a"]).add("take", 1, "a").add("take", 1, "a")
        history.given_back("a").check()
        history.left("a").rejected("items are conserved", "taken 2 times")

    def test_a_take_of_unknown_outcome_leaves_the_order_open(self) -> None:
        history = History().add("put", ["a"]).add("put", ["b"]).add("take", 1, outcome=Outcome.UNKNOWN)
        history.add("take", 1, "b").left("a").check()
        history.left().rejected("items are conserved", "'a'")

    def test_a_bound_leaves_the_order_open(self) -> None:
        name = "bounded3"
        history = History().add("put", ["a"], name=name).add("put", ["b"], name=name)
        history.add("take", 1, "b", name=name).left("a", name=name).check()

    def test_a_queue_that_is_closed_may_lose_what_is_in_it(self) -> None:
        history = History().add("put", ["a"]).add("close_queue", None, True)
        history.add("take", 1, QueueClosed("x")).check()
        history.add("take", 1, "b").rejected("items are conserved", "never put")


class TestClosed:
    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("close_queue", QueueClosed("x")),
            ("close_semaphore", SemaphoreClosed("x")),
            ("delete_topic", TopicDeleted("x")),
        ],
    )
    def test_somebody_must_have_closed_it(self, kind: str, error: Exception) -> None:
        History().add(kind, None, True).add("claim", None, error).check()
        for history in (
            History().add("claim", None, error),
            History().add(kind, None, True, name="y").add("claim", None, error),
            History().add("set", "a").add("claim", None, error),
        ):
            history.rejected("no call is refused without reason", "claim")


class TestMortalVariables:
    """Variables that are unset by time, or with a session."""

    def test_they_may_be_there_and_may_be_gone(self) -> None:
        for kind, argument in (("set_for_a_while", ("a", 0.5)), ("set_ephemeral", "a")):
            for seen in (("a", 5), (UNSET, 0)):
                History().add(kind, argument).add("get", None, seen).check(fair_clocks=True)

    def test_they_do_not_come_back(self) -> None:
        history = History().add("set_ephemeral", "a").add("get", None, (UNSET, 0)).add("get", None, ("a", 5))
        history.rejected("linearizable", "variable x")

    def test_others_stay(self) -> None:
        history = History().add("set_ephemeral", "a").add("get", None, (UNSET, 0)).add("set", "b")
        history.add("get", None, (UNSET, 0)).rejected("linearizable", "variable x")

    def test_a_time_to_live_is_lived(self) -> None:
        def history(until: float) -> History:
            record = History().add("set_for_a_while", ("a", 2.0), at=(1, 2))
            return record.add("get", None, (UNSET, 0), at=(2.1, until))

        history(2.9).check()
        history(2.9).rejected("linearizable", "variable x", fair_clocks=True)
        history(3.1).check(fair_clocks=True)

    def test_an_update_adds(self) -> None:
        History().add("update", 2, 2).add("update", 1, 3).add("get", None, (3, 9)).check()
        History().add("update", 2, 2).add("update", 1, 2).rejected("linearizable", "variable x")


class TestEvents:
    def test_one_after_the_other(self) -> None:
        history = History().add("event_is_set", None, False).add("event_set", None, True)
        history.add("event_set", None, False).add("event_wait", True, True).add("event_wait", False, True)
        history.add("event_clear", None, True).add("event_clear", None, False)
        history.add("event_wait", False, False).add("event_wait", True, False).check()

    def test_a_wait_may_see_it_for_a_moment(self) -> None:
        history = History().add("event_wait", True, True, at=(1, 9)).add("event_set", None, True, at=(2, 3))
        history.add("event_clear", None, True, at=(4, 5)).check()

    def test_a_wait_that_ends_without_reason(self) -> None:
        History().add("event_wait", True, True).rejected("linearizable", "event x")

    def test_an_event_that_is_set_and_is_not(self) -> None:
        for kind, argument, result in (("event_is_set", None, False), ("event_wait", False, False)):
            history = History().add("event_set", None, True).add(kind, argument, result)
            history.rejected("linearizable", "event x")

    def test_two_who_found_it_clear(self) -> None:
        history = History().add("event_set", None, True).add("event_set", None, True)
        history.rejected("linearizable", "event x")

    def test_what_is_unknown_may_have_happened(self) -> None:
        for seen in (True, False):
            history = History().add("event_set", None, outcome=Outcome.UNKNOWN)
            history.add("event_set", None, outcome=Outcome.FAILED).add("event_is_set", None, seen).check()


class TestRefusals:
    def test_calls_that_overlap_a_close_may_be_refused(self) -> None:
        History().add("close_queue", None, True).add("put", ["a"], QueueClosed("x")).check()

    @pytest.mark.parametrize("error", [WrongType("x"), LimitReached("x"), NotHolder("x")], ids=repr)
    def test_other_refusals_have_no_reason(self, error: Exception) -> None:
        history = History().add("set", "a", error)
        history.rejected("no call is refused without reason", "set")
