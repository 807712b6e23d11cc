"""The clients of a run: real `raftcoord.aio` clients in their own processes, and what they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

from raftcoord import aio
from raftcoord.client.calls import Call
from raftcoord.client.connection import Connection
from raftcoord.client.exchange import Exchange
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.runtime import Runtime
from raftcoord.testing.simulation.caller import Caller
from raftcoord.testing.simulation.disk import HostDisk, ProcessDisk
from raftcoord.testing.simulation.hosts import SimRng
from raftcoord.testing.simulation.network import HostNetwork, SimNetwork
from raftcoord.testing.simulation.objects import Belief, Objects
from raftcoord.testing.simulation.oracle import Oracle
from raftcoord.testing.simulation.process import Process, SimClock
from raftcoord.testing.simulation.records import Outcome, Record
from raftcoord.testing.simulation.scenario import ClientPlan
from raftcoord.testing.simulation.scheduler import Event, Scheduler, stream
from raftcoord.testing.simulation.steps import STEPS
from raftcoord.testing.simulation.violation import Violation

RESTART_S: Final = 0.2


class ClientHost:
    """One client's host: a process that makes the calls of its plan, started again when it was killed."""

    def __init__(
        self,
        name: str,
        plan: ClientPlan,
        *,
        number: int,
        seed: int,
        addresses: str,
        scheduler: Scheduler,
        network: SimNetwork,
        oracle: Oracle,
        on_return: Callable[[Record], None],
    ) -> None:
        self.name, self.plan = name, plan
        self.positions = [0] * len(plan.threads)
        self.records: list[Record] = []
        self.resume_at: dict[tuple[int, str], int] = {}  # as on its disk: it outlives the process
        self.on_return = on_return
        self.is_done = False
        self.is_hurrying = False  # the faults are over: come to an end
        self.process: Process | None = None
        self.incarnation = 0
        self.clock = SimClock(scheduler, start_s=5000.0 + number, rate=plan.rate)
        self._number, self._seed, self._addresses = number, seed, addresses
        self._scheduler, self._network, self._oracle = scheduler, network, oracle
        self._rng = stream(seed, name)
        self._disk = HostDisk(stream(seed, name, "disk"), sync_s=0)
        self._client: aio.Client | None = None
        self._objects: Objects | None = None
        self._start_event: Event | None = None

    def __repr__(self) -> str:
        return f"<ClientHost {self.name}#{self.incarnation} positions={self.positions} done={self.is_done}>"

    @property
    def now(self) -> float:
        return self._scheduler.now if self.process is None else self.process.now

    @property
    def session_id(self) -> int | None:
        return None if self._client is None else self._client.session_id

    def new_record(self, thread: int, kind: str, name: str, argument: Any) -> Record:
        """Begin the record of a call."""
        record = Record(self.name, self.incarnation, thread, kind, name, argument, self.now)
        self.records.append(record)
        return record

    def fail(self, violation: Violation) -> None:
        """End the run."""
        self._scheduler.fail(violation)

    def start(self) -> None:
        """Start a process that makes the calls that are left."""
        self._start_event = None
        if self.process is not None or self.is_done:
            return
        self.incarnation += 1
        self.process = process = Process(
            self._scheduler, name=self.name, number=self._number, clock=self.clock, rng=self._rng
        )
        process.on_death.append(self._died)
        process.spawn(self._main(process))

    async def _main(self, process: Process) -> None:
        runtime = Runtime(
            clock=self.clock,
            rng=SimRng(stream(self._seed, self.name, self.incarnation)),
            network=HostNetwork(self._network, process, self.name),
            disk=ProcessDisk(self._disk, process),
        )
        self._client = client = aio.Client(
            self._addresses,
            name=self.name,
            session_ttl=self.plan.ttl_ms / 1000,
            timeout=self.plan.timeout_ms / 1000,
            set_as_default=False,
            runtime=runtime,
        )
        core = await client._open()
        watch_exchange(core.exchange, self._oracle, self._scheduler.check)
        self._objects = objects = Objects(client)
        callers = [Caller(self, objects, thread, STEPS).run() for thread in range(len(self.plan.threads))]
        await asyncio.gather(*callers)
        self._objects = None  # what is given up by closing is not believed in
        await client.close()
        self.is_done = True
        process.kill()

    def kill(self) -> None:
        """End the process without a word; it is started again, in a session of its own."""
        if self.process is not None:
            self.process.kill()

    def _died(self) -> None:
        self.process = self._client = self._objects = None
        self._network.process_died(self.name)
        for record in self.records:
            if record.outcome is Outcome.OPEN:
                record.outcome = Outcome.UNKNOWN
        if not self.is_done:
            self._start_event = self._scheduler.after(RESTART_S, self.start)

    def beliefs(self) -> Iterator[Belief]:
        """Yield every grant that this client, at this moment, takes for its own."""
        return iter(()) if self._objects is None else self._objects.beliefs()


def watch_exchange(exchange: Exchange, oracle: Oracle, check: Callable[..., None]) -> None:
    """Hold every answer that a client takes in against the log; `check` is `Scheduler.check`."""
    sent: dict[tuple[int, int], tuple[Operation, list[Any], int]] = {}
    send, take = exchange._send, exchange.on_answer

    def watched_send(call: Call, connection: Connection) -> None:
        send(call, connection)
        key = (exchange.session.id, call.sequence)
        if key not in sent:
            sent[key] = (Operation(call.operation), list(call.arguments), oracle.answered_index)

    def watched_answer(sequence: int, code: int, payload: Any) -> None:
        key = (exchange.session.id, sequence)
        call = exchange.session.state.find(sequence)
        # A CANCEL that the answer of its target overtook may be taken for a duplicate: it is of no interest.
        is_overtaken = call is not None and call.target is not None and call.target.answered
        if call is not None and key in sent and not (is_overtaken and code == Code.STALE):
            operation, arguments, sent_index = sent[key]
            check(oracle.check_answer, key, operation, arguments, code, payload, sent_index)
        take(sequence, code, payload)

    setattr(exchange, "_send", watched_send)  # noqa: B010
    setattr(exchange, "on_answer", watched_answer)  # noqa: B010
