"""How long one call of a Variable, Queue or Lock takes, in a client and inside a task.

The same lines measure both systems: they differ in the module that the objects come from.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any, Final

MODULES: Final = {"dask": "distributed", "raftcoord": "raftcoord.dask"}
VALUE: Final = "x" * 100
WARMUP_COUNT: Final = 30


def module_of(system: str) -> Any:
    """Return the module whose Variable, Queue, … belong to a system."""
    return importlib.import_module(MODULES[system])


def call_times_ms(system: str, count: int) -> dict[str, list[float]]:
    """Call each operation `count` times, in turns, and return how long each call took."""
    objects = module_of(system)
    variable, queue, lock = objects.Variable("bench"), objects.Queue("bench"), objects.Lock("bench")
    steps: dict[str, Callable[[], object]] = {
        "Variable.set": lambda: variable.set(VALUE),
        "Variable.get": variable.get,
        "Queue.put": lambda: queue.put(VALUE),
        "Queue.get": queue.get,
        "Lock.acquire": lock.acquire,
        "Lock.release": lock.release,
    }
    times_ms: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(WARMUP_COUNT + count):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if number >= WARMUP_COUNT:
                times_ms[name].append(1000 * (time.perf_counter() - began))
    return times_ms


def measure(client: Any, system: str, count: int) -> dict[str, list[float]]:
    """Return the times of the calls from this process, and of those from a task on a worker."""
    here = call_times_ms(system, count)
    there = client.submit(call_times_ms, system, count, pure=False).result()
    return {f"{name}, client": times for name, times in here.items()} | {
        f"{name}, task": times for name, times in there.items()
    }
