"""Throughput and latency of raftcoord and etcd, in rounds that alternate between the two.

Invariants:
  1. Only the cluster that is being measured runs: an idle one still sends heartbeats, and on few cores
     that would be a handicap for the other.
  2. Each turn starts a new cluster with empty data on the same disk, and does the same steps.
  3. Every system gets the number of generator processes and the event loop with which it is fastest, found
     before the first round.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from benchmarks.clusters import raftcoord_cluster
from benchmarks.etcd_cluster import EtcdCluster
from benchmarks.figures import Figure, Load
from benchmarks.generator import Generator, Job
from benchmarks.host import busy_s, cpu_s

OTHERS_CPU_MAX: Final = 0.2  # cores; the disk work of the kernel alone takes about a tenth
CALIBRATION_S: Final = 1.5
CALIBRATION_WARMUP_S: Final = 0.5
CALIBRATION_PASSES: Final = 2  # in turns, so that a hiccup of the machine does not decide


class RunningCluster(Protocol):
    """What a turn needs to know of either cluster."""

    @property
    def address(self) -> str: ...

    @property
    def pids(self) -> list[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of load, and what is read off it."""

    section: str
    measure: str
    connections: int
    figures: tuple[tuple[str, str, Callable[[Load], float]], ...]  # name, unit, number


CASES: Final = (
    Case(
        section="sets",
        measure="set",
        connections=100,
        figures=(
            ("sets of 256 B, 100 connections", "/s", lambda load: load.per_second),
            ("sets of 256 B, 100 connections, p99", "ms", lambda load: load.p99_ms),
        ),
    ),
    Case(
        section="latency",
        measure="set",
        connections=1,
        figures=(
            ("set of 256 B, 1 connection, median", "ms", lambda load: load.median_ms),
            ("set of 256 B, 1 connection, p99", "ms", lambda load: load.p99_ms),
        ),
    ),
    Case(
        section="reads",
        measure="get",
        connections=100,
        figures=(("linearizable gets, 100 connections", "/s", lambda load: load.per_second),),
    ),
    Case(
        section="locks",
        measure="lock",
        connections=1,
        figures=(("lock acquire and release, 1 client, median", "ms", lambda load: load.median_ms),),
    ),
)


@dataclass(frozen=True, slots=True)
class Setup:
    """How many generator processes drive a system, and on which event loop."""

    processes: int
    use_uvloop: bool

    def __str__(self) -> str:
        loop = "uvloop" if self.use_uvloop else "asyncio's own loop"
        return f"{self.processes} generator process{'es' * (self.processes > 1)} on {loop}"


SETUPS: Final = {
    "raftcoord": (Setup(1, True), Setup(2, True)),
    "etcd": (Setup(1, True), Setup(1, False), Setup(2, True), Setup(2, False)),
}


@contextlib.contextmanager
def started(system: str, folder: Path) -> Iterator[RunningCluster]:
    """Run a new cluster with empty data."""
    with EtcdCluster(folder) if system == "etcd" else raftcoord_cluster(folder) as cluster:
        yield cluster


def run_load(cluster: RunningCluster, job: Job, setup: Setup) -> Load:
    """Put a load on a running cluster, shared out among the generators."""
    processes = min(setup.processes, job.connections)
    generators = []
    try:
        for number in range(processes):
            share = job.connections // processes + (number < job.connections % processes)
            part = replace(
                job, connections=share, key_prefix=f"{job.measure}-{number}", use_uvloop=setup.use_uvloop
            )
            generators.append(Generator(part))
        for generator in generators:
            generator.wait_ready()
        began, busy_before, cpu_before = time.perf_counter(), busy_s(), cpu_s(cluster.pids)
        for generator in generators:
            generator.start()
        load = Load.joined([generator.result() for generator in generators])
        elapsed_s = time.perf_counter() - began
        cluster_cpu = (cpu_s(cluster.pids) - cpu_before) / elapsed_s
        busy_cpu = (busy_s() - busy_before) / elapsed_s
    finally:
        for generator in generators:
            generator.kill()
    others_cpu = max(0.0, busy_cpu - cluster_cpu - load.generator_cpu)
    return replace(load, cluster_cpu=cluster_cpu, others_cpu=others_cpu)


def _job(system: str, cluster: RunningCluster, case: Case, seconds: float) -> Job:
    return Job(
        system=system,
        address=cluster.address,
        measure=case.measure,
        connections=case.connections,
        seconds=seconds,
    )


def fastest_setups(
    system: str, cases: list[Case], folder: Path, say: Callable[[str], None]
) -> dict[str, Setup]:
    """Try each way to drive a system and return the best one for each section."""
    best: dict[str, Setup] = {}
    with started(system, folder) as cluster:
        for case in cases:
            speeds = {setup: 0.0 for setup in SETUPS[system] if setup.processes <= case.connections}
            job = replace(_job(system, cluster, case, CALIBRATION_S), warmup_s=CALIBRATION_WARMUP_S)
            for setup in [*speeds] * CALIBRATION_PASSES if len(speeds) > 1 else []:
                speeds[setup] += run_load(cluster, job, setup).per_second
            best[case.section] = max(speeds, key=speeds.__getitem__)
            say(f"{case.section}: {system} is driven by {best[case.section]}")
    return best


def measure(
    sections: set[str],
    *,
    systems: list[str],
    rounds: int,
    seconds: float,
    folder: Path,
    say: Callable[[str], None],
) -> list[Figure]:
    """Return the figures of the chosen sections; `systems` are measured in turns, in the order given."""
    cases = [case for case in CASES if case.section in sections]
    if not cases:
        return []
    setups = {system: fastest_setups(system, cases, folder, say) for system in systems}
    loads: dict[tuple[str, str], list[Load]] = {}
    for number in range(rounds):
        for system in systems:
            with started(system, folder) as cluster:
                for case in cases:
                    load = run_load(
                        cluster, _job(system, cluster, case, seconds), setups[system][case.section]
                    )
                    loads.setdefault((system, case.section), []).append(load)
                    say(
                        f"round {number + 1}/{rounds} {case.section} {system}: {load.per_second:,.0f}/s "
                        f"median {load.median_ms:.2f} ms, p99 {load.p99_ms:.2f} ms, "
                        f"CPU: generator {load.generator_cpu:.2f}, cluster {load.cluster_cpu:.2f}, "
                        f"others {load.others_cpu:.2f}"
                    )
    others_cpu = statistics.median(load.others_cpu for series in loads.values() for load in series)
    if others_cpu > OTHERS_CPU_MAX:
        say(f"other programs used {others_cpu:.2f} cores meanwhile: repeat this on an idle machine")
    return [figure for case in cases for figure in _figures(case, loads, setups)]


def _figures(
    case: Case, loads: dict[tuple[str, str], list[Load]], setups: dict[str, dict[str, Setup]]
) -> Iterator[Figure]:
    own = loads["raftcoord", case.section]
    other = loads.get(("etcd", case.section), [])
    details = {
        system: {
            "driven_by": str(setups[system][case.section]),
            "generator_cpu": [load.generator_cpu for load in series],
            "cluster_cpu": [load.cluster_cpu for load in series],
            "others_cpu": [load.others_cpu for load in series],
        }
        for system, series in (("raftcoord", own), ("etcd", other))
        if series
    }
    for name, unit, number in case.figures:
        yield Figure(
            name=name,
            unit=unit,
            section=case.section,
            values=tuple(map(number, own)),
            etcd_values=tuple(map(number, other)),
            details=details,
        )
