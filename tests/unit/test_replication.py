"""What a leader sends to each follower, and what the answers may change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Kind, our, world
from world import Message, World, body_of, kind_of

from raftcoord.consensus import messages as m
from raftcoord.consensus.replication import WINDOW
from raftcoord.consensus.snapshot_sender import CHUNKS_IN_FLIGHT, SnapshotSender


@pytest.fixture
def led_by_a(tmp_path: Path) -> Iterator[World]:
    with world(Kind.OURS, tmp_path) as running:
        running.elect("A")
        running.settle(0.3)
        yield running


def appends(running: World) -> list[Message]:
    return [
        message
        for message in running.links["A", "B"]
        if kind_of(message) == m.APPEND and body_of(message)["entries"]
    ]


def test_1_no_more_than_a_window_is_unanswered(led_by_a: World) -> None:
    for number in range(3 * WINDOW):
        led_by_a.write("A", b"%d" % number)
    assert len(appends(led_by_a)) == WINDOW
    led_by_a.settle(1)
    assert len(led_by_a["B"].applied) == 3 * WINDOW


def test_1_every_entry_is_sent_once(led_by_a: World) -> None:
    seen: list[int] = []

    def note(_sender: str, receiver: str, message: Message) -> bool:
        if receiver == "B" and kind_of(message) == m.APPEND:
            seen.extend(index for _, index, _ in body_of(message)["entries"])
        return True

    led_by_a.on_send = note
    for number in range(30):
        led_by_a.write("A", b"%d" % number)
        if number % 5 == 0:
            led_by_a.settle(0.2)
    led_by_a.settle(1)
    assert len(seen) == len(set(seen)) == 30


def test_1_one_append_carries_a_bounded_number_of_bytes(led_by_a: World) -> None:
    led_by_a.cut("AB")
    led_by_a.write("A", *(bytes([number]) * 400_000 for number in range(6)))
    led_by_a.settle(0.3, "AC")
    led_by_a.join("AB")
    sizes = [sum(len(entry[0]) for entry in body_of(message)["entries"]) for message in appends(led_by_a)]
    led_by_a.settle(1)
    assert all(size <= 1024 * 1024 for size in sizes)
    assert len(led_by_a["B"].applied) == 6


def test_2_after_a_restart_older_answers_are_not_obeyed(led_by_a: World) -> None:
    """One lost append makes B ask to start again for each that follows; only the first is obeyed."""
    for number in range(6):
        led_by_a.write("A", b"%d" % number)
    del led_by_a.links["A", "B"][0]
    led_by_a.deliver("A", "B")
    resets = sum(body_of(message)["reset"] for message in led_by_a.links["B", "A"])
    assert resets == 5
    led_by_a.deliver("B", "A")
    again = [index for message in appends(led_by_a) for _, index, _ in body_of(message)["entries"]]
    assert len(again) == len(set(again)) == 6
    led_by_a.settle(0.5)
    assert led_by_a["B"].applied == led_by_a["A"].applied


def test_an_answer_beyond_the_log_is_ignored(led_by_a: World) -> None:
    replication = our(led_by_a["A"]).parts.replication
    before = led_by_a["A"].match_index("B")
    body = {"type": m.APPEND_REPLY, "next_node_idx": 10**6, "reset": False, "success": True}
    replication.on_append_reply("B", 1, body)
    assert led_by_a["A"].match_index("B") == before


def test_3_a_quorum_has_answered_only_what_a_majority_answered(led_by_a: World) -> None:
    replication, guard = our(led_by_a["A"]).parts.replication, our(led_by_a["A"]).parts.guard
    assert replication.quorum_answered(guard.number)
    led_by_a.write("A", b"value")
    newest = guard.number
    assert not replication.quorum_answered(newest)
    led_by_a.deliver("A", "B")
    led_by_a.deliver("B", "A")
    assert replication.quorum_answered(newest - 1)
    replication.reset()
    assert not replication.quorum_answered(1)
    assert replication.quorum_answered(0)


def test_an_answer_does_not_take_back_what_is_on_its_way(led_by_a: World) -> None:
    led_by_a.write("A", b"first")
    led_by_a.write("A", b"second")
    led_by_a.deliver("A", "B", 1)
    led_by_a.deliver("B", "A")
    led_by_a.run("A")
    assert sum(len(body_of(message)["entries"]) for message in appends(led_by_a)) == 1


class Reader:
    """An open snapshot of 100 bytes."""

    index, term, size_bytes = 7, 2, 100

    def __init__(self) -> None:
        self.closed = False

    def read(self, offset: int, length: int) -> bytes:
        return bytes(range(100))[offset : offset + length]

    def close(self) -> None:
        self.closed = True


def offsets(sender: SnapshotSender) -> list[int]:
    return [body["offset"] for body in sender.next_chunks()]


def test_a_snapshot_is_sent_a_few_chunks_ahead_and_goes_back_when_told() -> None:
    reader = Reader()
    sender = SnapshotSender(reader, chunk_bytes=10)
    assert offsets(sender) == [10 * n for n in range(CHUNKS_IN_FLIGHT)]
    assert offsets(sender) == []
    sender.on_answer(10)
    sender.on_answer(20)
    assert offsets(sender) == [40, 50]
    sender.on_answer(0)  # the follower has lost what it had
    assert offsets(sender) == [0, 10, 20, 30]
    sender.on_answer(1000)  # more than was ever sent
    assert offsets(sender) == [40, 50, 60, 70]
    sender.close()
    assert reader.closed


def test_a_follower_far_behind_is_sent_a_snapshot_also_across_a_broken_connection(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path, ours={"snapshot_chunk_bytes": 500}) as running:
        running.elect("A")
        running.cut("AB", "BC")
        running.write("A", *(bytes([number]) * 300 for number in range(30)))
        running.settle(0.3, "AC")
        running["A"].snapshot()
        running.join("AB")
        for _ in range(3):
            running.deliver("A", "B", 2)
            running.deliver("B", "A")
        running.cut("AB")
        running.join("AB")
        running.settle(2)
        assert running["B"].applied == running["A"].applied
        assert our(running["B"]).engine.status().snapshot_index > 0


def test_a_snapshot_that_was_replaced_meanwhile_is_followed_by_the_newer_one(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path, ours={"snapshot_chunk_bytes": 500}) as running:
        running.elect("A")
        running.cut("AB", "BC")
        running.write("A", *(bytes([number]) * 300 for number in range(30)))
        running.settle(0.3, "AC")
        running["A"].snapshot()
        running.join("AB")
        running.deliver("A", "B")
        running.write("A", *(bytes([number]) * 300 for number in range(30)))
        running.settle(0.3, "AC")
        running["A"].snapshot()
        running.settle(3)
        assert running["B"].applied == running["A"].applied
