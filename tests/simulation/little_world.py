"""A few processes on simulated time, for tests of single parts of the simulator."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from raftcoord.testing.simulation.process import Process, SimClock
from raftcoord.testing.simulation.scheduler import Scheduler, stream

START_S = 100.0  # what a process's clock shows when it is made

_T = TypeVar("_T")


def new_process(
    scheduler: Scheduler,
    name: str = "p",
    *,
    rate: float = 1.0,
    seed: int = 1,
    after_iteration: Callable[[], None] | None = None,
) -> Process:
    """Return a process that has nothing to do yet."""
    return Process(
        scheduler,
        name=name,
        number=1,
        clock=SimClock(scheduler, start_s=START_S, rate=rate),
        rng=stream(seed, name),
        after_iteration=after_iteration,
    )


def pass_time(scheduler: Scheduler, for_s: float) -> None:
    """Let so many seconds pass. Raises Violation."""
    scheduler.run(scheduler.now + for_s)


def finish(process: Process, work: Coroutine[Any, Any, _T], within_s: float = 60.0) -> _T:
    """Run a coroutine in a process to its end, and return or raise what comes of it."""
    task = process.spawn(work)
    process.scheduler.run(process.scheduler.now + within_s, task.done)
    assert task.done(), f"not done after {within_s} s"
    return task.result()
