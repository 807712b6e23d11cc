"""One thread of calls of one client process: how a call is made and its outcome recorded.

What the calls are is in `calls_*.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from raftcoord.protocol.errors import NotApplied, RaftcoordError, Rejected
from raftcoord.testing.simulation.objects import Objects
from raftcoord.testing.simulation.records import Outcome, Record
from raftcoord.testing.simulation.scenario import ClientPlan, Step
from raftcoord.testing.simulation.violation import Violation

CALLS_AFTER_HEAL: Final = 5  # of each thread: enough to see that everything works again


class Host(Protocol):
    """What a caller asks of the host that it runs on."""

    name: str
    plan: ClientPlan
    positions: list[int]  # of each thread: how many steps were begun
    is_hurrying: bool
    resume_at: dict[tuple[int, str], int]  # thread, topic -> offset at which reading goes on after a restart

    impatient: set[asyncio.Future[Any]]  # cancelled in the moment in which they are answered

    @property
    def now(self) -> float: ...

    @property
    def session_id(self) -> int | None: ...

    @property
    def on_return(self) -> Callable[[Record], None]: ...

    def new_record(self, thread: int, kind: str, name: str, argument: Any) -> Record: ...

    def fail(self, violation: Violation) -> None: ...

    def kill(self) -> None: ...


class Caller:
    """One thread of calls.

    Args:
        work: what each kind of step does.
    """

    def __init__(self, host: Host, objects: Objects, thread: int, work: Mapping[str, Work]) -> None:
        self.host, self.objects, self.thread = host, objects, thread
        self._work = work

    async def run(self) -> None:
        """Make the calls that are left, one after the other."""
        host, steps = self.host, self.host.plan.threads[self.thread]
        left = len(steps)
        while host.positions[self.thread] < len(steps) and left:
            left = min(left, CALLS_AFTER_HEAL) - 1 if host.is_hurrying else left
            position = host.positions[self.thread]
            host.positions[self.thread] += 1
            step = steps[position]
            await asyncio.sleep(step.think_ms / 1000)
            value = f"{host.name}.{self.thread}.{position}".ljust(step.size, "-")
            await self._work[step.kind](self, step, value)

    async def call(self, step: Step, kind: str, argument: Any, work: Awaitable[Any]) -> Record:
        """Make one call and record it; its result is in the record."""
        record = self.host.new_record(self.thread, kind, step.name, argument)
        task = asyncio.ensure_future(work)
        if step.cancel_at_answer:
            self.host.impatient.add(task)
        giving_up: asyncio.TimerHandle | None = None
        if step.cancel_ms is not None:
            giving_up = asyncio.get_running_loop().call_later(step.cancel_ms / 1000, task.cancel)
        try:
            await self._learn(record, task)
        finally:
            if giving_up is not None:
                giving_up.cancel()
        self._close(record)
        return record

    async def call_here(self, step: Step, kind: str, argument: Any, work: Awaitable[Any]) -> Record:
        """Make one call in the caller's own task, and without giving it up."""
        record = self.host.new_record(self.thread, kind, step.name, argument)
        await self._learn(record, work)
        self._close(record)
        return record

    @staticmethod
    async def _learn(record: Record, work: Awaitable[Any]) -> None:
        try:
            record.result = await work
            record.outcome = Outcome.OK
        except NotApplied:
            record.outcome = Outcome.FAILED
        except Rejected as error:
            record.outcome, record.result = Outcome.OK, error
        except (RaftcoordError, asyncio.CancelledError):
            record.outcome = Outcome.UNKNOWN

    def _close(self, record: Record) -> None:
        record.return_at = self.host.now
        record.session = self.host.session_id
        self.host.on_return(record)

    def fail(self, invariant: str, text: str) -> None:
        """A promise is broken: end the run."""
        self.host.fail(Violation(invariant, f"{self.host.name}: {text}"))


Work: TypeAlias = Callable[[Caller, Step, str], Awaitable[None]]  # with a value that is its own


def seconds(step: Step) -> float | None:
    """Return the timeout of a step."""
    return None if step.timeout_ms is None else step.timeout_ms / 1000


def took(record: Record) -> bool:
    """Whether a call succeeded, and was not refused."""
    return record.outcome is Outcome.OK and not isinstance(record.result, Rejected)
