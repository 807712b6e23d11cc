"""The director: starts replicas and workers, kills the leader in the middle of each part, prints the verdict.

Invariants:
  1. The kill is in the middle: it comes after the part's progress was seen to be between nothing and all,
     and some worker finishes after it. A part for which that does not hold has failed.
  2. Each part starts with three replicas up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raftcoord import Client, Queue, Variable
from raftcoord.demo.crew import Crew, WorkerFailed
from raftcoord.demo.parts import PARTS, WORKERS, Finding, Part
from raftcoord.demo.probe import Probe
from raftcoord.protocol.errors import RaftcoordError
from raftcoord.testing.local_cluster import LocalCluster

PROGRESS_WAIT_S: Final = 60.0
PROGRESS_POLL_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a part went. `failover_s` is the longest call of a client that kept on writing."""

    title: str
    finding: Finding
    killed: str
    failover_s: float


def run_demo() -> bool:
    """Run all parts and print what came out; tell whether everything holds."""
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    verdicts = []
    with LocalCluster(replicas=3) as cluster:
        console.print(f"Three replicas at {cluster.address}, {WORKERS} worker processes.\n")
        with (
            Client(cluster.address, name="director", session_ttl="5s"),
            Crew(WORKERS, cluster.address) as crew,
        ):
            for number, part in enumerate(PARTS, start=1):
                console.print(f"{number}/{len(PARTS)} {part.title} …")
                try:
                    verdicts.append(_run_part(cluster, crew, part))
                except (WorkerFailed, RaftcoordError) as error:
                    # A worker that is stuck or gone cannot take part in what follows.
                    verdicts.append(Verdict(part.title, Finding(False, str(error)), "nobody", float("inf")))
                    break
    holds = all(verdict.finding.holds for verdict in verdicts)
    console.print()
    _print_verdicts(console, verdicts)
    text = "Nothing was lost, doubled or stuck." if holds else "This must not happen: see above."
    console.print(f"\n{text} ({time.monotonic() - started:.0f} s)")
    return holds


def _run_part(cluster: LocalCluster, crew: Crew, part: Part) -> Verdict:
    cluster.heal()
    part.set_up()
    ready, done = _count_of("ready", part), _count_of("done", part)
    ready.set(0)
    done.set(0)
    with Probe(cluster.address) as probe:
        crew.assign(part.task.__name__)
        # All have connected before any may start.
        _reach(WORKERS, lambda: int(ready.get(timeout=0)), crew)
        _admit(part, part.tokens_before_kill)
        progress = _reach(part.kill_at, part.progress or (lambda: int(done.get(timeout=0))), crew)
        leader = cluster.leader()
        killed_at = time.monotonic()
        cluster.kill(leader)
        _admit(part, WORKERS - part.tokens_before_kill)
        reports = crew.reports()
        failover_s = probe.longest_call_s(killed_at)
    finding = part.check([report.result for report in reports])
    in_the_middle = progress < part.total and max(report.finished_s for report in reports) > killed_at
    if not in_the_middle:
        finding = Finding(False, f"the kill came too late: {finding.text}")
    return Verdict(part.title, finding, f"replica {leader} at {progress:,} of {part.total:,}", failover_s)


def _admit(part: Part, count: int) -> None:
    if count:
        Queue(("gate", part.task.__name__)).put_many(list(range(count)))


def _count_of(kind: str, part: Part) -> Variable:
    return Variable((kind, part.task.__name__))


def _reach(goal: int, progress: Callable[[], int], crew: Crew) -> int:
    """Wait until `progress()` is at least `goal` and return it. Raises WorkerFailed."""
    deadline = time.monotonic() + PROGRESS_WAIT_S
    while (reached := progress()) < goal:
        crew.raise_if_failed()
        if time.monotonic() > deadline:
            raise WorkerFailed(f"the workers are stuck at {reached} of {goal}: {crew!r}")
        time.sleep(PROGRESS_POLL_S)
    return reached


def _print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    if not console.is_terminal:
        for verdict in verdicts:
            console.print("{} | {} | killed {} | failover {} | {}".format(*_cells(verdict)))
        return
    table = Table("part", "result", "killed", "failover", "verdict", show_lines=True)
    for verdict in verdicts:
        table.add_row(*_cells(verdict))
    console.print(table, soft_wrap=False)


def _cells(verdict: Verdict) -> tuple[str, str, str, str, str]:
    return (
        escape(verdict.title),
        escape(verdict.finding.text),
        verdict.killed,
        f"{verdict.failover_s * 1000:.0f} ms",
        "holds" if verdict.finding.holds else "FAILS",
    )
