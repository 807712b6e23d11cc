"""The hosts of the replicas: a disk that outlives its processes, and one replica process after the other.

Invariants:
  1. At most one process of a replica runs on its host at a time.
  2. A replica that stops by itself although its disk did nothing wrong is a violation.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from raftcoord.consensus.interface import EngineConfig, FatalError
from raftcoord.runtime import Runtime
from raftcoord.server.config import ServerConfig
from raftcoord.server.replica import ReplicaServer
from raftcoord.testing.simulation.bit_rot import Rot
from raftcoord.testing.simulation.disk import HostDisk, ProcessDisk
from raftcoord.testing.simulation.faulty_disk import PowerFailure
from raftcoord.testing.simulation.network import HostNetwork, SimNetwork
from raftcoord.testing.simulation.probe import EngineView
from raftcoord.testing.simulation.process import Process, SimClock
from raftcoord.testing.simulation.scenario import Settings
from raftcoord.testing.simulation.scheduler import Event, Scheduler, stream
from raftcoord.testing.simulation.violation import Violation

CLIENT_PORT: Final = 7400
PEER_PORT: Final = 7401
RESTART_S: Final = (0.1, 0.6)  # after a replica stopped by itself


class SimRng:
    """Randomness that the seed decides: a `raftcoord.runtime.Rng`."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def random(self) -> float:
        return self._rng.random()

    def token(self, size_bytes: int) -> bytes:
        return self._rng.randbytes(size_bytes)


class SimServerConfig(ServerConfig, frozen=True, kw_only=True):
    """Settings of a replica, with those of the engine that production leaves alone."""

    trailing_log_bytes: int = 4096
    snapshot_chunk_bytes: int = 1024

    def engine_config(self) -> EngineConfig:
        return replace(
            super().engine_config(),
            trailing_log_bytes=self.trailing_log_bytes,
            snapshot_chunk_bytes=self.snapshot_chunk_bytes,
        )


def replica_names(settings: Settings) -> list[str]:
    """Return the names of the replicas, which are those of their hosts."""
    return [f"r{number}" for number in range(1, settings.replicas + 1)]


def _server_config(name: str, settings: Settings) -> SimServerConfig:
    return SimServerConfig(
        name=name,
        data_dir="/data",
        listen=f"{name}:{CLIENT_PORT}",
        peers={other: f"{other}:{PEER_PORT}" for other in replica_names(settings)},
        ops_listen="",
        secret="secret",
        heartbeat_ms=settings.heartbeat_ms,
        election_timeout_ms=settings.election_timeout_ms,
        segment_bytes=settings.segment_bytes,
        snapshot_log_bytes=settings.snapshot_log_bytes,
        snapshot_log_entries=settings.snapshot_log_entries,
        trailing_log_bytes=settings.trailing_log_bytes,
        snapshot_chunk_bytes=settings.snapshot_chunk_bytes,
    )


class ReplicaHost:
    """One replica's host.

    Args:
        on_server: told of every server before it is started.
        on_started: told of every server that has recovered and listens; returns what can be seen of it.
        after_iteration: called after every iteration of the replica.
        tell: takes (who, what) of what a reader may want to know.
    """

    def __init__(
        self,
        name: str,
        *,
        number: int,
        seed: int,
        scheduler: Scheduler,
        network: SimNetwork,
        settings: Settings,
        on_server: Callable[[ReplicaHost, ReplicaServer], None],
        on_started: Callable[[ReplicaHost, ReplicaServer], EngineView],
        after_iteration: Callable[[ReplicaHost], None],
        tell: Callable[[str, object], None],
    ) -> None:
        self.name = name
        self.process: Process | None = None
        self.server: ReplicaServer | None = None
        self.view: EngineView | None = None
        self.incarnation = 0
        self.excuse: str | None = None  # why it may stop by itself
        self._excuse_at_start: str | None = None
        self.rotten: Rot | None = None
        self.stopped_by_itself = 0
        self._number, self._seed = number, seed
        self._scheduler, self._network, self._settings = scheduler, network, settings
        self._on_server, self._on_started = on_server, on_started
        self._after_iteration, self._tell = after_iteration, tell
        rates = settings.replica_rates
        rate = rates[(number - 1) % len(rates)] if rates else 1.0
        self._rng = stream(seed, name)
        self.clock = SimClock(scheduler, start_s=1000.0 * number, rate=rate)
        self.disk = HostDisk(stream(seed, name, "disk"), sync_s=settings.sync_ms / 1000)
        self._stopping = False
        self._is_losing_power = False
        self._has_power = True
        self._start_event: Event | None = None
        self._start_at = 0.0

    def __repr__(self) -> str:
        return f"<ReplicaHost {self.name}#{self.incarnation} {self.process!r}>"

    @property
    def is_up(self) -> bool:
        """Whether a replica process runs here."""
        return self.process is not None

    @property
    def is_serving(self) -> bool:
        """Whether its replica has recovered."""
        return self.view is not None

    # Starting.

    def start(self) -> None:
        """Start the replica from what is on the disk."""
        self._start_event = None
        if self.process is not None:
            return
        if not self._has_power:
            self._has_power = True
            self._network.power_back(self.name)
        self.incarnation += 1
        self._stopping = False
        self._excuse_at_start = self.excuse  # it may find damage long after the disk was repaired
        self.process = process = Process(
            self._scheduler,
            name=self.name,
            number=self._number,
            clock=self.clock,
            rng=self._rng,
            after_iteration=lambda: self._after_iteration(self),
        )
        process.on_death.append(self._died)
        process.spawn(self._main(process))

    def _start_after(self, delay_s: float) -> None:
        if self._start_event is not None:
            self._start_event.cancel()
        self._start_at = self._scheduler.now + delay_s
        self._start_event = self._scheduler.after(delay_s, self.start)

    def start_soon(self) -> None:
        """Be started shortly, whatever was planned."""
        if self.process is None:
            self._start_after(RESTART_S[0] * self._rng.random())

    async def _main(self, process: Process) -> None:
        runtime = Runtime(
            clock=self.clock,
            rng=SimRng(stream(self._seed, self.name, self.incarnation)),
            network=HostNetwork(self._network, process, self.name),
            disk=ProcessDisk(self.disk, process),
        )
        server = ReplicaServer(_server_config(self.name, self._settings), runtime)
        self._on_server(self, server)
        try:
            await server.start()
        except FatalError as error:
            self._exit(process, error)
            return
        self._excuse_at_start = None
        self.server, self.view = server, self._on_started(self, server)
        self._stop_event = stop = asyncio.Event()
        fatal = asyncio.ensure_future(server.wait_fatal())
        asked = asyncio.ensure_future(stop.wait())
        await asyncio.wait((fatal, asked), return_when=asyncio.FIRST_COMPLETED)
        await server.stop(graceful=not fatal.done())
        self._exit(process, server.fatal_error)

    def _exit(self, process: Process, error: BaseException | None) -> None:
        self._tell(self.name, f"stopped: {error}")
        if error is not None:
            self.stopped_by_itself += 1
            if self.excuse is None and self._excuse_at_start is None:
                violation = Violation("replicas run on", f"{self.name} stopped: {error}")
                violation.__cause__ = error
                self._scheduler.fail(violation)
        low_s, high_s = RESTART_S
        self._down_s = low_s + (high_s - low_s) * self._rng.random()
        self._is_losing_power = False
        process.kill()

    # Ending.

    def stop(self) -> None:
        """Ask the replica to stop, as SIGTERM does; it is started again shortly after it did."""
        if self.process is not None and self.view is not None and not self._stopping:
            self._stopping = True
            self.process.loop.call_soon(self._stop_event.set)

    def crash(self, *, power: bool, down_s: float) -> None:
        """Kill the replica, or take the power from its host; it is started again `down_s` later."""
        self._is_losing_power = power
        self._down_s = down_s
        if self.process is not None:
            self.process.kill()
        elif power and self._has_power:
            self._lose_power()
            self._start_after(max(down_s, self._start_at - self._scheduler.now))

    def crash_now(self, *, power: bool, down_s: float) -> None:
        """Crash from inside the process's own code: does not return."""
        self.crash(power=power, down_s=down_s)
        raise PowerFailure

    def _died(self) -> None:
        self.process = self.server = self.view = None
        if self._is_losing_power:
            self._lose_power()
        else:
            self.disk.store.kill()
            self._network.process_died(self.name)
        self._start_after(self._down_s)

    def _lose_power(self) -> None:
        self._has_power = False
        self.disk.store.lose_power(self._rng)
        self._network.power_lost(self.name)
