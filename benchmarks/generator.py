"""One load generator: a process that keeps a number of connections busy and says what it saw.

`python -m benchmarks.generator` reads a `Job` as JSON from its standard input, connects, prints `ready`,
waits for a line, loads, and prints a `Load` as JSON. It is a process of its own so that two can run side by
side, and so that its use of the CPU is known: a generator that is short of CPU measures itself.

Invariants:
  1. Both systems are driven by the same loop: each connection sends its next request when the answer to
     the one before has come.
  2. Only requests that were sent and answered within the measured window count.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import uvloop

from benchmarks.figures import Load, percentile

PROCESS_TIMEOUT_S = 120.0
LOCK_TTL_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one generator is to do. `measure` is one of `set`, `get` and `lock`."""

    system: str
    address: str
    measure: str
    connections: int
    seconds: float
    warmup_s: float = 1.0
    value_bytes: int = 256
    key_prefix: str = "key"
    use_uvloop: bool = True


Step = Callable[[], Coroutine[Any, Any, Any]]


class Driver(Protocol):
    """One connection to the system under load."""

    async def connect(self) -> None: ...

    async def prepare(self, job: Job, key: str) -> Step:
        """Return the coroutine function that makes one measured step."""

    async def close(self) -> None: ...


class EtcdDriver:
    """A gRPC channel to the leading member."""

    def __init__(self, address: str) -> None:
        from benchmarks.etcd_wire import EtcdConnection

        self._connection = EtcdConnection(address)

    async def connect(self) -> None:
        await self._connection.connect()

    async def prepare(self, job: Job, key: str) -> Step:
        connection, name, value = self._connection, key.encode(), b"x" * job.value_bytes
        if job.measure == "lock":
            await connection.grant_lease(LOCK_TTL_S)
            return lambda: connection.lock_and_unlock(name)
        await connection.set(name, value)
        return (lambda: connection.set(name, value)) if job.measure == "set" else lambda: connection.get(name)

    async def close(self) -> None:
        await self._connection.close()


class RaftcoordDriver:
    """A client with a session, as users have it."""

    def __init__(self, address: str) -> None:
        from raftcoord import aio

        self._client = aio.Client(address)

    async def connect(self) -> None:
        await self._client.connect()

    async def prepare(self, job: Job, key: str) -> Step:
        from raftcoord import aio

        if job.measure == "lock":
            lock = aio.Lock(key, client=self._client)

            async def lock_and_unlock() -> None:
                await lock.acquire()
                await lock.release()

            return lock_and_unlock
        variable, value = aio.Variable(key, client=self._client), b"x" * job.value_bytes
        await variable.set(value)
        return (lambda: variable.set(value)) if job.measure == "set" else variable.get

    async def close(self) -> None:
        await self._client.close()


DRIVERS: dict[str, Callable[[str], Driver]] = {"etcd": EtcdDriver, "raftcoord": RaftcoordDriver}


async def _drive(step: Step, start: float, stop: float, latencies: list[float]) -> None:
    clock = time.perf_counter
    while (sent := clock()) < stop:
        await step()
        answered = clock()
        if sent >= start and answered <= stop:
            latencies.append(answered - sent)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def generate(job: Job) -> Load:
    """Connect, wait for the line on standard input, and load for warm-up and window."""
    drivers = [DRIVERS[job.system](job.address) for _ in range(job.connections)]
    await asyncio.gather(*(driver.connect() for driver in drivers))
    steps = [await driver.prepare(job, f"{job.key_prefix}-{n}") for n, driver in enumerate(drivers)]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    gc.collect()
    gc.freeze()
    latencies: list[float] = []
    start = time.perf_counter() + job.warmup_s
    stop = start + job.seconds
    cpu_at_start: list[float] = []
    asyncio.get_running_loop().call_later(job.warmup_s, lambda: cpu_at_start.append(_cpu_s()))
    await asyncio.gather(*(_drive(step, start, stop, latencies) for step in steps))
    cpu = (_cpu_s() - cpu_at_start[0]) / job.seconds
    await asyncio.gather(*(driver.close() for driver in drivers))
    latencies.sort()
    return Load(
        operations=len(latencies),
        seconds=job.seconds,
        median_ms=percentile(latencies, 0.5) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        generator_cpu=cpu,
    )


def main() -> None:
    job = Job(**json.loads(sys.stdin.readline()))
    load = (uvloop.run if job.use_uvloop else asyncio.run)(generate(job))
    print(json.dumps(asdict(load)), flush=True)


class Generator:
    """The parent's end of a generator process."""

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.generator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._send(json.dumps(asdict(job)))

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the load generator could not connect; its message is above")

    def start(self) -> None:
        self._send("start")

    def result(self) -> Load:
        output, _ = self._process.communicate(timeout=PROCESS_TIMEOUT_S)
        if self._process.returncode:
            raise RuntimeError("the load generator failed; its message is above")
        return Load(**json.loads(output))

    def kill(self) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


if __name__ == "__main__":
    main()
