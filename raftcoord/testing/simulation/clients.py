"""The clients of a run: real `raftcoord.aio` clients in their own processes, and what they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

from raftcoord import aio
from raftcoord.client.calls import Call
from raftcoord.client.connection import Connection
from raftcoord.client.core import Core
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
REST_POLL_S: Final = 0.02
REST_POLLS_MAX: Final = 100


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
        on_given_up: Callable[[ClientHost, str], None],
    ) -> None:
        self.name, self.plan = name, plan
        self.positions = [0] * len(plan.threads)
        self.records: list[Record] = []
        self.resume_at: dict[tuple[int, str], int] = {}  # as on its disk: it outlives the process
        self.on_return, self._on_given_up = on_return, on_given_up
        self.impatient: set[asyncio.Future[Any]] = set()  # cancelled in the moment in which they are answered
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
        _watch_callers(core.exchange, self.impatient, self._given_up)
        self._objects = objects = Objects(client, self._number)
        callers = [Caller(self, objects, thread, STEPS).run() for thread in range(len(self.plan.threads))]
        await asyncio.gather(*callers)
        self._objects = None  # what is given up by closing is not believed in
        await self._come_to_rest(core)
        await client.close()
        self.is_done = True
        process.kill()

    async def _come_to_rest(self, core: Core) -> None:
        """Wait until nothing is left to be told to the replicas; then the session must hold nothing."""
        exchange, session = core.exchange, core.session
        for _ in range(REST_POLLS_MAX):
            await asyncio.sleep(REST_POLL_S)
            if core.session is not session or not core.is_alive(session):
                return
            state = session.state
            if not state.open_calls() and not state.to_confirm and not exchange._unsent:
                self._scheduler.check(self._oracle.check_holds_nothing, session.id)
                return

    def _given_up(self, call: Call) -> None:
        if call.deadline:  # the client's own bound: what a caller allows may be too short for what it asks
            self._scheduler.check(self._on_given_up, self, repr(call))

    @property
    def live_session(self) -> int | None:
        """The session in which this client believes at this moment."""
        core = None if self._client is None else self._client._core
        return None if core is None or not core.is_alive(core.session) else core.session.id

    def kill(self) -> None:
        """End the process without a word; it is started again, in a session of its own."""
        if self.process is not None:
            self.process.kill()

    def _died(self) -> None:
        self.process = self._client = self._objects = None
        self.impatient.clear()
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


def _watch_callers(
    exchange: Exchange, impatient: set[asyncio.Future[Any]], on_given_up: Callable[[Call], None]
) -> None:
    """Cancel those callers that are to be cancelled between their answer and their next step."""
    callers: dict[Call, asyncio.Future[Any] | None] = {}
    start, deliver, give_up = exchange._start, exchange._deliver, exchange._give_up

    def watched_start(*arguments: Any) -> Call:
        call = start(*arguments)
        task = asyncio.current_task()
        if task in impatient:
            callers[call] = task
        return call

    def watched_deliver(call: Call, code: int, payload: Any) -> None:
        deliver(call, code, payload)
        task = callers.pop(call, None)
        if task is not None:
            task.cancel()

    def watched_give_up(call: Call) -> None:
        on_given_up(call)
        give_up(call)

    setattr(exchange, "_start", watched_start)  # noqa: B010
    setattr(exchange, "_deliver", watched_deliver)  # noqa: B010
    setattr(exchange, "_give_up", watched_give_up)  # noqa: B010
