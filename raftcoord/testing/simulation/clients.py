"""The clients of a run: real `raftcoord.aio` clients in their own processes, and the record of their calls.

Invariants:
  1. Every call is recorded before it is made, and its outcome only once, as its caller learned it.
  2. What a caller cannot know (killed, cancelled, indeterminate) is recorded as unknown, never as failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from raftcoord import aio
from raftcoord.client.calls import Call
from raftcoord.client.connection import Connection
from raftcoord.client.core import Core
from raftcoord.client.exchange import Exchange
from raftcoord.protocol.errors import Code, NotApplied, NotHolder, RaftcoordError, Rejected
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_name
from raftcoord.runtime import Runtime
from raftcoord.testing.simulation.disk import HostDisk, ProcessDisk
from raftcoord.testing.simulation.hosts import SimRng
from raftcoord.testing.simulation.network import HostNetwork, SimNetwork
from raftcoord.testing.simulation.oracle import Oracle
from raftcoord.testing.simulation.process import Process, SimClock
from raftcoord.testing.simulation.scenario import ClientPlan, Step
from raftcoord.testing.simulation.scheduler import Event, Scheduler, stream
from raftcoord.testing.simulation.violation import Violation

RESTART_S: Final = 0.2
REST_POLL_S: Final = 0.02
REST_POLLS_MAX: Final = 100
CALLS_AFTER_HEAL: Final = 5  # of each thread: enough to see that everything works again


class Outcome(Enum):
    """What a caller knows of its call."""

    OPEN = "open"
    OK = "ok"
    FAILED = "failed"  # it certainly had no effect
    UNKNOWN = "unknown"


@dataclass(slots=True, eq=False)
class Record:
    """One call as its caller saw it. Times are the world's, in seconds."""

    client: str
    incarnation: int
    thread: int
    kind: str
    name: str
    argument: Any
    call_at: float
    session: int | None = None
    return_at: float = float("inf")
    outcome: Outcome = Outcome.OPEN
    result: Any = None

    def __repr__(self) -> str:
        return (
            f"<{self.client}#{self.incarnation}.{self.thread} {self.kind} {self.name} {self.argument!r} "
            f"{self.call_at:.4f}..{self.return_at:.4f} {self.outcome.value} {self.result!r:.60}>"
        )


class Objects:
    """The handles of one client process."""

    def __init__(self, client: aio.Client) -> None:
        self._client = client
        self.variables: dict[str, aio.Variable] = {}
        self.queues: dict[str, aio.Queue] = {}
        self.locks: list[aio.Lock] = []
        self.read: dict[str, Any] = {}  # what was read last, for compare_and_set

    def variable(self, name: str) -> aio.Variable:
        """Return the handle of a variable."""
        if name not in self.variables:
            self.variables[name] = aio.Variable(name, client=self._client)
        return self.variables[name]

    def queue(self, name: str) -> aio.Queue:
        """Return the handle of a queue; a name that ends with digits after "bounded" has that maxsize."""
        if name not in self.queues:
            _, _, bound = name.partition("bounded")
            self.queues[name] = aio.Queue(name, maxsize=int(bound or 0), client=self._client)
        return self.queues[name]

    def lock(self, name: str) -> aio.Lock:
        """Return a new handle of a lock: each use has its own."""
        lock = aio.Lock(name, client=self._client)
        self.locks.append(lock)
        return lock


class _Caller:
    """One thread of calls of one client process."""

    def __init__(self, host: ClientHost, objects: Objects, thread: int) -> None:
        self._host, self._objects, self._thread = host, objects, thread

    async def run(self) -> None:
        """Make the calls that are left, one after the other."""
        host, steps = self._host, self._host.plan.threads[self._thread]
        left = len(steps)
        while host.positions[self._thread] < len(steps) and left:
            left = min(left, CALLS_AFTER_HEAL) - 1 if host.is_hurrying else left
            position = host.positions[self._thread]
            host.positions[self._thread] += 1
            step = steps[position]
            await asyncio.sleep(step.think_ms / 1000)
            value = f"{host.name}.{self._thread}.{position}".ljust(step.size, "-")
            await STEPS[step.kind](self, step, value)

    async def call(self, step: Step, kind: str, argument: Any, work: Awaitable[Any]) -> Record:
        """Make one call and record it; its result is in the record."""
        host = self._host
        record = host.new_record(self._thread, kind, step.name, argument)
        task = asyncio.ensure_future(work)
        if step.cancel_at_answer:
            host.impatient.add(task)
        giving_up: asyncio.TimerHandle | None = None
        if step.cancel_ms is not None:
            giving_up = asyncio.get_running_loop().call_later(step.cancel_ms / 1000, task.cancel)
        try:
            record.result = await task
            record.outcome = Outcome.OK
        except NotApplied:
            record.outcome = Outcome.FAILED
        except Rejected as error:
            record.outcome, record.result = Outcome.OK, error
        except (RaftcoordError, asyncio.CancelledError):
            record.outcome = Outcome.UNKNOWN
        finally:
            if giving_up is not None:
                giving_up.cancel()
        record.return_at = host.now
        record.session = host.session_id
        host.on_return(record)
        return record

    # Variables.

    async def set(self, step: Step, value: str) -> None:
        await self.call(step, "set", value, self._objects.variable(step.name).set(value))

    async def get(self, step: Step, value: str) -> None:
        variable = self._objects.variable(step.name)
        record = await self.call(step, "get", None, variable.get_versioned(_seconds(step)))
        if record.outcome is Outcome.OK:
            self._objects.read[step.name] = record.result

    async def compare_and_set(self, step: Step, value: str) -> None:
        seen = self._objects.read.get(step.name)
        expected = aio.UNSET if seen is None else seen.value
        work = self._objects.variable(step.name).compare_and_set(expected, value)
        await self.call(step, "compare_and_set", (expected, value), work)

    async def compare_revision_and_set(self, step: Step, value: str) -> None:
        seen = self._objects.read.get(step.name)
        revision = 0 if seen is None else seen.revision
        work = self._objects.variable(step.name).compare_and_set(value=value, revision=revision)
        await self.call(step, "compare_revision_and_set", (revision, value), work)

    async def add(self, step: Step, value: str) -> None:
        await self.call(step, "add", step.count, self._objects.variable(step.name).add(step.count))

    async def delete(self, step: Step, value: str) -> None:
        await self.call(step, "delete", None, self._objects.variable(step.name).delete())

    async def watch(self, step: Step, value: str) -> None:
        seen = self._objects.read.get(step.name)
        revision = 0 if seen is None else seen.revision
        work = self._objects.variable(step.name).next_change(revision, _seconds(step))
        await self.call(step, "watch", revision, work)

    # Queues.

    async def put(self, step: Step, value: str) -> None:
        await self.call(step, "put", [value], self._objects.queue(step.name).put(value, _seconds(step)))

    async def put_many(self, step: Step, value: str) -> None:
        values = [f"{value}.{number}" for number in range(step.count)]
        work = self._objects.queue(step.name).put_many(values, _seconds(step))
        await self.call(step, "put", values, work)

    async def take(self, step: Step, value: str) -> None:
        await self.call(step, "take", 1, self._objects.queue(step.name).get(_seconds(step)))

    async def take_batch(self, step: Step, value: str) -> None:
        work = self._objects.queue(step.name).get(_seconds(step), batch=step.count)
        await self.call(step, "take_batch", step.count, work)

    async def drain(self, step: Step, value: str) -> None:
        await self.call(step, "drain", None, self._objects.queue(step.name).get(batch=True))

    async def qsize(self, step: Step, value: str) -> None:
        await self.call(step, "qsize", None, self._objects.queue(step.name).qsize())

    async def close_queue(self, step: Step, value: str) -> None:
        await self.call(step, "close_queue", None, self._objects.queue(step.name).close())

    # Locks.

    async def lock(self, step: Step, value: str) -> None:
        lock = self._objects.lock(step.name)
        record = await self.call(step, "acquire", step.timeout_ms != 0, lock.acquire(timeout=_seconds(step)))
        if record.outcome is not Outcome.OK or not record.result:
            self._objects.locks.remove(lock)
            return
        try:
            record.result = lock.fence
        except RaftcoordError:  # lost before it could be looked at
            record.outcome, record.return_at = Outcome.UNKNOWN, float("inf")
        await asyncio.sleep(step.hold_ms / 1000)
        await self.call(step, "release", record.result, self._release(lock))
        self._objects.locks.remove(lock)

    async def _release(self, lock: aio.Lock) -> None:
        try:
            await lock.release()
        except NotHolder as error:
            self._host.fail(Violation("locks", f"{self._host.name}: a release of a held lock: {error}"))

    async def locked(self, step: Step, value: str) -> None:
        lock = self._objects.lock(step.name)
        await self.call(step, "locked", None, lock.locked())
        self._objects.locks.remove(lock)


STEPS: Final[dict[str, Callable[[_Caller, Step, str], Awaitable[None]]]] = {
    "set": _Caller.set,
    "get": _Caller.get,
    "compare_and_set": _Caller.compare_and_set,
    "compare_revision_and_set": _Caller.compare_revision_and_set,
    "add": _Caller.add,
    "delete": _Caller.delete,
    "watch": _Caller.watch,
    "put": _Caller.put,
    "put_many": _Caller.put_many,
    "take": _Caller.take,
    "take_batch": _Caller.take_batch,
    "drain": _Caller.drain,
    "qsize": _Caller.qsize,
    "close_queue": _Caller.close_queue,
    "lock": _Caller.lock,
    "locked": _Caller.locked,
}


def _seconds(step: Step) -> float | None:
    return None if step.timeout_ms is None else step.timeout_ms / 1000


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
        self._objects = objects = Objects(client)
        callers = [_Caller(self, objects, thread).run() for thread in range(len(self.plan.threads))]
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
        if not call.wait:
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

    def believes_to_hold(self, name: bytes) -> list[int]:
        """Return the fences with which this client, at this moment, takes itself for the holder of a lock."""
        fences: list[int] = []
        for lock in self._objects.locks if self._objects is not None else ():
            hold = lock._hold
            if hold is not None and pack_name(lock.name) == name and hold.is_alive():
                fences.append(hold.fence)
        return fences


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
