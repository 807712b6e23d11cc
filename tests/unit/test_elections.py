"""When a replica campaigns, whom it lets campaign, and how leadership moves on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Kind, our, world
from world import World, body_of, kind_of

from raftcoord.consensus import messages as m
from raftcoord.consensus.interface import NotLeaderError


@pytest.fixture
def three(tmp_path: Path) -> Iterator[World]:
    with world(Kind.OURS, tmp_path) as running:
        yield running


def expire(running: World, name: str) -> None:
    running[name].set_election_deadline(running.clock.time_s - 0.01)
    running[name].run()


def kinds(running: World, sender: str, receiver: str) -> list[str]:
    return [kind_of(message) for message in running.links[sender, receiver]]


def test_1_a_term_rises_only_after_a_majority_said_that_it_would_vote(three: World) -> None:
    expire(three, "A")
    assert kinds(three, "A", "B") == [m.PRE_VOTE]
    assert three["A"].term == 0
    expire(three, "A")
    assert three["A"].term == 0
    three.deliver("A", "B")
    assert three["B"].term == 0, "a pre-vote changes nothing at who is asked"
    three.deliver("B", "A")
    expire(three, "A")
    assert three["A"].term == 1
    assert m.VOTE_REQUEST in kinds(three, "A", "C")


def test_1_a_replica_that_nobody_answers_asks_for_ever_and_raises_nothing(three: World) -> None:
    three.isolate("A", noticed=False)
    for _ in range(100):
        three.advance(0.3)
        expire(three, "A")
    assert three["A"].term == 0
    assert our(three["A"]).engine.status().counters["pre_votes_started"] > 20


def test_1_a_promise_for_another_term_does_not_count(three: World) -> None:
    expire(three, "A")
    reply = {"type": m.PRE_VOTE_REPLY, "term": 2, "granted": True}
    three["A"].receive("B", {"term": 0, "epoch": 0, "number": 0, "echo": None, "body": reply})
    expire(three, "A")
    assert three["A"].term == 0


def test_1_a_newer_term_is_learned_from_a_refusal(three: World) -> None:
    expire(three, "A")
    reply = {"type": m.PRE_VOTE_REPLY, "term": 1, "granted": False}
    three["A"].receive("B", {"term": 7, "epoch": 0, "number": 0, "echo": None, "body": reply})
    assert three["A"].term == 7
    assert our(three["A"]).core.leader is None


def granted(running: World, sender: str, receiver: str) -> list[bool]:
    return [
        body_of(message)["granted"]
        for message in running.links[sender, receiver]
        if kind_of(message) == m.PRE_VOTE_REPLY
    ]


def test_no_pre_vote_for_a_shorter_log(three: World) -> None:
    three.elect("A")
    three.isolate("C")
    three.write("A", b"value")
    three.settle(0.5, "AB")
    three.crash("A")
    three.join("BC")
    expire(three, "C")
    three.deliver("C", "B")
    assert granted(three, "B", "C") == [False]
    three.elect("B", "BC")


def test_no_pre_vote_while_the_leader_is_heard(three: World) -> None:
    three.elect("A")
    expire(three, "C")
    three.deliver("C", "B")
    three.deliver("C", "A")
    assert granted(three, "B", "C") == [False]
    assert granted(three, "A", "C") == [False]
    assert three["A"].term == 1


def test_of_two_that_ask_each_other_the_first_by_name_goes_on(three: World) -> None:
    three.cut("AC", "BC")
    expire(three, "A")
    expire(three, "B")
    three.deliver("A", "B")
    assert granted(three, "B", "A") == [True]
    three.deliver("B", "A")
    assert granted(three, "A", "B") == [False]


def test_2_nobody_votes_or_campaigns_before_all_members_have_met(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path, joined=False) as running:
        running.join("AB")
        running.holds_elections = False
        running.settle(5)
        assert [replica.term for replica in running.replicas.values()] == [0, 0, 0]
        assert not running.sent
        running.join("AC", "BC")
        running.settle(1, step_s=0.02)
        assert len(running.leaders()) == 1


def test_a_broken_connection_to_the_leader_starts_an_election_at_once(three: World) -> None:
    three.elect("A")
    three.write("A", b"value")
    three.settle(0.3)
    three.holds_elections = False
    three.crash("A")
    began = three.clock.time_s
    while not three.leaders():
        three.advance(0.005)
        three.run()
        three.deliver_all()
        assert three.clock.time_s - began < 0.4, "no sooner than by the election timeout"
    assert three["B"].applied == [b"value"]


def test_leadership_is_handed_over_without_a_gap(three: World) -> None:
    three.elect("A")
    engine = our(three["A"]).engine
    task = three.loop.create_task(engine.transfer_leadership("C"))
    began = three.clock.time_s
    for _ in range(6):
        three.run()
        three.deliver_all()
    assert three.leaders() == ["C"]
    assert three.clock.time_s == began
    assert three.loop.run_until_complete(task)


def test_a_hand_over_waits_until_its_target_holds_everything(three: World) -> None:
    three.elect("A")
    three.write("A", b"early")
    task = three.loop.create_task(our(three["A"]).engine.transfer_leadership("C"))
    three.drain()
    three.deliver("A", "B")
    three.deliver("B", "A")
    assert m.HAND_OVER not in kinds(three, "A", "C")
    (late,) = three.write("A", b"late")
    for _ in range(6):
        three.run()
        three.deliver_all()
    assert three.leaders() == ["C"]
    assert three["C"].applied == [b"early"]
    assert not late.is_acked
    assert len(late.answers) == 1
    assert three.loop.run_until_complete(task)


def test_a_hand_over_to_one_that_does_not_answer_is_given_up(three: World) -> None:
    three.elect("A")
    three.on_send = lambda _sender, receiver, _message: receiver != "C"
    three.write("A", b"value")
    task = three.loop.create_task(our(three["A"]).engine.transfer_leadership("C"))
    three.settle(3)
    assert task.done()
    assert not three.loop.run_until_complete(task)
    assert three.leaders() == ["A"]
    (write,) = three.write("A", b"after")
    three.settle(0.3)
    assert write.is_acked


def test_only_a_leader_hands_over_and_only_to_a_member(three: World) -> None:
    three.elect("A")

    def transfer(name: str, target: str) -> Any:
        return three.loop.run_until_complete(our(three[name]).engine.transfer_leadership(target))

    with pytest.raises(NotLeaderError):
        transfer("B", "A")
    with pytest.raises(ValueError):
        transfer("A", "Z")
    with pytest.raises(ValueError):
        transfer("A", "A")


def test_a_stranger_to_the_leader_cannot_make_a_follower_campaign(three: World) -> None:
    """Only who leads may hand over; C claims to."""
    three.elect("A")
    term = three["B"].term
    body = {"type": m.HAND_OVER, "term": term}
    three["B"].receive("C", {"term": term, "epoch": 0, "number": 0, "echo": None, "body": body})
    three["B"].run()
    assert three["B"].term == term
