"""How a seed becomes a scenario.

Each seed leaves many kinds of calls and faults out ("swarm testing", Groce et al., ISSTA 2012): a run in
which everything happens a little rarely gets as deep into one corner as a run in which little else happens.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from raftcoord.testing.simulation.nemesis import ALL_MOMENTS
from raftcoord.testing.simulation.scenario import Fault, Scenario, Settings
from raftcoord.testing.simulation.scheduler import stream
from raftcoord.testing.simulation.workload import busy_readers, mixed_clients, watching_client

DEPOSED_SHARE: Final = 0.25  # of all seeds with several replicas
SLOW_ELECTIONS_SHARE: Final = 0.1
LAGGARDS_SHARE: Final = 0.15
WATCHER_SHARE: Final = 0.08
TORN_WRITES_SHARE: Final = 0.1
CLIENTS_MAX: Final = 5
TUNING: Final[dict[str, tuple[int, ...]]] = {
    "batches_in_flight": (2, 5, 5),
    "batch_commands": (1, 3),
    "append_bytes": (1, 300, 3000),
    "append_window": (1, 2),
    "journal_batch_bytes": (1, 100, 500),
    "snapshot_slice_bytes": (1, 100, 1000),
    "snapshot_write_bytes": (100, 1000),
    "snapshot_yield_bytes": (1, 300),
    "snapshot_chunks_in_flight": (1, 2),
    "client_requests_in_flight": (1, 2),
    "client_confirmations_listed": (1, 3),
}


def generate(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    rng = stream(seed, "scenario")
    settings = _settings(rng)
    heal_ms = rng.randrange(2500, 7000)
    profile = rng.random() if settings.replicas > 1 else 1.0
    if profile < DEPOSED_SHARE:
        clients = busy_readers(rng, heal_ms)
        faults = _depositions(rng, settings, heal_ms)
        if rng.random() < 0.4:  # some are slow to see that they are deposed
            rates = tuple(round(rng.uniform(0.5, 1.5), 3) for _ in range(settings.replicas))
            settings = msgspec.structs.replace(settings, replica_rates=rates, fair_clocks=False)
        if rng.random() < 0.7:  # a leader that hears of nothing writes a long tail that is replaced later
            tuning = settings.tuning | {"batches_in_flight": 8, "batch_commands": 1}
            settings = msgspec.structs.replace(settings, tuning=tuning)
    elif profile < DEPOSED_SHARE + SLOW_ELECTIONS_SHARE:
        settings = msgspec.structs.replace(
            settings,
            replicas=5,
            replica_rates=(settings.replica_rates * 2)[:5],
            latency_ms=rng.choice((8.0, 25.0, 40.0)),
            election_timeout_ms=max(settings.election_timeout_ms, 300),
        )
        clients = mixed_clients(rng, heal_ms, settings)
        faults = _slow_elections(rng, settings, heal_ms)
    elif profile < DEPOSED_SHARE + SLOW_ELECTIONS_SHARE + LAGGARDS_SHARE:
        settings = msgspec.structs.replace(
            settings,
            snapshot_log_entries=rng.choice((3, 8)),
            trailing_log_bytes=0,
            snapshot_chunk_bytes=rng.choice((50, 300)),
            tuning=settings.tuning | {"batches_in_flight": rng.choice((1, 8)), "batch_commands": 1},
        )
        clients = mixed_clients(rng, heal_ms, settings)
        faults = _laggards(rng, settings, heal_ms)
    else:
        clients = mixed_clients(rng, heal_ms, settings)
        faults = _faults(rng, settings, len(clients), heal_ms)
    if any(fault.kind == "jump_clock" and not fault.target.startswith("c") for fault in faults):
        settings = msgspec.structs.replace(settings, fair_clocks=False)
    # These have randomness of their own, so that what else becomes of a seed does not depend on them.
    watcher, torn = stream(seed, "watcher"), stream(seed, "torn writes")
    if watcher.random() < WATCHER_SHARE and len(clients) < CLIENTS_MAX:
        clients = (*clients, watching_client(watcher, heal_ms))
    if torn.random() < TORN_WRITES_SHARE:
        faults = tuple(sorted((*faults, *_torn_writes(torn, heal_ms)), key=lambda fault: fault.at_ms))
    return Scenario(seed=seed, settings=settings, clients=clients, faults=faults, heal_ms=heal_ms)


def _settings(rng: random.Random) -> Settings:
    replicas = rng.choice((1, 3, 3, 3, 3, 3, 5, 5))
    election_timeout_ms = rng.choice((100, 150, 200, 300, 400, 600, 600))
    compacts = rng.random() < 0.75
    fair = rng.random() < 0.8
    low, high = (0.9, 1.0) if fair else (0.7, 1.3)
    return Settings(
        replicas=replicas,
        election_timeout_ms=election_timeout_ms,
        heartbeat_ms=max(election_timeout_ms // rng.choice((4, 5, 6)), 10),
        segment_bytes=rng.choice((8192, 8192, 12_288, 16_384, 65_536)),
        snapshot_log_entries=rng.choice((3, 8, 20, 60, 200)) if compacts else 1_000_000,
        snapshot_log_bytes=rng.choice((500, 4000, 1 << 20)) if compacts else 1 << 40,
        trailing_log_bytes=rng.choice((0, 0, 200, 2000, 20_000)),
        snapshot_chunk_bytes=rng.choice((50, 300, 2000, 100_000)),
        latency_ms=rng.choice((0.05, 0.2, 0.2, 1.0, 3.0, 8.0)),
        bytes_per_s=rng.choice((50_000, 1_000_000, 50_000_000, 50_000_000)),
        sync_ms=rng.choice((0.05, 0.3, 0.3, 1.0, 5.0)),
        replica_rates=tuple(round(rng.uniform(low, high), 3) for _ in range(replicas)),
        fair_clocks=fair,
        tuning={name: rng.choice(values) for name, values in TUNING.items() if rng.random() < 0.3},
    )


def _depositions(rng: random.Random, settings: Settings, heal_ms: int) -> tuple[Fault, ...]:
    """Leaders that are replaced again and again without knowing it, and keep some of their clients.

    A stale answer needs all of it at once: a leader that still believes, a client that still asks it, and
    another one that has found the next leader and changed something there.
    """
    faults: list[Fault] = []
    at_ms = rng.randrange(200, 600)
    while at_ms < heal_ms:
        kind = rng.choice(("partition", "partition", "partition", "partition", "pause", "lure"))
        last_ms = round(rng.choice((1.1, 1.3, 1.6, 2.5, 4)) * settings.election_timeout_ms)
        options: dict[str, Any] = {"shape": rng.choice(("isolate", "deaf", "mute")), "clients": "some"}
        options |= {"reset": rng.random() < 0.5}
        if kind == "pause":
            last_ms, options = rng.choice((600, 1200, 2000)), {"clients": "some"}
        if kind == "lure":
            last_ms, options = rng.choice((1000, 1500, 2500)), _lure(rng, settings, 0)[1]
        faults.append(Fault(at_ms=at_ms, kind=kind, target="leader", last_ms=last_ms, options=options))
        at_ms += last_ms + rng.randrange(100, 800)
    return tuple(faults)


def _slow_elections(rng: random.Random, settings: Settings, heal_ms: int) -> tuple[Fault, ...]:
    """Elections in which votes collide, and some take about as long as candidates wait for them."""
    faults: list[Fault] = []
    at_ms = rng.randrange(200, 600)
    while at_ms < heal_ms:
        last_ms = round(rng.choice((2, 4, 6)) * settings.election_timeout_ms)
        factor = rng.choice((2, 4, 8))
        slow = rng.sample(range(1, settings.replicas + 1), rng.choice((1, 1, 2)))
        faults += [
            Fault(
                at_ms=at_ms,
                kind="slow_links",
                target=f"r{number}",
                last_ms=last_ms,
                options={"factor": factor},
            )
            for number in slow
        ]
        for _ in range(rng.choice((1, 2, 4))):
            at_ms += rng.randrange(1, last_ms // 2)
            voter_dies = Fault(
                at_ms=at_ms,
                kind="crash_at",
                target="anyone",
                last_ms=rng.choice((10, 50)),
                options={"moment": f"send:{rng.choice(('pre_vote_reply', 'request_vote', 'response_vote'))}"},
            )
            options: dict[str, Any] = {"shape": "isolate", "reset": True, "clients": "all"}
            kind = rng.choice(("partition", "crash", "reset", "transfer"))
            leader_goes = Fault(
                at_ms=at_ms,
                kind=kind,
                target="leader",
                last_ms=rng.choice((30, settings.election_timeout_ms)),
                options=options if kind == "partition" else {},
            )
            faults += [voter_dies, leader_goes]
        at_ms += last_ms + rng.randrange(50, 400)
    return tuple(fault for fault in faults if fault.at_ms < heal_ms)


def _laggards(rng: random.Random, settings: Settings, heal_ms: int) -> tuple[Fault, ...]:
    """Replicas that fall behind what the others still have in their logs, and die while they catch up."""
    faults: list[Fault] = []
    at_ms = rng.randrange(200, 600)
    while at_ms < heal_ms:
        last_ms = round(rng.choice((0.8, 1.5, 3)) * settings.election_timeout_ms)
        options: dict[str, Any] = {"shape": rng.choice(("isolate", "isolate", "deaf"))}
        options |= {"reset": rng.random() < 0.5, "clients": "some"}
        target = rng.choice(("follower", "leader"))
        faults.append(Fault(at_ms=at_ms, kind="partition", target=target, last_ms=last_ms, options=options))
        faults += [
            Fault(
                at_ms=at_ms + last_ms + rng.randrange(10, 600),
                kind="stall",
                target="follower",
                last_ms=rng.choice((10, 40, 150)),
                options={"reset": True},
            )
            for _ in range(rng.choice((0, 2, 6)))
        ]
        if rng.random() < 0.7:
            options = {"moment": rng.choice(_INSTALL_MOMENTS), "power": rng.random() < 0.7, "nth": 1}
            options |= {"after": rng.random() < 0.6}
            faults.append(
                Fault(
                    at_ms=at_ms + 1, kind="crash_at", target="anyone", last_ms=last_ms // 2, options=options
                )
            )
        at_ms += last_ms + rng.randrange(100, 600)
    in_time = (fault for fault in faults if fault.at_ms < heal_ms)
    return tuple(sorted(in_time, key=lambda fault: fault.at_ms))


def _torn_writes(rng: random.Random, heal_ms: int) -> tuple[Fault, ...]:
    """Hosts that lose their power again and again between a write to the journal and its sync."""
    return tuple(
        Fault(
            at_ms=rng.randrange(50, heal_ms),
            kind="crash_at",
            target="anyone",
            last_ms=rng.choice((10, 100, 400)),
            options={
                "moment": rng.choice(("journal_write", "journal_sync")),
                "nth": rng.choice((1, 2, 5)),
                "power": True,
                "after": False,
                "twice": rng.random() < 0.3,
            },
        )
        for _ in range(rng.choice((3, 5, 8)))
    )


# Faults.


def _faults(rng: random.Random, settings: Settings, clients: int, heal_ms: int) -> tuple[Fault, ...]:
    kinds = [kind for kind in FAULT_WEIGHTS if rng.random() < 0.5]
    if settings.replicas == 1:
        kinds = [kind for kind in kinds if kind not in _NEEDS_PEERS]
    if not kinds or rng.random() < 0.04:
        return ()
    weights = [FAULT_WEIGHTS[kind] for kind in kinds]
    faults = []
    for _ in range(rng.choice((3, 8, 15, 25, 40))):
        kind = rng.choices(kinds, weights)[0]
        target, options = _MAKERS.get(kind, _plain)(rng, settings, clients)
        faults.append(
            Fault(
                at_ms=rng.randrange(50, heal_ms),
                kind=kind,
                target=target,
                last_ms=_last_ms(rng, kind, settings),
                options=options,
            )
        )
    return tuple(sorted(faults, key=lambda fault: fault.at_ms))


FAULT_WEIGHTS: Final[dict[str, int]] = {
    "crash": 5,
    "crash_many": 3,
    "crash_at": 8,
    "stop": 2,
    "pause": 3,
    "partition": 9,
    "lure": 2,
    "stall": 2,
    "slow_links": 1,
    "reset": 3,
    "slow_disk": 2,
    "fail_disk": 2,
    "fill_disk": 1,
    "rot": 2,
    "jump_clock": 1,
    "transfer": 2,
    "snapshot": 2,
    "cut_client": 2,
    "fade_client": 2,
    "kill_client": 3,
    "pause_client": 2,
}
_INSTALL_MOMENTS: Final = (
    "install_write",
    "install_sync",
    "install_rename",
    "snapshot_name_sync",
    "segment_remove",
)
_RARE_MOMENTS: Final = frozenset(
    {"identity_rename", "segment_rename", "send:pre_vote", "send:pre_vote_reply"}
)
_COMMON_MOMENTS: Final = frozenset(
    {"journal_write", "journal_sync", "send:append_entries", "send:next_node_idx"}
    | {"send:request_vote", "send:response_vote"}
)
_MOMENT_WEIGHTS: Final = [
    1 if moment in _RARE_MOMENTS else 6 if moment in _COMMON_MOMENTS else 3 for moment in ALL_MOMENTS
]
_NEEDS_PEERS: Final = frozenset({"partition", "lure", "stall", "transfer"})
_SHAPES: Final = ("isolate", "isolate", "halves", "bridge", "ring", "deaf", "mute")
_TARGETS: Final = ("leader", "leader", "follower", "any")

Maker = Callable[[random.Random, Settings, int], tuple[str, dict[str, Any]]]


def _last_ms(rng: random.Random, kind: str, settings: Settings) -> int:
    """Choose a duration; what it does depends on whether an election fits into it."""
    if kind == "jump_clock":
        return rng.choice((50, 500, 2000))
    if kind in ("cut_client", "fade_client"):
        return rng.choice((100, 700, 2000, 4000))  # a session may end in it
    return round(rng.choice((0.2, 0.8, 1.5, 2.5, 4, 8)) * settings.election_timeout_ms)


def _target(rng: random.Random, settings: Settings) -> str:
    target = rng.choice(_TARGETS)
    return f"r{rng.randint(1, settings.replicas)}" if target == "any" else target


def _plain(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return _target(rng, settings), {}


def _crash(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return _target(rng, settings), {"power": rng.random() < 0.5}


def _crash_many(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return rng.choice(("minority", "majority", "all", "all")), {"power": rng.random() < 0.6}


def _crash_at(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    moment = rng.choices(ALL_MOMENTS, _MOMENT_WEIGHTS)[0]
    nth = rng.choice((1, 1, 2, 5))
    target = rng.choice(("anyone", "anyone", "anyone", _target(rng, settings)))
    options = {"moment": moment, "nth": nth, "power": rng.random() < 0.5}
    twice = moment in ("journal_write", "journal_sync") and rng.random() < 0.5
    return target, options | {"after": rng.random() < 0.35, "twice": twice}


def _partition(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    options = {
        "shape": rng.choice(_SHAPES),
        "reset": rng.random() < 0.4,
        "clients": rng.choice(("none", "some", "some", "all")),
    }
    return _target(rng, settings), options


def _lure(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return "leader", {"cut_ms": rng.choice((700, 2500, 4000)), "after_ms": rng.choice((1, 5, 20))}


def _slow_links(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return _target(rng, settings), {"factor": rng.choice((5, 30, 200))}


def _slow_disk(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return _target(rng, settings), {"factor": rng.choice((10, 100, 1000))}


def _fail_disk(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    moments = [moment for moment in ALL_MOMENTS if not moment.startswith("send:")]
    options: dict[str, Any] = {
        "moment": rng.choice([*moments, "journal_sync", "journal_sync", "journal_sync"]),
        "nth": rng.choice((1, 2, 6)),
        "errno": rng.choice((errno.EIO, errno.ENOSPC, errno.EROFS)),
    }
    if rng.random() < 0.6:
        options["then_power_ms"] = rng.choice((0, 1, 3, 10))
    return _target(rng, settings), options


def _fill_disk(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return _target(rng, settings), {"left_bytes": rng.choice((0, 100, 5000, 20_000))}


def _rot(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return _target(rng, settings), {"what": rng.choice(("journal", "snapshot"))}


def _client(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return f"c{rng.randint(1, clients)}", {}


def _fading_client(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    return f"c{rng.randint(1, clients)}", {"factor": rng.choice((20, 100, 500))}


def _any_clock(rng: random.Random, settings: Settings, clients: int) -> tuple[str, dict[str, Any]]:
    if rng.random() < 0.7:
        return _client(rng, settings, clients)
    return f"r{rng.randint(1, settings.replicas)}", {}


_MAKERS: Final[dict[str, Maker]] = {
    "crash": _crash,
    "crash_many": _crash_many,
    "crash_at": _crash_at,
    "partition": _partition,
    "lure": _lure,
    "slow_links": _slow_links,
    "slow_disk": _slow_disk,
    "fail_disk": _fail_disk,
    "fill_disk": _fill_disk,
    "rot": _rot,
    "jump_clock": _any_clock,
    "cut_client": _client,
    "fade_client": _fading_client,
    "kill_client": _client,
    "pause_client": _client,
}
