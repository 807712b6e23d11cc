"""Scenarios as data: JSON and back, and what a seed becomes."""

from __future__ import annotations

import itertools
from collections import Counter

import msgspec
import pytest
from little_scenarios import fault, scenario

from raftcoord.consensus import messages as m
from raftcoord.testing.simulation import generate as tables
from raftcoord.testing.simulation import workload
from raftcoord.testing.simulation.disk import MOMENTS
from raftcoord.testing.simulation.generate import generate
from raftcoord.testing.simulation.hosts import _server_config, replica_names
from raftcoord.testing.simulation.nemesis import ALL_MOMENTS, FAULTS, MESSAGE_MOMENTS
from raftcoord.testing.simulation.scenario import ClientPlan, Fault, Scenario, decode, encode
from raftcoord.testing.simulation.steps import STEPS

SEEDS = 400


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return [generate(seed) for seed in range(SEEDS)]


def test_json_and_back(scenarios: list[Scenario]) -> None:
    for one in (*scenarios[:50], scenario(fault("crash_at", moment="journal_sync", nth=2, power=True))):
        text = encode(one)
        assert decode(text) == decode(text.decode()) == one
        assert b"\n  " in text  # for reading


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nonsense",
        b"[1]",
        b"{}",
        b"\xff\xfe",
        "☃",
        b'{"seed": "x", "settings": {}, "clients": []}',
        b'{"seed": 1, "settings": {"replicas": "three"}, "clients": []}',
    ],
)
def test_nonsense_is_refused(text: bytes | str) -> None:
    with pytest.raises(ValueError):
        decode(text)


def test_a_seed_is_one_scenario(scenarios: list[Scenario]) -> None:
    assert scenarios[:100] == [generate(seed) for seed in range(100)]
    assert all(one.seed == seed for seed, one in enumerate(scenarios))
    bodies = {encode(one).partition(b",")[2] for one in scenarios}
    assert len(bodies) == SEEDS


def test_the_summary_counts(scenarios: list[Scenario]) -> None:
    assert scenario(fault("crash")).summary() == "seed 1: 3 replicas, 2 clients, 40 calls, 1 faults in 1.0 s"
    assert all("\n" not in one.summary() for one in scenarios)


def test_settings_are_in_range(scenarios: list[Scenario]) -> None:
    for one in scenarios:
        settings = one.settings
        assert settings.replicas in (1, 3, 5)
        assert len(settings.replica_rates) == settings.replicas
        assert all(0.5 <= rate <= 1.5 for rate in settings.replica_rates)
        assert settings.heartbeat_ms * 3 < settings.election_timeout_ms
        for name in replica_names(settings):
            _server_config(name, settings).engine_config()  # which refuse what makes no sense


def test_fair_clocks_are_fair(scenarios: list[Scenario]) -> None:
    fair = [one for one in scenarios if one.settings.fair_clocks]
    assert 0.5 * SEEDS < len(fair) < SEEDS
    for one in fair:
        assert max(one.settings.replica_rates) <= min(plan.rate for plan in one.clients)
        assert not any(f.kind == "jump_clock" and f.target.startswith("r") for f in one.faults)


def test_clients_are_in_range(scenarios: list[Scenario]) -> None:
    for one in scenarios:
        assert 1 <= len(one.clients) <= 5
        for plan in one.clients:
            assert plan.ttl_ms >= 500
            assert 1 <= len(plan.threads) <= 3
            for step in itertools.chain(*plan.threads):
                group = workload.STEP_WEIGHTS[step.kind][1]
                others = workload.NAMES["counter"] if step.kind == "get" else ()  # counters are read as well
                assert step.name in (*workload.NAMES[group], *others)
                assert step.think_ms >= 0
                assert step.count >= 1
                # What waits for others must end, or its caller must give up.
                waits = step.kind in workload._WAITS
                assert not waits or step.timeout_ms is not None or step.cancel_ms is not None


def _targets(one: Scenario, each: Fault) -> set[str]:
    replicas = {*replica_names(one.settings), "leader", "follower"}
    clients = {f"c{number}" for number in range(1, len(one.clients) + 1)}
    if each.kind in ("cut_client", "fade_client", "kill_client", "pause_client"):
        return clients
    if each.kind == "crash_many":
        return {"minority", "majority", "all"}
    return replicas | {"crash_at": {"anyone"}, "jump_clock": clients}.get(each.kind, set())


def test_faults_are_in_range(scenarios: list[Scenario]) -> None:
    for one in scenarios:
        assert [each.at_ms for each in one.faults] == sorted(each.at_ms for each in one.faults)
        for each in one.faults:
            assert 0 < each.at_ms < one.heal_ms
            assert each.last_ms >= 0
            assert each.target in _targets(one, each)
            assert each.options.get("moment", ALL_MOMENTS[0]) in ALL_MOMENTS
            assert each.kind != "fail_disk" or each.options["moment"] in MOMENTS


def test_every_kind_of_step_and_fault_comes_up(scenarios: list[Scenario]) -> None:
    faults = [each for one in scenarios for each in one.faults]
    calls = Counter(
        step.kind for one in scenarios for plan in one.clients for step in itertools.chain(*plan.threads)
    )
    assert set(calls) == set(STEPS)
    assert {each.kind for each in faults} == set(FAULTS)
    assert {each.options["moment"] for each in faults if each.kind == "crash_at"} == set(ALL_MOMENTS)
    assert {each.options["moment"] for each in faults if each.kind == "fail_disk"} == set(MOMENTS)
    assert {each.options["shape"] for each in faults if each.kind == "partition"} == set(tables._SHAPES)
    assert any(not one.faults for one in scenarios)


def test_some_seeds_leave_much_out(scenarios: list[Scenario]) -> None:
    kinds = [len({each.kind for each in one.faults}) for one in scenarios if len(one.faults) >= 25]
    assert min(kinds) <= 5 < 10 <= max(kinds)


def test_each_seed_has_some_kinds_of_objects_and_the_oldest_make_half_of_the_calls(
    scenarios: list[Scenario],
) -> None:
    calls = Counter(
        step.kind for one in scenarios for plan in one.clients for step in itertools.chain(*plan.threads)
    )
    in_a_theme = frozenset[str]().union(*workload.THEMES)
    assert 0.4 < sum(calls[kind] for kind in in_a_theme) / calls.total() < 0.6
    for theme in workload.THEMES:
        having = sum(
            any(step.kind in theme for plan in one.clients for step in itertools.chain(*plan.threads))
            for one in scenarios
        )
        assert SEEDS / 10 < having < SEEDS / 2


def _waits_for_deletions(plan: ClientPlan) -> bool:
    kinds = {step.kind for step in itertools.chain(*plan.threads)}
    return kinds == {"set", "delete", "get", "watch"}


def test_some_seeds_have_a_client_more_that_waits_for_what_it_deletes(
    monkeypatch: pytest.MonkeyPatch, scenarios: list[Scenario]
) -> None:
    having = [one for one in scenarios if _waits_for_deletions(one.clients[-1])]
    assert SEEDS / 30 < len(having) < SEEDS / 8
    monkeypatch.setattr(tables, "WATCHER_SHARE", 0)
    for one in having:
        alone = generate(one.seed)
        assert alone == msgspec.structs.replace(one, clients=one.clients[:-1])


def test_some_seeds_have_faults_more_that_tear_writes(
    monkeypatch: pytest.MonkeyPatch, scenarios: list[Scenario]
) -> None:
    monkeypatch.setattr(tables, "TORN_WRITES_SHARE", 0)
    having = 0
    for one in scenarios:
        fewer = generate(one.seed)
        more = Counter(map(repr, one.faults)) - Counter(map(repr, fewer.faults))
        assert fewer == msgspec.structs.replace(one, faults=fewer.faults)
        assert all("'power': True" in each and "'moment': 'journal_" in each for each in more)
        having += bool(more)
    assert SEEDS / 20 < having < SEEDS / 5


def test_the_tables_know_the_same_kinds() -> None:
    assert set(workload.STEP_WEIGHTS) == set(STEPS)
    assert {group for _, group in workload.STEP_WEIGHTS.values()} == set(workload.NAMES)
    assert set(STEPS) >= workload._CANCELLED | workload._WAITS
    assert {"rlock"} == workload._WAITS - workload._CANCELLED
    assert frozenset[str]().union(*workload.THEMES) < set(STEPS)
    assert {kind for kinds in workload._BUSY for kind in itertools.chain(*kinds)} <= set(STEPS)
    assert set(tables.FAULT_WEIGHTS) == set(FAULTS)
    assert set(FAULTS) >= set(tables._MAKERS) | tables._NEEDS_PEERS
    assert len(tables._MOMENT_WEIGHTS) == len(ALL_MOMENTS) == len(set(ALL_MOMENTS))
    assert set(ALL_MOMENTS) >= tables._RARE_MOMENTS | tables._COMMON_MOMENTS
    assert not tables._RARE_MOMENTS & tables._COMMON_MOMENTS


def test_the_moments_of_messages_are_messages() -> None:
    kinds = {moment.removeprefix("send:") for moment in MESSAGE_MOMENTS}
    assert kinds == set(m._SCHEMAS) - {m.PING, m.STALE}
