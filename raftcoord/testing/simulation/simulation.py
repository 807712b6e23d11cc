"""One run of a scenario, and what came of it."""

from __future__ import annotations

import gc
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from raftcoord.testing.simulation.generate import generate
from raftcoord.testing.simulation.nemesis import ALL_MOMENTS, FAULTS
from raftcoord.testing.simulation.scenario import Scenario
from raftcoord.testing.simulation.steps import STEPS
from raftcoord.testing.simulation.tuning import TUNABLE, tuned
from raftcoord.testing.simulation.violation import Violation
from raftcoord.testing.simulation.world import World


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run. Durations are in seconds; `hash` is the same whenever the scenario is run."""

    seed: int
    violation: Violation | None
    hash: int
    steps: int
    simulated_s: float
    real_s: float
    cpu_s: float
    calls: int
    entries: int
    terms: int
    happened: dict[str, int] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """Simulated seconds per second of one core."""
        return self.simulated_s / self.cpu_s


def simulate(scenario: Scenario | int, tell: Callable[[float, str, Any], None] | None = None) -> Result:
    """Run a scenario, or that of a seed. A broken promise is in the result, not raised.

    Args:
        tell: takes (time, who, what) of everything worth reading.

    Raises:
        ValueError: the scenario names what does not exist.
    """
    scenario = generate(scenario) if isinstance(scenario, int) else known(scenario)
    with _undisturbed(), tuned(scenario.settings.tuning):
        world = World(scenario, tell)
        began, cpu_began = time.perf_counter(), time.process_time()
        violation: Violation | None = None
        try:
            world.run()
        except Violation as error:
            violation = Violation(error.invariant, error.text)  # without what it was raised in
        finally:
            took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
            world.close()
        result = _result(world, violation, took_s, cpu_s)
        del world
    return result


def known(scenario: Scenario) -> Scenario:
    """Return a scenario of which everything that it names exists. Raises ValueError."""
    steps = (step for plan in scenario.clients for thread in plan.threads for step in thread)
    unknown = [step.kind for step in steps if step.kind not in STEPS]
    unknown += [fault.kind for fault in scenario.faults if fault.kind not in FAULTS]
    moments = [fault.options["moment"] for fault in scenario.faults if "moment" in fault.options]
    unknown += [moment for moment in moments if moment not in ALL_MOMENTS]
    unknown += [name for name in scenario.settings.tuning if name not in TUNABLE]
    if unknown:
        raise ValueError(f"the scenario names what does not exist: {unknown}")
    return scenario


def _result(world: World, violation: Violation | None, took_s: float, cpu_s: float) -> Result:
    scheduler = world.scheduler
    return Result(
        seed=world.scenario.seed,
        violation=violation,
        hash=scheduler.hash,
        steps=scheduler.steps,
        simulated_s=scheduler.now,
        real_s=took_s,
        cpu_s=cpu_s,
        calls=len(world.records),
        entries=world.oracle.index,
        terms=world.raft_checks.leaders_seen,
        happened=dict(world.nemesis.happened),
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Run without garbage collection and without a word.

    Destructors must run when the run decides it, not when memory does. Processes that were killed in the
    middle of something are freed at the end; whatever complains of that is not heard.
    """
    level, hook, enabled = logging.root.manager.disable, sys.unraisablehook, gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.disable()
    gc.freeze()  # what is there already is none of the run's garbage, and need not be walked for it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.unraisablehook = lambda unraisable: None
            yield
            gc.collect()
    finally:
        gc.unfreeze()
        sys.unraisablehook = hook
        logging.disable(level)
        if enabled:
            gc.enable()
