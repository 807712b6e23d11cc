"""One leader a term: votes are remembered, counted once, and given by members only."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import STOCK_LEAVES_FILES_OPEN, Kind, both, judge, our, stock, world
from world import World, kind_of

pytestmark = STOCK_LEAVES_FILES_OPEN


def two_leaders(world: World) -> list[str]:
    terms = [world[name].term for name in world.leaders()]
    return [f"{world.leaders()} lead in terms {terms}"] if len(terms) != len(set(terms)) else []


def voter_restarts(world: World, *, power: bool) -> list[str]:
    """B's vote makes A leader; B restarts and is asked by C for the same term."""
    world.candidacy("A", "AB")
    term = world["A"].term
    world.deliver("A", "B")
    world.deliver("B", "A")
    assert world["A"].is_leader
    world.isolate("A", noticed=False)
    world.crash("B", power=power)
    world.restart("B", "C")
    world.candidacy("C", "BC")
    while world["C"].term < term:
        world.candidacy("C", "BC")
    world.deliver_all("BC")
    return two_leaders(world)


@both
def test_02e_a_vote_outlives_a_power_cut(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, stock={"journal": "file"}) as running:
        judge(kind, voter_restarts(running, power=False))


@both
def test_05a_a_vote_outlives_a_restart_by_default(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, stock={"journal": "memory"}) as running:
        judge(kind, voter_restarts(running, power=True))


@both
def test_05b_a_vote_that_arrives_twice_counts_once(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path, "ABCDE") as running:
        running.candidacy("A", "ABC")
        running.deliver("A", "B")
        running.links["B", "A"].append(running.links["B", "A"][-1])
        running.deliver("B", "A")
        judge(kind, ["two of five votes made a leader"] if running["A"].is_leader else [])
        running.deliver("A", "C")
        running.deliver("C", "A")
        assert running["A"].is_leader


@both
def test_05b_the_vote_of_a_stranger_does_not_count(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        running.candidacy("A", "ABC")
        running.deliver("A", "B")
        vote = next(message for message in running.links["B", "A"] if kind_of(message) == "response_vote")
        running["A"].receive("Z", vote)
        judge(kind, ["a stranger's vote made a leader"] if running["A"].is_leader else [])
        if kind is Kind.OURS:
            assert not our(running["A"]).failures


@pytest.mark.parametrize("how", ["stale", "vote_request"])
@both
def test_04c_a_deposed_leader_does_not_campaign_at_once(kind: Kind, how: str, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        running.elect("A")
        running.settle(20)
        running["A"].set_election_deadline(running.clock.time_s - 10)  # leaders never draw a new one
        term = running["A"].term + 1
        request = {"type": "request_vote", "term": term, "last_log_index": 1, "last_log_term": 0}
        if kind is Kind.STOCK:
            stock(running["A"]).receive("C", request)
            stock(running["A"]).run()
        else:
            body = {"type": "stale"} if how == "stale" else {**request, "hand_over": True}
            replica = our(running["A"])
            replica.receive("C", {"term": term, "epoch": 0, "number": 0, "echo": None, "body": body})
            assert not replica.is_leader
            assert replica.term == term
            replica.run()
        judge(kind, ["the term rose again"] if running["A"].term > term else [])
