"""What 200,000 variables cost: the time to restart a replica that holds them, and the memory of each.

Invariants:
  1. The restarted replica reads all of its log: snapshots are off while the log is written. The pages are in
     the cache of the operating system, as they are when a process was killed and the machine was not.
  2. Serving means: the replica knows a leader and has applied all that was committed when it was started.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.clusters import RaftcoordCluster, fill, raftcoord_cluster
from benchmarks.figures import Figure
from benchmarks.host import resident_bytes
from raftcoord.testing.observer import ObserveError, ask

VARIABLES: Final = 200_000
LOG_BYTES: Final = 200_000_000
RESTARTS: Final = 5
WARM_UP: Final = 2_000
TIMEOUT_S: Final = 120.0
SNAPSHOTS_OFF: Final = {"snapshot_log_bytes": 2**40, "snapshot_log_entries": 2**40}


def _poll(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{failure} within {TIMEOUT_S:.0f} s")
        time.sleep(0.01)


def _status(cluster: RaftcoordCluster, index: int) -> dict[str, Any]:
    """Return a replica's status; an empty map while it does not answer."""
    try:
        return cluster.local.status(index)
    except ObserveError:
        return {}


def _check_holds_all(cluster: RaftcoordCluster, index: int) -> None:
    found = _status(cluster, index).get("objects", {}).get("variables", 0)
    if found < VARIABLES:
        raise AssertionError(f"replica {index} holds {found} variables instead of {VARIABLES}")


def _restart_s(cluster: RaftcoordCluster, index: int) -> float:
    """Kill a follower, start it again, and return the seconds from its start until it serves."""
    committed = cluster.local.status(cluster.local.leader())["commit_index"]
    cluster.local.kill(index)
    started = time.perf_counter()
    cluster.local.restart(index, wait=False)

    def serves() -> bool:
        status = _status(cluster, index)
        return bool(status) and status["leader"] is not None and status["applied_index"] >= committed

    _poll(serves, f"replica {index} did not serve")
    seconds = time.perf_counter() - started
    _check_holds_all(cluster, index)
    return seconds


def _measure_restart(folder: Path, say: Callable[[str], None]) -> list[Figure]:
    value = b"x" * (LOG_BYTES // VARIABLES)
    with raftcoord_cluster(folder, **SNAPSHOTS_OFF) as cluster:
        fill(cluster.address, VARIABLES, lambda number: f"variable-{number}", lambda _: value)
        follower = (cluster.local.leader() + 1) % cluster.local.replicas
        log_bytes = cluster.local.status(follower)["log_bytes"]
        seconds = tuple(_restart_s(cluster, follower) for _ in range(RESTARTS))
    say(f"restart: {log_bytes / 1e6:.0f} MB of log, " + " ".join(f"{value:.2f}" for value in seconds) + " s")
    name = f"restart of a replica with {VARIABLES:,} variables and {log_bytes / 1e6:.0f} MB of log"
    return [Figure(name=name, unit="s", section="restart", values=seconds)]


def _measure_memory(folder: Path, say: Callable[[str], None]) -> list[Figure]:
    with raftcoord_cluster(folder) as cluster:
        fill(cluster.address, WARM_UP, lambda _: "warm-up", lambda number: number)
        leader = cluster.local.leader()
        order = [(leader + step) % cluster.local.replicas for step in range(cluster.local.replicas)]
        before = [resident_bytes(cluster.pid(index)) for index in order]
        fill(cluster.address, VARIABLES, lambda number: f"variable-{number}", lambda number: number)
        committed = cluster.local.status(leader)["commit_index"]
        _poll(
            lambda: all(_status(cluster, index).get("applied_index", 0) >= committed for index in order),
            "the followers did not catch up",
        )
        for index in order:
            _check_holds_all(cluster, index)
        after = [resident_bytes(cluster.pid(index)) for index in order]
        for index in order:
            ask(cluster.local.addresses[index], "snapshot", timeout_s=TIMEOUT_S)
        compacted = [resident_bytes(cluster.pid(index)) for index in order]
    figures = []
    for moment, now in (("with its log entries", after), ("after a snapshot", compacted)):
        grown = [(end - start) / VARIABLES for start, end in zip(before, now, strict=True)]
        say(f"memory {moment}: " + " ".join(f"{value:.0f}" for value in grown) + " B (leader first)")
        for role, values in (("leader", grown[:1]), ("follower", grown[1:])):
            name = f"memory for each small variable, {role}, {moment}"
            figures.append(Figure(name=name, unit="B", section="memory", values=tuple(values)))
    return figures


SECTIONS: Final = {"restart": _measure_restart, "memory": _measure_memory}


def measure(sections: set[str], *, folder: Path, say: Callable[[str], None]) -> list[Figure]:
    """Return the figures of `restart` and `memory`, whichever are among `sections`."""
    return [figure for name, run in SECTIONS.items() if name in sections for figure in run(folder, say)]
