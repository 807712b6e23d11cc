"""The checks of what callers held, of what they claimed, and of what they read of topics."""

from __future__ import annotations

from typing import Any

import pytest
from little_history import History

from raftcoord.client.errors import SemaphoreClosed, TopicDeleted
from raftcoord.protocol.errors import QueueClosed
from raftcoord.testing.simulation.records import Outcome


def _held(history: History, kind: str, fence: Any, *, name: str, begin: float, end: float) -> History:
    """Add a grant that was told at a time, and given back later."""
    release = kind.replace("acquire", "release")
    history.add(kind, None, fence, at=(begin - 0.5, begin), name=name)
    return history.add(release, fence, None, at=(end, end + 0.5), name=name)


class TestHolds:
    """What may be held at the same time, and what not."""

    @pytest.mark.parametrize(
        ("name", "kinds"),
        [
            ("r1", ["acquire_read", "acquire_read", "acquire_read"]),
            ("s2", ["acquire_lease", "acquire_lease"]),
        ],
    )
    def test_what_may_overlap(self, name: str, kinds: list[str]) -> None:
        history = History()
        for number, kind in enumerate(kinds):
            _held(history, kind, 7 + number, name=name, begin=1 + number / 10, end=5)
        history.check()

    @pytest.mark.parametrize(
        ("name", "kinds"),
        [
            ("r1", ["acquire_write", "acquire_write"]),
            ("r1", ["acquire_read", "acquire_write"]),
            ("r1", ["acquire_write", "acquire_read"]),
            ("s1", ["acquire_lease", "acquire_lease"]),
            ("s2", ["acquire_lease", "acquire_lease", "acquire_lease"]),
        ],
    )
    def test_what_may_not(self, name: str, kinds: list[str]) -> None:
        history, later = History(), History()
        for number, kind in enumerate(kinds):
            _held(history, kind, 7 + number, name=name, begin=1 + number / 10, end=5)
            _held(later, kind, 7 + number, name=name, begin=1 + 2 * number, end=2 + 2 * number)
        history.rejected("one holder", name)
        later.check()

    def test_names_of_multilocks_are_held_one_by_one(self) -> None:
        def two(first: tuple[str, ...], second: tuple[str, ...]) -> History:
            history = _held(History(), "acquire_many", (7, first), name="m1+m2", begin=1, end=5)
            return _held(history, "acquire_many", (8, second), name="m2+m3", begin=2, end=4)

        two(("m1",), ("m2", "m3")).check()
        two(("m1", "m2"), ("m2", "m3")).rejected("one holder", "multilock m2")

    def test_who_did_not_give_back_may_have_lost_it(self) -> None:
        history = History().add("acquire_write", None, 7, at=(1, 2), name="r1")
        history.add("release_write", 7, outcome=Outcome.UNKNOWN, at=(9, 10), name="r1")
        _held(history, "acquire_write", 8, name="r1", begin=3, end=4).check()
        history = History().add("close_semaphore", None, None, name="s1")
        history.add("acquire_lease", None, 7, at=(11, 12), name="s1")
        history.add("release_lease", 7, SemaphoreClosed("x"), at=(19, 20), name="s1")
        _held(history, "acquire_lease", 8, name="s1", begin=13, end=14).check()

    def test_what_was_not_to_be_had_is_not_held(self) -> None:
        history = History().add("acquire_write", None, False, at=(1, 2), name="r1")
        _held(history, "acquire_write", 8, name="r1", begin=1.5, end=4).check()

    def test_fences_grow_over_all_objects(self) -> None:
        history = _held(History(), "acquire_lease", 9, name="s1", begin=1, end=2)
        _held(history, "acquire_read", 8, name="r1", begin=0.9, end=4).check()
        _held(history, "acquire_read", 6, name="r1", begin=1.6, end=4).rejected("fences grow", "fence 9")


class TestClaims:
    def test_one_after_the_other(self) -> None:
        history = History().add("put", ["a", "b"]).add("claim", None, ("a", 1)).add("nack", "a", None)
        history.add("claim", None, ("a", 2)).add("claim", None, ("b", 1)).add("ack", "b", None)
        history.add("ack", "a", None).check()

    def test_an_item_that_is_not_acknowledged_is_still_there(self) -> None:
        history = History().add("put", ["a"]).add("claim", None, ("a", 1))
        history.rejected("items are conserved", "nowhere")
        history.left("a").check()
        history.left().add("ack", "a", outcome=Outcome.FAILED).rejected("items are conserved", "nowhere")
        history.add("ack", "a", outcome=Outcome.UNKNOWN).check()

    def test_an_item_that_is_acknowledged_twice(self) -> None:
        history = History().add("put", ["a"]).add("ack", "a", None).add("ack", "a", None)
        history.rejected("items are conserved")
        history.given_back("a").rejected("items are conserved", "both .* worked")

    def test_an_item_that_is_seen_after_it_was_acknowledged(self) -> None:
        for kind, result in (("claim", ("a", 2)), ("take", "a")):
            history = History().add("put", ["a"]).add("claim", None, ("a", 1)).add("ack", "a", None)
            history.add(kind, None, result).given_back("a").rejected("items are conserved", "came after")

    def test_an_item_that_is_left_after_it_was_acknowledged(self) -> None:
        history = History().add("put", ["a"]).add("claim", None, ("a", 1)).add("ack", "a", None).left("a")
        history.rejected("items are conserved")
        history.given_back("a").rejected("items are conserved", "is left after")

    def test_an_ack_that_was_refused_does_nothing(self) -> None:
        history = History().add("put", ["a"]).add("close_queue", None, True)
        history.add("ack", "a", QueueClosed("x")).add("ack", "a", None).check()

    def test_dead_letters_are_not_lost(self) -> None:
        history = History().add("put", ["a"], name="work2").add("claim", None, ("a", 2), name="work2")
        history.rejected("items are conserved", "nowhere")
        history.left("a", name="dead").check()
        history.left(name="dead").add("drain", None, ["a"], name="dead").check()

    def test_dead_letters_are_not_taken_twice(self) -> None:
        history = History().add("put", ["a"], name="work2").add("take", 1, "a", name="work2")
        history.add("drain", None, ["a"], name="dead").rejected("items are conserved", "taken 2 times")

    @pytest.mark.parametrize("numbers", [(1, 1), (2, 1)])
    def test_deliveries_that_do_not_grow(self, numbers: tuple[int, int]) -> None:
        history = History().add("put", ["a"]).left("a")
        for number in numbers:
            history.add("claim", None, ("a", number))
        history.rejected("deliveries are counted", "'a'")

    def test_deliveries_may_be_told_in_either_order(self) -> None:
        history = History().add("put", ["a"]).left("a")
        history.add("claim", None, ("a", 2), at=(4, 6)).add("claim", None, ("a", 1), at=(5, 7)).check()

    def test_deliveries_over_the_bound(self) -> None:
        history = History().add("put", ["a"], name="work2").left("a", name="work2")
        history.add("claim", None, ("a", 3), name="work2").rejected("deliveries are counted", "bound")


class TestTopics:
    def test_what_was_published_is_in_the_log_once(self) -> None:
        history = History().published("x", "a", "b", "c", start=5)
        history.add("publish", ["b", "c"], range(6, 8)).check()

    @pytest.mark.parametrize(
        ("values", "outcome", "result"),
        [
            (["b", "a"], Outcome.OK, range(6, 8)),
            (["a"], Outcome.OK, range(6, 7)),
            (["d"], Outcome.OK, range(5, 6)),
            (["a"], Outcome.FAILED, None),
            (["b"], Outcome.UNKNOWN, None),
        ],
        ids=["order", "offset", "nowhere", "failed", "twice"],
    )
    def test_what_is_in_the_log_otherwise(self, values: list[str], outcome: Outcome, result: Any) -> None:
        history = History().published("x", "a", "b", "b", start=5)
        history.add("publish", values, result, outcome=outcome).rejected("topics", "the log has")

    def test_what_is_unknown_may_be_in_it_or_not(self) -> None:
        history = History().published("x", "a").add("publish", ["a"], outcome=Outcome.UNKNOWN)
        history.add("publish", ["b"], outcome=Outcome.UNKNOWN).check()

    def test_a_reader_goes_on(self) -> None:
        history = History().published("x", "a", "b", "c", "d", start=5, gone=3)
        history.add("read_topic", None, (5, 0, "a")).add("read_topic", 6, outcome=Outcome.FAILED)
        history.add("read_topic", 6, outcome=Outcome.UNKNOWN).add("read_topic", 6, (8, 2, "d")).check()

    def test_what_is_no_message_of_the_log(self) -> None:
        for result in ((5, 0, "b"), (9, 0, "a")):
            history = History().published("x", "a", "b", start=5).add("read_topic", None, result)
            history.rejected("topics", "the log has")

    @pytest.mark.parametrize(
        "second", [(5, 0, "a"), (7, 0, "c"), (8, 1, "d")], ids=["again", "gap", "miscounted"]
    )
    def test_a_reader_that_does_not_go_on(self, second: tuple[int, int, str]) -> None:
        history = History().published("x", "a", "b", "c", "d", start=5, gone=4)
        history.add("read_topic", None, (5, 0, "a")).add("read_topic", 6, second)
        history.rejected("topics", "should have begun at 6")

    def test_what_is_kept_is_not_missed(self) -> None:
        history = History().published("x", "a", "b", "c", start=5, gone=1)
        history.add("read_topic", None, (5, 0, "a")).add("read_topic", 6, (7, 1, "c"))
        history.rejected("topics", "missed what is kept")

    def test_a_deleted_topic_is_begun_anew(self) -> None:
        history = History().published("x", "a", start=5).published("x", "b", start=9)
        history.add("read_topic", None, (5, 0, "a")).add("delete_topic", None, True)
        history.add("read_topic", 6, TopicDeleted("x")).add("read_topic", None, (9, 0, "b")).check()

    def test_what_was_never_deleted_is_not_said_to_be(self) -> None:
        history = History().published("x", "a", start=5).published("x", "b", start=9)
        history.add("delete_topic", None, True).add("read_topic", None, (9, 0, "b"))
        history.add("read_topic", 10, TopicDeleted("x"))
        history.rejected("topics", "a deletion that never was")

    def test_what_is_kept_for_a_time_is_not_missed_before(self) -> None:
        def missed_at(until: float) -> History:
            history = History().published("aged400", "a", "b", "c", start=5, gone=2)
            history.add("publish", ["a"], range(5, 6), at=(0, 1), name="aged400")
            history.add("publish", ["b", "c"], range(6, 8), at=(2, 3), name="aged400")
            history.add("read_topic", None, (5, 0, "a"), at=(1.1, 1.2), name="aged400")
            return history.add("read_topic", 6, (7, 1, "c"), at=(2.1, until), name="aged400")

        missed_at(2.5).check(fair_clocks=True)
        missed_at(2.3).check()
        missed_at(2.3).rejected("topics", "which was not 0.4 s old", fair_clocks=True)
