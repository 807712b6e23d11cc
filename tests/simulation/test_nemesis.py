"""The nemesis: whom faults hit, and that nothing is wrong any more when all is healed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from little_scenarios import a_world, fault, scenario

from raftcoord.testing.simulation.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """Five replicas that have had time to elect a leader, and two clients at work."""
    with a_world(scenario(replicas=5, rounds=9, election_timeout_ms=200, heartbeat_ms=60)) as made:
        _begin(made)
        yield made


@pytest.fixture
def idle() -> Iterator[World]:
    """Five hosts and two clients of which nothing runs, for faults of links."""
    with a_world(scenario(replicas=5)) as made:
        yield made


def _begin(world: World) -> None:
    for host in world.replicas.values():
        host.start()
    for client in world.clients.values():
        client.start()
    world.scheduler.run(0.7)


def _leader(world: World) -> str:
    (name,) = [host.name for host in world.replicas.values() if host.view is not None and host.view.is_leader]
    return name


def _pass(world: World, for_s: float) -> None:
    world.scheduler.run(world.scheduler.now + for_s)


def test_targets(world: World) -> None:
    leader = _leader(world)
    world.nemesis.begin(fault("crash", "leader"))
    assert not world.replicas[leader].is_up
    world.nemesis.begin(fault("crash", "r5" if leader != "r5" else "r4"))
    world.nemesis.begin(fault("crash", "follower"))
    assert sum(host.is_up for host in world.replicas.values()) in (2, 3)


@pytest.mark.parametrize(("target", "up"), [("minority", 3), ("majority", 2), ("all", 0)])
def test_crashes_of_many(world: World, target: str, up: int) -> None:
    world.nemesis.begin(fault("crash_many", target, last_ms=1000))
    assert sum(host.is_up for host in world.replicas.values()) == up
    _pass(world, 2)
    assert all(host.is_serving for host in world.replicas.values())


@pytest.mark.parametrize("power", [False, True])
def test_a_crash_at_a_moment_hits_one(world: World, power: bool) -> None:
    world.nemesis.begin(fault("crash_at", "anyone", moment="send:append_entries", power=power, last_ms=5000))
    leader = _leader(world)
    _pass(world, 1)
    assert world.nemesis.happened == {"crash_at": 1, "crash_at send:append_entries": 1}
    assert [host.name for host in world.replicas.values() if not host.is_up] == [leader]
    assert (leader in world.network.down_hosts) == power


def test_a_crash_at_a_moment_may_come_twice(world: World) -> None:
    leader = world.replicas[_leader(world)]
    world.nemesis.begin(fault("crash_at", leader.name, moment="journal_sync", twice=True, last_ms=50))
    _pass(world, 1)
    assert leader.incarnation == 3


def test_the_nth_message(world: World) -> None:
    name = "r1" if _leader(world) != "r1" else "r2"
    world.nemesis.begin(fault("crash_at", name, moment="send:next_node_idx", nth=5, last_ms=5000))
    sent = 0

    def count(_time_s: float, who: str, what: object) -> None:
        nonlocal sent
        sent += (
            who.startswith(f"{name} >") and isinstance(what, dict) and what["body"]["type"] == "next_node_idx"
        )

    world._tell = count
    _pass(world, 2)
    assert sent == 5
    assert not world.replicas[name].is_up


@pytest.mark.parametrize(
    ("shape", "blocked"),
    [("isolate", 8), ("halves", 12), ("bridge", 8), ("ring", 10), ("deaf", 4), ("mute", 4)],
)
def test_shapes_of_partitions(idle: World, shape: str, blocked: int) -> None:
    idle.nemesis.begin(fault("partition", "r3", shape=shape, last_ms=300))
    cut = idle.network.rules.blocked()
    assert len(cut) == blocked
    both_ways = all((target, source) in cut for source, target in cut)
    assert both_ways == (shape not in ("deaf", "mute"))
    if shape in ("isolate", "deaf", "mute"):
        assert all("r3" in direction for direction in cut)
    if shape == "bridge":
        assert not any("r3" in direction for direction in cut)
    if shape == "ring":
        assert ("r1", "r2") not in cut
        assert ("r5", "r1") not in cut
        assert ("r1", "r3") in cut
    _pass(idle, 0.4)
    assert idle.network.rules.blocked() == []


def test_clients_can_be_cut_off_with_a_replica(idle: World) -> None:
    idle.nemesis.begin(fault("partition", "r3", shape="isolate", clients="all"))
    assert {("c1", "r3"), ("r3", "c2")} <= set(idle.network.rules.blocked())
    assert ("c1", "r2") not in idle.network.rules.blocked()


def test_some_clients_may_be_cut_off(idle: World) -> None:
    sides: set[int] = set()
    for _ in range(20):
        idle.nemesis.begin(fault("partition", "r3", shape="mute", clients="some", last_ms=50))
        sides.add(sum((client, "r3") in idle.network.rules.blocked() for client in idle.clients))
        _pass(idle, 0.1)
    assert sides == {0, 1, 2}


def test_blocks_of_overlapping_faults_add_up(idle: World) -> None:
    idle.nemesis.begin(fault("partition", "r3", shape="isolate", last_ms=500))
    idle.nemesis.begin(fault("partition", "r3", shape="isolate", last_ms=200))
    _pass(idle, 0.3)
    assert len(idle.network.rules.blocked()) == 8
    _pass(idle, 0.3)
    assert idle.network.rules.blocked() == []


def test_a_replica_that_lures_clients_has_them_alone_and_then_loses_them(idle: World) -> None:
    idle.nemesis.begin(fault("lure", "r3", last_ms=500, cut_ms=400, after_ms=100))
    seen = []
    for _ in range(4):
        blocked = idle.network.rules.blocked()
        seen.append([("c1", name) in blocked and (name, "c1") in blocked for name in ("r1", "r3")])
        _pass(idle, 0.35)
    assert seen == [[True, False], [True, False], [True, True], [False, False]]


def test_a_stalled_link_may_end_with_a_reset(world: World) -> None:
    leader = _leader(world)
    links = world.replicas[leader].server._engine._parts.transport._links  # type: ignore[union-attr]
    before = dict(links)
    world.nemesis.begin(fault("stall", leader, last_ms=100, reset=True))
    _pass(world, 0.5)
    assert sum(links[peer] is not before[peer] for peer in before) == 1


def test_a_client_fades_and_then_is_cut_off(idle: World) -> None:
    idle.nemesis.begin(fault("fade_client", "c1", factor=50, last_ms=400))
    assert set(idle.network.rules._slow) == {(name, "c1") for name in idle.replicas}
    assert idle.network.rules.blocked() == []
    _pass(idle, 0.3)
    assert len(idle.network.rules.blocked()) == 10
    _pass(idle, 0.4)
    assert (idle.network.rules.blocked(), idle.network.rules._slow) == ([], {})


def test_a_failing_disk_may_take_its_host_down(world: World) -> None:
    world.nemesis.begin(fault("fail_disk", "leader", moment="journal_sync", then_power_ms=1, last_ms=900))
    _pass(world, 0.3)
    (down,) = [host for host in world.replicas.values() if not host.is_up]
    assert world.network.down_hosts.keys() == {down.name}


def test_a_client_is_killed_and_started_again(world: World) -> None:
    processes = [world.clients["c1"].process]
    world.nemesis.begin(fault("kill_client", "c1"))
    processes.append(world.clients["c1"].process)
    _pass(world, 1)
    processes.append(world.clients["c1"].process)
    assert [process is None for process in processes] == [False, True, False]
    assert world.clients["c1"].incarnation == 2


def test_nothing_is_wrong_any_more_when_all_is_healed(world: World) -> None:
    for each in (
        fault("partition", "r1", shape="halves"),
        fault("cut_client", "c1"),
        fault("slow_links", "r2", factor=30),
        fault("slow_disk", "r2", factor=1000),
        fault("fill_disk", "r3"),
        fault("pause", "r4"),
        fault("pause_client", "c2"),
        fault("crash_at", "r5", moment="journal_write", nth=1000),
        fault("crash_at", "r5", moment="send:append_entries", nth=1000),
        fault("lure", "r1", last_ms=2000, cut_ms=2000),
        fault("fade_client", "c1", last_ms=2000),
        fault("crash_many", "minority", power=True),
    ):
        world.nemesis.begin(each)
    rules = world.network.rules
    assert rules.blocked()
    assert rules._slow
    world.nemesis.heal()
    assert (rules.blocked(), rules._slow) == ([], {})
    _pass(world, 10)
    assert (rules.blocked(), rules._slow) == ([], {}), "a part of a fault that was to come did come"
    assert world.network.down_hosts == {}
    for host in world.replicas.values():
        assert host.is_serving
        assert host.excuse is None
        assert host.process is not None
        assert not host.process.is_paused
        assert (host.disk.slow_factor, host.disk.store.capacity_bytes, host.disk._armed) == (1, None, [])
