"""Entries that match are kept, answers count only for what was compared, commit follows what is held."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import Kind, both, judge, world
from world import World, kind_of, lost

PADDING = b"x" * 60
SMALL_BATCHES = {"appendEntriesBatchSizeBytes": 200}


def values(prefix: str, count: int) -> list[bytes]:
    return [f"{prefix}{number:02d}".encode() + PADDING for number in range(count)]


def answers_arrive_one_by_one(world: World) -> list[str]:
    """Answers trickle in over more than one heartbeat period, then the leader dies amid a resend."""
    world.elect("A")
    world.settle(0.5)
    world.cut("AC")
    writes = world.write("A", *values("v", 12))
    for _ in range(2):
        world.advance(0.11)
        world.run("A")
    world.deliver("A", "B")
    for _ in range(3):
        world.deliver("B", "A", 1)
    world.advance(0.11)
    world.run("A")
    world.deliver("B", "A")
    world.run("A")
    world.deliver("A", "B", 1)
    world.links["A", "B"].clear()
    world.crash("A")
    world.links["B", "A"].clear()
    world.elect("B", "BC")
    world.settle(1, "BC")
    assert any(write.is_acked for write in writes)
    return lost(writes, world["B"], world["C"])


@both
def test_01_acknowledged_entries_outlive_a_repeated_shorter_append(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, stock=SMALL_BATCHES) as running:
        judge(kind, answers_arrive_one_by_one(running))


def delayed_load(world: World, *, steps: int, lag: int) -> tuple[int, int]:
    """Write at A while every message takes `lag` steps; return (entries written, entries sent to B)."""
    world.elect("A")
    world.settle(0.5)
    sent_at: dict[tuple[str, str], list[int]] = {link: [] for link in world.links}
    entries = step = 0

    def note(sender: str, receiver: str, message: dict[str, Any]) -> bool:
        nonlocal entries
        sent_at[sender, receiver].append(step)
        if (sender, receiver) == ("A", "B") and kind_of(message) == "append_entries":
            entries += len(message.get("body", message).get("entries", ()))
        return True

    world.on_send = note
    shrunk = 0
    for step in range(steps):
        world.advance(0.11)
        world.write("A", *values(f"{step}-", 5))
        world.run()
        for link, stamps in sent_at.items():
            while stamps and stamps[0] <= step - lag:
                del stamps[0]
                before = world[link[1]].log[-1][1]
                world.deliver(*link, 1)
                shrunk += world[link[1]].log[-1][1] < before
    world.on_send = None
    world.shrunk = shrunk
    return 5 * steps, entries


@both
def test_01b_load_alone_never_shortens_a_log(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, stock=SMALL_BATCHES) as running:
        delayed_load(running, steps=20, lag=2)
        judge(kind, [f"a log became shorter {running.shrunk} times"] if running.shrunk else [])


@both
def test_10b_entries_are_sent_once_when_answers_are_slow(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        written, sent = delayed_load(running, steps=20, lag=3)
        judge(kind, [f"{written} entries were sent as {sent}"] if sent > 1.5 * written else [])


def answer_from_an_earlier_leadership(world: World) -> list[str]:
    """B's answers to A's first leadership arrive in A's next one, when B no longer matches."""
    world.elect("A")
    world.settle(1)
    world.cut("AC", "AD", "AE", noticed=False)
    world.write("A", *values("old", 20))
    for _ in range(2):
        world.run("A")
        world.deliver("A", "B")
        world.advance(0.11)
    stalled = list(world.links["B", "A"])
    world.isolate("B", noticed=False)
    world.elect("C", "CDE")
    world.settle(0.5, "CDE")
    world.join("AC", "AD", "AE")
    world.settle(1, "ACDE")
    world.crash("C")
    world.elect("A", "ADE")
    world.settle(0.3, "ADE")
    world.cut("AE", noticed=False)
    for message in stalled:
        world["A"].receive("B", message)
    (write,) = world.write("A", b"new")
    for _ in range(6):
        world.advance(0.06)
        world.run("A")
        world.deliver("A", "D")
        world.deliver("D", "A")
    copies = sum(b"new" in command for name in "ABCDE" for command, _, _ in world[name].log[-3:])
    assert stalled
    return [f"acknowledged with {copies} of 5 copies"] if write.is_acked and copies < 3 else []


@both
def test_05c_an_answer_counts_only_in_its_own_leadership(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, "ABCDE") as running:
        judge(kind, answer_from_an_earlier_leadership(running))


def follower_comes_back_with_less(world: World) -> list[str]:
    """B answers for entries, then comes back on an older copy of its disk."""
    world.elect("A")
    world.settle(1)
    world.cut("AC", "BC")
    older = world["B"].disk_state()
    world.write("A", *values("v", 10))
    for _ in range(2):
        world.run("A")
        world.deliver("A", "B")
        world.advance(0.11)
    # The leader takes the answers in, but has no turn in which it could commit.
    world.deliver("B", "A")
    world.crash("B")
    world["B"].set_disk_state(older)
    world.restart("B", "A")
    world.settle(0.1, "A")
    world.deliver("A", "B", 1)
    world.deliver("B", "A")
    counted, held = world["A"].match_index("B"), world["B"].log[-1][1]
    return [f"counted as holding {counted}, holds {held}"] if counted > held else []


@both
def test_05d_a_follower_with_a_shorter_log_is_not_counted_for_the_longer_one(
    kind: Kind, tmp_path: Path
) -> None:
    with world(kind, tmp_path) as running:
        judge(kind, follower_comes_back_with_less(running))
