"""What many handles cost the worker process that they wake up in: connections, threads, memory.

All handles are alive when it is counted, and have been used once per kind before: what a first use opens
(one connection, its thread) is not what they cost.
"""

from __future__ import annotations

import gc
import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.dask.objects import module_of

KINDS: Final = ("Variable", "Queue", "Lock", "Event")


def connections() -> int:
    """Count the sockets that this process has open."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(descriptor).startswith("socket:")
        except FileNotFoundError:
            continue  # the descriptor with which the folder is read
    return count


def resident_kib() -> float:
    """Return the memory of this process that is in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def _state() -> tuple[int, int, float]:
    gc.collect()
    return connections(), threading.active_count(), resident_kib()


def _woken(system: str, count: int) -> list[Any]:
    """Pickle handles with different names and return what wakes up."""
    objects = module_of(system)
    kinds: list[Callable[[str], Any]] = [getattr(objects, kind) for kind in KINDS]
    pickled = [pickle.dumps(kinds[n % len(kinds)](f"handle-{n}")) for n in range(count)]
    return [pickle.loads(text) for text in pickled]  # noqa: S301 - pickled in the line above


def growth(system: str, count: int) -> dict[str, float]:
    """Wake up `count` handles in this process; return by how much it grew, and how long it took."""
    objects = module_of(system)
    used = objects.Variable("handle-0"), objects.Lock("handle-2")
    used[0].set(1)
    used[1].acquire()
    used[1].release()
    del used
    _woken(system, 100)
    before = _state()
    began = time.perf_counter()
    handles = _woken(system, count)
    seconds = time.perf_counter() - began
    alive = _state()
    handles.clear()
    del handles
    after = _state()
    return {
        "connections": alive[0] - before[0],
        "threads": alive[1] - before[1],
        "memory of one": (alive[2] - before[2]) / count,
        "memory left by one": (after[2] - before[2]) / count,
        "time of one": 1e6 * seconds / count,
    }


def measure(client: Any, system: str, count: int) -> dict[str, list[float]]:
    """Return the growth of a worker process."""
    found = client.submit(growth, system, count, pure=False).result()
    return {f"handles, {name}": [value] for name, value in found.items()}
