"""What many handles cost the worker process that they wake up in: connections, threads, memory.

Invariants:
  1. Handles wake up and are dropped again, all of them, several times. The first time shows what one costs,
     the later ones what it leaves behind: the interpreter keeps memory for later, but only once.
  2. Everything is counted while all handles are alive.
"""

from __future__ import annotations

import gc
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import dask

from benchmarks.dask.objects import module_of

KINDS: Final = ("Variable", "Queue", "Lock", "Event")
REPETITIONS: Final = 4
_ESTABLISHED: Final = "01"


class State(NamedTuple):
    """What a process has at one moment."""

    connections: int
    threads: int
    resident_kib: float


def connections(ports: set[int]) -> int:
    """Count the TCP connections of this process to servers on these ports."""
    own = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            own.add(os.readlink(descriptor))
        except FileNotFoundError:
            continue  # the descriptor with which the folder was read
    count = 0
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, *rest = line.split()
        port = int(remote.rpartition(":")[2], 16)
        count += state == _ESTABLISHED and port in ports and f"socket:[{rest[5]}]" in own
    return count


def _state(ports: set[int]) -> State:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return State(connections(ports), threading.active_count(), pages * os.sysconf("SC_PAGE_SIZE") / 1024)


def pickled(system: str, count: int) -> list[bytes]:
    """Return pickled handles with different names."""
    objects = module_of(system)
    kinds = [getattr(objects, kind) for kind in KINDS]
    return [pickle.dumps(kinds[number % len(kinds)](f"handle-{number}")) for number in range(count)]


def growth(system: str, texts: list[bytes], ports: set[int]) -> dict[str, float]:
    """Wake up handles in this process; return by how much it grew, and how long it took."""
    objects = module_of(system)
    objects.Variable("handle-0").set(1)
    with objects.Lock("handle-2"):
        pass
    fresh = _state(ports)
    alive, seconds = [], []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        handles: list[Any] = [pickle.loads(text) for text in texts]  # noqa: S301 - pickled in `pickled`
        seconds.append(time.perf_counter() - began)
        alive.append(_state(ports))
        handles.clear()
    return {
        "connections": alive[-1].connections,
        "more threads": alive[-1].threads - fresh.threads,
        "memory of one": (alive[0].resident_kib - fresh.resident_kib) / len(texts),
        "memory left by one": (alive[-1].resident_kib - alive[1].resident_kib)
        / len(texts)
        / (REPETITIONS - 2),
        "time to wake up one": 1e6 * min(seconds) / len(texts),
    }


def measure(client: Any, system: str, count: int) -> dict[str, list[float]]:
    """Return the growth of a worker process, and its connections to the replicas, or to the scheduler."""
    if system == "raftcoord":
        addresses = dask.config.get("raftcoord.addresses").split(",")
    else:
        addresses = [client.scheduler.address]
    ports = {int(address.rpartition(":")[2]) for address in addresses}
    found = client.submit(growth, system, pickled(system, count), ports, pure=False).result()
    return {f"handles, {name}": [value] for name, value in found.items()}
