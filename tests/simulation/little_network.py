"""Two hosts and a network between them, and a protocol that writes down all that happens to it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from little_world import new_process, pass_time

from raftcoord.testing.simulation.link_rules import LinkRules, Pace
from raftcoord.testing.simulation.network import HostNetwork, SimListener, SimNetwork
from raftcoord.testing.simulation.process import Process
from raftcoord.testing.simulation.scheduler import Scheduler

LATENCY_S = 0.001
PORT = 7
FORTH, BACK = ("a", "b"), ("b", "a")


class Recorder(asyncio.Protocol):
    """Writes down what it is told, and that it is told so in order and inside its own process."""

    def __init__(self, process: Process, greeting: tuple[bytes, ...] = ()) -> None:
        self.process = process
        self.greeting = greeting
        self.transport: Any = None
        self.events: list[str] = []
        self.parts: list[bytes] = []
        self.error: Exception | None = None
        self.times: list[float] = []

    def _note(self, event: str) -> None:
        running: Any = asyncio.get_running_loop()
        assert running is self.process.loop
        assert self.process.is_alive
        assert "lost" not in self.events, "told something after the end"
        assert (event == "made") == (not self.events), "made comes first and once"
        self.events.append(event)

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)

    @property
    def is_lost(self) -> bool:
        return "lost" in self.events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._note("made")
        self.transport = transport
        for data in self.greeting:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._note("data")
        assert data
        self.parts.append(data)
        self.times.append(self.process.scheduler.now)

    def eof_received(self) -> None:
        self._note("end")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("lost")
        self.error = exc
        self.times.append(self.process.scheduler.now)


class Pair:
    """Host "a", which connects, and host "b", which listens."""

    def __init__(
        self,
        seed: int = 1,
        *,
        greeting: tuple[bytes, ...] = (),
        listens: bool = True,
        bytes_per_s: float = 50e6,
    ) -> None:
        self.scheduler = Scheduler()
        pace = Pace(LATENCY_S, bytes_per_s=bytes_per_s)
        self.rules = LinkRules(random.Random(seed), lambda source, target: pace)
        self.network = SimNetwork(self.scheduler, self.rules, random.Random(seed))
        self.processes = {name: new_process(self.scheduler, name, seed=seed) for name in "ab"}
        self.accepted: list[Recorder] = []
        self.dialed: list[Recorder] = []
        self.greeting = greeting
        if listens:
            self.listen()

    def listen(self) -> SimListener:
        """Let the process on "b" listen."""

        def accept() -> Recorder:
            self.accepted.append(Recorder(self.processes["b"], self.greeting))
            return self.accepted[-1]

        return self.network.listen(self.processes["b"], accept, "b", PORT)

    def dial(self) -> asyncio.Task[Recorder]:
        """Begin to connect from "a"."""
        process = self.processes["a"]

        def factory() -> Recorder:
            self.dialed.append(Recorder(process))
            return self.dialed[-1]

        async def connect() -> Recorder:
            transport, protocol = await HostNetwork(self.network, process, "a").connect(factory, "b", PORT)
            assert protocol.transport is transport
            recorder: Recorder = protocol
            return recorder

        return process.spawn(connect())

    def connected(self) -> tuple[Recorder, Recorder]:
        """Return both ends of a new connection: of "a" and of "b"."""
        task = self.dial()
        self.scheduler.run(self.scheduler.now + 5, task.done)
        self.pass_time(0.1)
        return task.result(), self.accepted[-1]

    def pass_time(self, for_s: float) -> None:
        """Let so many seconds pass."""
        pass_time(self.scheduler, for_s)

    def do(self, name: str, function: Callable[..., object], *arguments: Any) -> None:
        """Have the process on a host call something, now."""
        self.processes[name].loop.call_soon(function, *arguments)

    def end_process(self, name: str) -> None:
        """Kill the process on a host."""
        self.processes[name].kill()
        self.network.process_died(name)

    def lose_power(self, name: str) -> None:
        """Take the power from a host."""
        self.processes[name].kill()
        self.network.power_lost(name)

    def restart(self, name: str) -> Process:
        """Put a new process on a host; it has power again if it had not."""
        if name in self.network.down_hosts:
            self.network.power_back(name)
        process = self.processes[name] = new_process(self.scheduler, name, seed=2)
        return process
