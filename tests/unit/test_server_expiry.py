"""What is due by time is expired by the leader, on time, also when nobody says anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from server_harness import (
    NAME,
    VALUE,
    LoopClock,
    RawClient,
    jumping_loop,
    let_pass,
    run,
    serving,
    serving_three,
    until,
)

from raftcoord.machine import machine
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.server.batcher import Batcher
from raftcoord.server.expiry_clock import RETRY_S, STAMP_EVERY_S, ExpiryClock

SET_WITH = int(Operation.VARIABLE_SET_WITH)
GET = int(Operation.VARIABLE_GET)
WATCH = int(Operation.VARIABLE_WATCH)
TICK_S = 0.001  # of cluster time, which counts whole milliseconds


def test_a_variable_expires_on_time_and_its_watcher_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=60_000)
            started = jumping_loop().time()
            _, code, revision = await client.ask([1, 0, SET_WITH, NAME, VALUE, 5000, False])
            assert code == Code.OK
            assert await client.ask([2, 0, WATCH, NAME, revision, True]) == [2, Code.WAITING, None]
            assert await client.receive() == [2, Code.OK, [None, 0]]
            assert 5.0 - TICK_S <= jumping_loop().time() - started < 5.5

    run(scenario())


def test_expiries_far_and_near_come_in_their_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=60_000)
            for sequence, ttl_ms in enumerate((8000, 2000, 4000), 1):
                name = b"%d" % ttl_ms
                await client.ask([sequence, 0, SET_WITH, name, VALUE, ttl_ms, False])
            seen: list[int] = []

            def nothing_is_left() -> bool:
                seen.append(server.counts()["variables"])
                return seen[-1] == 0

            await until(nothing_is_left)
            assert list(dict.fromkeys(seen)) == [3, 2, 1, 0]
            assert "deadline_ms=None" in repr(server.gateway.expiry_clock)

    run(scenario())


def test_a_new_leader_goes_on_with_the_deadlines_of_the_old_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers:
            (leader,) = [server for server in servers if server.gateway.is_serving]
            client = await RawClient.with_session(leader, ttl_ms=60_000)
            await client.ask([1, 0, SET_WITH, NAME, VALUE, 20_000, False])
            await leader.stop(graceful=True)
            others = [server for server in servers if server is not leader]
            await until(lambda: any(server.gateway.is_serving for server in others))
            (heir,) = [server for server in others if server.gateway.is_serving]
            assert heir.counts()["variables"] == 1
            await until(lambda: [server.counts()["variables"] for server in others] == [0, 0])

    run(scenario())


def test_a_change_of_leader_prolongs_a_time_to_live_by_seconds_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_three(tmp_path) as servers:
            (leader,) = [server for server in servers if server.gateway.is_serving]
            client = await RawClient.with_session(leader, ttl_ms=3_600_000)
            await client.ask([1, 0, SET_WITH, NAME, VALUE, 100_000, False])
            started = jumping_loop().time()
            for _ in range(9):  # the client is alive, and nothing it says is logged
                await let_pass(10)
                await client.ask([-1, "keep_alive"])
            await leader.stop(graceful=True)
            others = [server for server in servers if server is not leader]
            await until(lambda: [server.counts()["variables"] for server in others] == [0, 0])
            assert 100 <= jumping_loop().time() - started < 100 + STAMP_EVERY_S + 5

    run(scenario())


def test_the_log_learns_the_time_while_something_is_going_to_expire() -> None:
    async def scenario() -> None:
        batcher = FakeBatcher()
        deadline = batcher.now_ms() + 22_500
        machine_now = [batcher.now_ms()]
        clock = ExpiryClock(
            batcher=batcher, next_deadline_ms=lambda: deadline, machine_now_ms=lambda: machine_now[0]
        )
        clock.lead()
        started = machine_now[0]
        await let_pass(3)
        machine_now[0] = batcher.now_ms()  # a batch with commands will do
        await let_pass(4.8)
        assert batcher.proposed_at == []
        await let_pass(0.4)
        assert len(batcher.proposed_at) == 1
        machine_now[0] = batcher.now_ms()
        await let_pass(STAMP_EVERY_S - 0.2)
        assert len(batcher.proposed_at) == 1
        await let_pass(0.2 + 2.5 * RETRY_S)  # refused, say
        assert len(batcher.proposed_at) == 4
        machine_now[0] = started + 22_000
        await let_pass((deadline - batcher.now_ms()) / 1000 + 0.1)
        assert len(batcher.proposed_at) == 5
        assert 0 <= batcher.proposed_at[-1] - deadline < 100, "on time, however near the last proposal was"
        clock.stop_leading()

    run(scenario())


def test_more_than_one_batch_expires_goes_on_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "EXPIRIES_PER_BATCH_MAX", 1)

    async def scenario() -> None:
        async with serving(tmp_path) as server:
            client = await RawClient.with_session(server, ttl_ms=60_000)
            for sequence in range(1, 6):
                client.send([sequence, 0, SET_WITH, b"%d" % sequence, VALUE, 5000, False])
            for _ in range(5):
                await client.receive()
            started = jumping_loop().time()
            await until(lambda: server.counts()["variables"] == 0)
            assert jumping_loop().time() - started < 5.0 + RETRY_S

    run(scenario())


class FakeBatcher(Batcher):
    """Counts proposals; its time is the loop's."""

    def __init__(self) -> None:
        self.proposed_at: list[int] = []

    def now_ms(self) -> int:
        return int(LoopClock().now() * 1000)

    def submit_time(self) -> None:
        self.proposed_at.append(self.now_ms())


@pytest.mark.parametrize("delay_ms", [-500, 0, 1, 1500, 4 * 3_600_000])
def test_a_proposal_comes_at_its_time_and_is_repeated_while_it_has_no_effect(delay_ms: int) -> None:
    async def scenario() -> None:
        batcher = FakeBatcher()
        start_ms = batcher.now_ms()
        deadline: list[int | None] = [start_ms + delay_ms]
        clock = ExpiryClock(
            batcher=batcher, next_deadline_ms=lambda: deadline[0], machine_now_ms=lambda: start_ms - 1000
        )
        clock.look()
        await let_pass(max(delay_ms, 0) / 1000 + 0.5)
        assert batcher.proposed_at == []  # not a leader
        deadline[0] = start_ms = batcher.now_ms() + delay_ms
        clock.lead()
        for _ in range(3):
            clock.look()
        await let_pass(max(delay_ms, 0) / 1000 + 0.5)
        assert len(batcher.proposed_at) == 1
        assert 0 <= batcher.proposed_at[0] - start_ms < 500 - min(delay_ms, 0)
        clock.look()
        await let_pass(2.2 * RETRY_S)
        assert len(batcher.proposed_at) == 3
        deadline[0] = None
        clock.look()
        await let_pass(5 * RETRY_S)
        assert len(batcher.proposed_at) == 3
        deadline[0] = batcher.now_ms() + 1000
        clock.look()
        clock.stop_leading()
        await let_pass(5)
        assert len(batcher.proposed_at) == 3

    run(scenario())
