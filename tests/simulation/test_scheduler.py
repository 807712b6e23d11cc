"""Virtual time: the order of events, what ends a run, and the hash of it."""

from __future__ import annotations

import pickle

import pytest

from raftcoord.testing.simulation.scheduler import Scheduler, stream
from raftcoord.testing.simulation.violation import Violation


def test_events_run_by_time_and_then_by_plan() -> None:
    scheduler = Scheduler()
    seen: list[tuple[str, float]] = []

    def see(name: str) -> None:
        seen.append((name, scheduler.now))

    scheduler.at(2, see, "c")
    scheduler.at(1, see, "a")
    scheduler.at(1, see, "b")
    scheduler.after(3, see, "late")
    scheduler.run(2.5)
    assert seen == [("a", 1), ("b", 1), ("c", 2)]
    assert (scheduler.now, scheduler.steps) == (2.5, 3)
    scheduler.at(1, see, "past")
    scheduler.run(10)
    assert seen[3:] == [("past", 2.5), ("late", 3)]


def test_what_is_cancelled_does_not_happen() -> None:
    scheduler = Scheduler()
    seen: list[int] = []
    scheduler.at(1, seen.append, 1).cancel()
    second = scheduler.at(3, seen.append, 3)
    scheduler.at(2, second.cancel)
    scheduler.run(5)
    assert seen == []


def test_a_run_ends_as_soon_as_it_is_done() -> None:
    scheduler = Scheduler()
    seen: list[int] = []
    for number in range(5):
        scheduler.at(number, seen.append, number)
    scheduler.run(100, lambda: len(seen) == 3)
    assert seen == [0, 1, 2]
    assert scheduler.now == 2


def test_the_first_failure_ends_the_run() -> None:
    scheduler = Scheduler()
    seen: list[int] = []

    def check(name: str) -> None:
        raise Violation(name, "text")

    def event() -> None:
        scheduler.check(check, "first")
        seen.append(1)  # the code in whose middle the check is called goes on
        scheduler.check(check, "second")

    scheduler.at(1, event)
    scheduler.at(2, seen.append, 2)
    with pytest.raises(Violation, match="first: text"):
        scheduler.run(5)
    assert seen == [1]
    assert scheduler.now == 1


def test_only_violations_are_held_back_by_a_check() -> None:
    def broken() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        Scheduler().check(broken)


def test_going_round_in_circles_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftcoord.testing.simulation.scheduler.STEPS_MAX", 50)
    scheduler = Scheduler()

    def again() -> None:
        scheduler.after(0, again)

    again()
    with pytest.raises(Violation) as caught:
        scheduler.run(1)
    assert caught.value.invariant == "progress"


def test_the_hash_tells_numbers_and_times_apart() -> None:
    def hash_of(at_s: float, *numbers: float) -> int:
        scheduler = Scheduler()
        scheduler.at(at_s, scheduler.mix, *numbers)
        scheduler.run(10)
        return scheduler.hash

    assert hash_of(1, 2, 3) == hash_of(1, 2, 3)
    assert len({hash_of(1, 2, 3), hash_of(1, 3, 2), hash_of(2, 2, 3), hash_of(1, 2, 3, 0)}) == 4


def test_streams_depend_on_seed_and_names_alone() -> None:
    assert stream(1, "a", 2).random() == stream(1, "a", 2).random()
    others = {stream(1, "a", 2).random(), stream(1, "a", 3).random(), stream(2, "a", 2).random()}
    assert len(others) == 3


def test_a_violation_survives_the_way_from_a_worker() -> None:
    violation = pickle.loads(pickle.dumps(Violation("name", "text")))  # noqa: S301
    assert (violation.invariant, violation.text, str(violation)) == ("name", "text", "name: text")
