"""Entries that match are kept, answers count only for what was compared, commit follows what is held."""

from __future__ import annotations

from pathlib import Path

from tests.defects.harness import Kind, both, judge, world
from tests.defects.world import World, diverged, kind_of, lost

PADDING = b"x" * 60
SMALL_BATCHES = {"appendEntriesBatchSizeBytes": 200}


def values(prefix: str, count: int) -> list[bytes]:
    return [f"{prefix}{number:02d}".encode() + PADDING for number in range(count)]


def answers_arrive_one_by_one(world: World) -> list[str]:
    """Answers trickle in over more than one heartbeat period, then the leader dies with a short resend out."""
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
