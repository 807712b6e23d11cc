"""Whole engines: one order everywhere, nothing acknowledged is lost, and clear ends."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from engine_cluster import Cluster, Member, cluster, run
from loopback import until
from ours import WorstCase

from raftcoord.consensus.interface import Committed, FatalError, NotCommitted, NotLeaderError, Role
from raftcoord.runtime import RealDisk, Runtime


def values(prefix: str, count: int) -> list[bytes]:
    return [f"{prefix} {number}".encode() for number in range(count)]


async def _same_order() -> None:
    async with cluster() as three:
        await three.write(*values("first", 200))
        for value in values("second", 20):
            await three.write(value)
        await three.agree()
        leader = await three.leader()
        assert leader.values.applied == three.acked
        assert leader.engine.leader_hint() == f"client {leader.name}"
        await until(lambda: all(m.engine.leader_hint() == f"client {leader.name}" for m in three.running))


def test_all_replicas_apply_the_same_in_the_same_order() -> None:
    run(_same_order)


def test_the_same_on_uvloop() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_same_order())


def test_a_single_replica_is_a_cluster() -> None:
    async def work() -> None:
        async with cluster("a") as one:
            await one.write(*values("v", 50))
            assert await one["a"].barrier()
            await one["a"].kill()
            await one["a"].start()
            await one.leader()
            assert one["a"].values.applied == one.acked

    run(work)


def test_who_hears_nobody_is_out_of_touch_though_all_are_connected() -> None:
    async def work() -> None:
        async with cluster() as three:
            leader = await three.leader()
            await until(lambda: all(member.engine.is_in_touch for member in three.running))
            for member in three.running:
                member.engine._parts.transport.send = lambda peer, envelope: None  # type: ignore[method-assign]
            await until(lambda: not any(member.engine.is_in_touch for member in three.running))
            assert all(len(member.engine._parts.replication.connected) == 2 for member in three.running)
            await leader.kill()
            assert not leader.engine.is_in_touch

    run(work)


def test_followers_refuse_writes_and_reads() -> None:
    async def work() -> None:
        async with cluster() as three:
            for follower in await three.followers():
                assert await follower.propose(b"value") is NotCommitted.NOT_LEADER
                assert not await follower.barrier()
                with pytest.raises(NotLeaderError):
                    await follower.engine.transfer_leadership()

    run(work)


def test_nothing_acknowledged_is_lost_when_leaders_are_killed() -> None:
    async def work() -> None:
        async with cluster() as three:
            for round_ in range(3):
                await three.write(*values(f"round {round_}", 20))
                leader = await three.leader()
                open_writes = [asyncio.ensure_future(leader.propose(value)) for value in values("open", 5)]
                await asyncio.sleep(0)
                await leader.kill()
                for value, outcome in zip(values("open", 5), await asyncio.gather(*open_writes), strict=True):
                    if isinstance(outcome, Committed):
                        three.acked.append(value)
                began = asyncio.get_running_loop().time()
                await three.leader()
                assert asyncio.get_running_loop().time() - began < 5
                await three.write(*values(f"after {round_}", 5))
                await leader.start()
                await three.agree()

    run(work)


def test_all_lose_power_and_come_back_with_everything() -> None:
    async def work() -> None:
        async with cluster() as three:
            await three.write(*values("v", 100))
            for member in three.members.values():
                member.disk.lose_power(WorstCase())
                await member.engine.stop(hand_over=False)
            for member in three.members.values():
                await member.start()
            await three.agree()
            await three.write(b"after")
            await three.agree()

    run(work)


def test_a_replica_far_behind_installs_a_snapshot() -> None:
    async def work() -> None:
        async with cluster(
            trailing_log_bytes=0, snapshot_log_entries=300, snapshot_chunk_bytes=2000
        ) as three:
            behind = (await three.followers())[0]
            await behind.kill()
            for number in range(10):
                await three.write(*values(f"batch {number}", 100))
            leader = await three.leader()
            await until(lambda: leader.engine.status().first_index > 300)
            await behind.start()
            await three.agree()
            assert behind.engine.status().snapshot_index > 300
            await behind.kill()
            await behind.start()
            await three.agree()

    run(work)


def test_snapshots_during_writes_hold_one_moment() -> None:
    async def work() -> None:
        async with cluster(trailing_log_bytes=0) as three:
            await three.write(*values("early", 500))
            leader = await three.leader()
            snapshots = [asyncio.ensure_future(leader.engine.snapshot()) for _ in range(2)]
            for number in range(10):
                await three.write(*values(f"late {number}", 20))
            first, second = await asyncio.gather(*snapshots)
            assert first == second, "the second call joined the first"
            await three.agree()
            for member in three.members.values():
                await member.kill()
            for member in three.members.values():
                await member.start()
            await three.agree()
            assert leader.engine.status().snapshot_index == first

    run(work)


def test_a_barrier_is_never_true_on_a_leader_that_was_deposed() -> None:
    async def work() -> None:
        async with cluster() as three:
            leader = await three.leader()
            assert await leader.barrier()
            others = await three.followers()
            for other in others:
                await other.kill()
            barrier = asyncio.ensure_future(leader.barrier())
            write = asyncio.ensure_future(leader.propose(b"value"))
            assert not await barrier
            assert await write is NotCommitted.OUTCOME_UNKNOWN
            assert not leader.engine.is_ready_leader
            assert leader.events[-1] == "lost"

    run(work)


def test_stopping_a_leader_hands_over() -> None:
    async def work() -> None:
        async with cluster() as three:
            await three.write(*values("v", 10))
            leader = await three.leader()
            began = asyncio.get_running_loop().time()
            await leader.engine.stop()
            successor = await three.leader()
            assert asyncio.get_running_loop().time() - began < 2
            assert successor is not leader
            await three.write(b"after")
            await three.agree()

    run(work)


def test_leadership_goes_where_it_is_sent() -> None:
    async def work() -> None:
        async with cluster() as three:
            await three.write(*values("v", 10))
            target = (await three.followers())[0]
            leader = await three.leader()
            assert await leader.engine.transfer_leadership(target.name)
            await until(lambda: target.engine.is_ready_leader)
            await three.write(b"after")
            await three.agree()

    run(work)


def test_a_wiped_replica_is_refused_and_never_votes() -> None:
    async def work() -> None:
        async with cluster() as three:
            await three.write(*values("v", 10))
            leader = await three.leader()
            wiped, other = await three.followers()
            await wiped.kill()
            wiped.disk.put({})
            await wiped.start()
            # Whichever of the two dialled knows why the connection ended.
            await until(
                lambda: (
                    "wiped or replaced"
                    in f"{problem_of(leader, wiped.name)} {problem_of(wiped, leader.name)}"
                )
            )
            await leader.kill()  # two are left, and one of them has forgotten everything
            asked = other.engine.status().counters["pre_votes_started"]
            await until(lambda: other.engine.status().counters["pre_votes_started"] >= asked + 5)
            assert not other.engine.is_ready_leader
            assert wiped.engine.status().term == 0
            assert not wiped.engine.status().formed
            await leader.start()
            await three.leader()
            await until(lambda: not set(three.acked) - set(other.values.applied))

    run(work)


def problem_of(member: Member, peer: str) -> str | None:
    return next(each.problem for each in member.engine.status().peers if each.name == peer)


@pytest.mark.parametrize("operation", ["sync", "pwrite"])
def test_a_leader_whose_disk_fails_stops_and_another_one_leads(operation: str) -> None:
    async def work() -> None:
        async with cluster() as three:
            await three.write(*values("v", 10))
            leader = await three.leader()
            leader.disk.fail_with(5, kind=operation)
            outcome = await leader.propose(b"lost")
            assert not isinstance(outcome, Committed)
            await until(lambda: leader.failures)
            assert "EIO" in str(leader.failures[0])
            assert await leader.propose(b"later") is NotCommitted.NOT_LEADER
            assert not await leader.barrier()
            with pytest.raises(FatalError):
                await leader.engine.snapshot()
            await three.write(b"after")
            assert (await three.leader()) is not leader
            await three.agree()

    run(work)


def test_a_replica_whose_disk_is_full_stops_and_the_others_go_on() -> None:
    async def work() -> None:
        async with cluster() as three:
            follower = (await three.followers())[0]
            follower.disk.fail_with(28, kind="pwrite")
            await three.write(*values("v", 10))
            await until(lambda: follower.failures)
            assert "ENOSPC" in str(follower.failures[0])
            assert follower.engine.status().role is not Role.LEADER
            await three.write(b"after")
            await three.agree()

    run(work)


def test_a_replica_that_cannot_record_its_members_stops() -> None:
    async def work() -> None:
        three = Cluster("abc")
        full = three["b"]
        await full.start()
        full.disk.fail_with(28, kind="rename")
        await three["a"].start()
        await three["c"].start()
        try:
            await until(lambda: full.failures)
            assert "ENOSPC" in str(full.failures[0])
            assert not full.engine.status().formed
        finally:
            for member in three.members.values():
                await member.engine.stop(hand_over=False)

    run(work)


def test_an_exception_in_apply_stops_the_replica() -> None:
    async def work() -> None:
        async with cluster() as three:
            await three.write(b"fine")
            leader = await three.leader()
            leader.values.poison = b"poison"
            assert await leader.propose(b"poison") is NotCommitted.OUTCOME_UNKNOWN
            await until(lambda: leader.failures)
            assert str(leader.failures[0]) == "poison"
            assert leader.values.applied == [b"fine", b"partial"]
            await three.leader()
            await three.write(b"after")
            await three.agree()

    run(work)


def test_an_entry_that_is_too_large_is_an_error_of_the_caller() -> None:
    async def work() -> None:
        async with cluster("a", entry_bytes_max=1000) as one:
            await one.leader()
            with pytest.raises(ValueError, match="over 1000"):
                one["a"].engine.propose(bytes(1001), lambda _: None)
            await one.write(bytes(1000))

    run(work)


def test_a_port_in_use_is_an_error_and_leaves_the_folder_free() -> None:
    async def work() -> None:
        async with cluster() as three:
            taken = three["a"]
            twin = Member("a", dict(taken._config.peers))
            with pytest.raises(OSError):
                await twin.start()
            assert not twin.disk.locks

    run(work)


def test_on_a_real_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("data")

    async def work() -> None:
        three = Cluster("abc", trailing_log_bytes=0)
        for name, member in three.members.items():
            member.disk = RealDisk()  # type: ignore[assignment]
            object.__setattr__(member._config, "data_dir", str(folder / name))
            await member.start()
        await three.write(*values("v", 300))
        await (await three.leader()).engine.snapshot()
        await three.write(*values("w", 10))
        for member in three.members.values():
            await member.engine.stop(hand_over=False)
        for member in three.members.values():
            await member.start()
        await three.agree()
        for member in three.members.values():
            await member.engine.stop(hand_over=False)
        assert Runtime().disk.exists(str(folder / "a" / "journal"))

    run(work)
