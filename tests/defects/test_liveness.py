"""Nobody is deposed, stuck or believed for longer than the faults last."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from harness import STOCK_LEAVES_FILES_OPEN, Kind, both, judge, our, world
from world import Fate, World, body_of, kind_of

pytestmark = STOCK_LEAVES_FILES_OPEN


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    random.seed(1)  # the stock core draws its timeouts from the module


def deaf_follower(world: World) -> list[str]:
    """For 20 s C hears no leader; everything else works. The others' elections run on their own."""
    world.elect("A")
    world.settle(1)
    world.holds_elections = False
    for name in "BC":
        world[name].set_election_deadline(world.clock.time_s + 0.6)

    def drop(_sender: str, receiver: str, message: dict[str, Any]) -> bool:
        return not (receiver == "C" and kind_of(message) == "append_entries")

    world.on_send = drop
    term = world["A"].term
    for step in range(400):
        world.advance(0.05)
        for name in "AB":
            if step % 20 == 0 and world[name].is_leader:
                world.write(name, b"value %d" % step)
        world.run()
        world.deliver_all()
    rise = max(world[name].term for name in "ABC") - term
    return [f"the term rose by {rise}"] if rise else []


@both
def test_04a_a_follower_that_hears_nothing_deposes_nobody(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        judge(kind, deaf_follower(running))


def silent_partition(world: World) -> list[str]:
    """A is cut off without noticing; B leads and takes a write; A is read from."""
    world.elect("A")
    world.write("A", b"old")
    world.settle(1)
    world.isolate("A", noticed=False)
    answers = world["A"].read()
    world.elect("B", "BC")
    (write,) = world.write("B", b"new")
    world.settle(0.5, "BC")
    assert write.is_acked
    answers.clear()  # what was answered before the write is fine
    for _ in range(100):
        world.advance(0.1)
        world.run("A")
        answers += world["A"].read()
    return [f"{len(answers)} reads without the newest value"] if any(b"new" not in a for a in answers) else []


@both
def test_04b_a_deposed_leader_answers_no_read(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        judge(kind, silent_partition(running))


def conflicting_tail(world: World) -> list[str]:
    """A, deposed with a tail of its own, comes back to a leader whose backlog needs several messages."""
    world.elect("A")
    world.settle(1)
    world.isolate("A", noticed=False)
    world.write("A", *(b"junk %d" % number for number in range(20)))
    world.run("A")
    world.elect("B", "BC")
    world.write("B", *(b"good %d" % number for number in range(30)))
    world.settle(1, "BC")
    world.elect("C", "BC")
    world.write("C", *(bytes([number]) * 60_000 for number in range(40)))
    world.settle(1, "BC")
    world.join("AB", "AC")
    world.settle(20)
    ends = world["A"].log[-1][1:], world["C"].log[-1][1:]
    return [f"the log ends at {ends[0]} and not at {ends[1]}"] if ends[0] != ends[1] else []


@both
def test_13_a_deposed_leader_catches_up(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        judge(kind, conflicting_tail(running))


def old_reset_and_a_longer_log(world: World) -> list[str]:
    """B has a longer, compacted log than the leader, which then hears an old request of B to start again."""
    world.elect("A")
    world.settle(0.5)
    world.write("A", b"early")
    for _ in range(2):
        world.run("A")
        world.advance(0.11)
    world.cut("AB")
    world.join("AB")  # the entry is lost with the old connection
    world.settle(0.11, "AC")
    world.deliver("A", "B")
    old = next(message for message in world.links["B", "A"] if body_of(message)["reset"])
    world.settle(1)
    world.write("A", *(b"value %d" % number for number in range(10)))
    world.settle(1)
    world.elect("B")
    world.isolate("B", noticed=False)
    world.write("B", *(b"junk %d" % number for number in range(20)))
    world["B"].snapshot()
    world.run("B")
    world.elect("A", "AC")
    world.join("AB", "BC")
    world["A"].receive("B", old)
    world.settle(10)
    (write,) = world.write("A", b"after")
    world.settle(1)
    assert write.is_acked
    return [] if b"after" in world["B"].applied else ["a follower is never sent anything again"]


@both
def test_12_an_old_request_to_start_again_is_not_obeyed(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        judge(kind, old_reset_and_a_longer_log(running))


def replay_in_one_turn(world: World, kind: Kind) -> list[str]:
    """A replica restarts with 2,000 committed entries; applying one takes a millisecond."""
    world.elect("A")
    world.write("A", *(b"value %d" % number for number in range(2000)))
    world.settle(3)
    world.crash("A")
    world.restart("A")
    before = world.clock.time_s
    if kind is Kind.STOCK:
        world.slow_apply_s = 0.001
        world["A"].run()
        return [f"one turn took {world.clock.time_s - before:.1f} s"]
    longest = 0.0
    world.slow_apply_s = 0.001
    world["A"].set_election_deadline(before - 1)
    for _ in range(400):
        before = world.clock.time_s
        our(world["A"]).want_tick()
        world.drain(2)
        longest = max(longest, world.clock.time_s - before)
    assert len(world["A"].applied) == 2000
    return [f"one turn took {longest:.2f} s"] if longest > 0.05 else []


@both
def test_07g_a_replay_leaves_room_for_other_work(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, "A", stock={"journal": "file"}) as running:
        judge(kind, replay_in_one_turn(running, kind))


def writes_at_a_deposed_leader(world: World) -> list[str]:
    """A takes writes that never reach anybody, and is deposed."""
    world.elect("A")
    world.settle(1)
    world.isolate("A")
    writes = world.write("A", *(b"value %d" % number for number in range(10)))
    world.run("A")
    world.elect("B", "BC")
    world.join("AB", "AC")
    world.settle(30)
    applied = world["B"].applied
    problems = [f"{w.value!r} has {len(w.answers)} answers" for w in writes if len(w.answers) != 1]
    return problems + [
        f"{w.value!r} was refused" for w in writes if w.fate is Fate.REFUSED and w.value in applied
    ]


@both
def test_07c_every_write_is_answered_once_when_leadership_is_lost(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        judge(kind, writes_at_a_deposed_leader(running))


def forwarded(world: World, *, lose: bool) -> list[str]:
    """A client writes at a follower, and the leader changes, or the connection to it, before the answer."""
    world.elect("A")
    world.settle(1)
    (write,) = world.write("B", b"value")
    world.run("B")
    if lose:
        world.cut("AB")
        world.join("AB")
        world.settle(30)
    else:
        world.deliver("B", "A")
        for _ in range(2):
            world.run("A")
            world.advance(0.11)
        world.run("A")
        world.deliver("A", "C")
        world.links["A", "B"].clear()
        world.elect("C", "BC")
        world.settle(1, "BC")
    if write.fate is Fate.OPEN:
        return ["never answered"]
    committed = any(write.value in world[name].applied for name in "BC")
    return ["refused, and committed"] if write.fate is Fate.REFUSED and committed else []


@pytest.mark.parametrize("lose", [False, True])
@both
def test_07d_what_is_refused_never_takes_effect(kind: Kind, lose: bool, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        judge(kind, forwarded(running, lose=lose))


@both
def test_04b_a_read_waits_for_the_answers_of_a_majority(kind: Kind, tmp_path: Path) -> None:
    """The leader is cut off, and for the moment has every reason to believe that it still leads."""
    with world(kind, tmp_path) as running:
        running.elect("A")
        running.write("A", b"value")
        running.settle(1)
        running.isolate("A", noticed=False)
        answers = running["A"].read()
        running.run("A")
        assert running.leaders() == ["A"]
        judge(kind, ["answered while nobody could confirm it"] if answers else [])
        if kind is Kind.OURS:
            running.advance(1.0)
            running.run("A")
            assert running.leaders() == []
            assert not answers
            running.elect("B", "BC")
            answers = running["B"].read()
            running.deliver_all("BC")
            assert answers == [[b"value"]]
