"""Simulated processes: each has an event loop and a clock of its own, and can be paused and killed.

A process runs as an asyncio program does: in iterations, each of which runs what was ready when it began.
Iterations take time: a little for the work itself, and what its blocking disk operations take. Within one
iteration the world stands still, but the clock of the process moves on, and what it sends leaves later.

Invariants:
  1. While code of a process runs, `asyncio.get_running_loop()` is its loop, and no other process runs.
  2. Of a process that is killed nothing runs any more, not even what would clean up.
  3. A paused process runs nothing; its clock goes on.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar, TypeVarTuple

from raftcoord.testing.simulation.scheduler import Scheduler
from raftcoord.testing.simulation.violation import Violation

ITERATION_S: Final = (5e-6, 40e-6)  # how long the work of one iteration takes

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class SimClock:
    """The monotonic clock of one host: it may run faster or slower than the world's, and jump ahead."""

    __slots__ = ("_local", "_rate", "_scheduler", "_since", "elapsed_s")

    def __init__(self, scheduler: Scheduler, *, start_s: float, rate: float) -> None:
        self._scheduler = scheduler
        self._local, self._since, self._rate = start_s, scheduler.now, rate
        self.elapsed_s = 0.0  # of the iteration that is under way, in the world's time

    def __repr__(self) -> str:
        return f"<SimClock now={self.now():.6f} rate={self._rate}>"

    def now(self) -> float:
        """Return the host's time in seconds."""
        return self._local + (self._scheduler.now + self.elapsed_s - self._since) * self._rate

    def world_time(self, local_s: float) -> float:
        """Return when, in the world's time, this clock will show `local_s`."""
        return self._since + (local_s - self._local) / self._rate

    def jump(self, forward_s: float) -> None:
        """Skip some time."""
        self._local, self._since = self.now() + forward_s, self._scheduler.now + self.elapsed_s


class Process:
    """One process on a host.

    Args:
        number: tells the processes of a world apart in the hash of the run.
        after_iteration: called after each iteration in which the process stayed alive.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        name: str,
        number: int,
        clock: SimClock,
        rng: random.Random,
        after_iteration: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.clock = clock
        self.scheduler = scheduler
        self.loop = ProcessLoop(self)
        self.is_alive = True
        self.is_paused = False
        self.on_kill: list[Callable[[], None]] = []  # called at once, in the middle of whatever it does
        self.on_death: list[Callable[[], None]] = []  # called when nothing of it runs any more
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._number = number
        self._rng = rng
        self._after_iteration = after_iteration
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._running = False
        self._busy_until = 0.0
        self._wake_at = float("inf")

    def __repr__(self) -> str:
        state = "paused" if self.is_paused else "alive" if self.is_alive else "dead"
        return f"<Process {self.name} {state} ready={len(self._ready)} timers={len(self._timers)}>"

    @property
    def now(self) -> float:
        """The world's time, as far as the iteration under way has got."""
        return self.scheduler.now + self.clock.elapsed_s

    # Life.

    def spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run a coroutine as a task of this process."""
        return self.loop.create_task(work)

    def pause(self) -> None:
        """Stop running, as SIGSTOP does."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on."""
        if self.is_paused:
            self.is_paused = False
            self._plan_next()

    def kill(self) -> None:
        """End at once, as SIGKILL does. Code of it that runs must then be left by an exception."""
        if not self.is_alive:
            return
        self.is_alive = False
        self._ready.clear()
        self._timers.clear()
        for function in self.on_kill:
            function()
        if not self._running:
            self._bury()

    def _is_dead(self) -> bool:
        return not self.is_alive

    def _bury(self) -> None:
        for function in self.on_death:
            function()

    # Running.

    def call_soon(self, handle: asyncio.Handle) -> None:
        """Have a handle run in the next iteration."""
        if not self.is_alive:
            return
        self._ready.append(handle)
        if not self._running:
            self._wake(self.scheduler.now)

    def call_at(self, handle: asyncio.TimerHandle) -> None:
        """Have a handle run when the process's clock shows its time."""
        if not self.is_alive:
            return
        self._timer_count += 1
        heapq.heappush(self._timers, (handle.when(), self._timer_count, handle))
        if not self._running:
            self._plan_next()

    def clock_jumped(self) -> None:
        """Timers may be due earlier than planned."""
        self._plan_next()

    def _wake(self, at: float) -> None:
        at = max(at, self._busy_until)
        if at < self._wake_at and not self.is_paused:
            self._wake_at = at
            self.scheduler.plan(at, self._iterate, at)

    def _plan_next(self) -> None:
        if self._ready:
            self._wake(self.scheduler.now)
            return
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if timers:
            # A little late, never early: rounding must not wake it before its time again and again.
            self._wake(self.clock.world_time(timers[0][0]) + 1e-9)

    def _run_ready(self, count: int) -> None:
        """Run so many handles, as long as the process lives."""
        ready = self._ready
        while count:
            count -= 1
            todo = ready.popleft()
            if not todo.cancelled():
                todo._run()
                if not self.is_alive:
                    return

    def _iterate(self, planned_at: float) -> None:
        if planned_at != self._wake_at or not self.is_alive:
            return  # another wake came first
        self._wake_at = float("inf")
        if self.is_paused:
            return
        ready, timers, clock = self._ready, self._timers, self.clock
        local_now = clock.now()
        while timers and timers[0][0] <= local_now:
            handle = heapq.heappop(timers)[2]
            if not handle.cancelled():
                ready.append(handle)
        self.scheduler.mix(self._number, len(ready))
        self._running = True
        events._set_running_loop(self.loop._as_loop)
        try:
            self._run_ready(len(ready))
        finally:
            events._set_running_loop(None)
            self._running = False
            took_s, clock.elapsed_s = clock.elapsed_s, 0.0
        if self._is_dead():
            self._bury()
            return
        low_s, high_s = ITERATION_S
        self._busy_until = self.scheduler.now + took_s + low_s + (high_s - low_s) * self._rng.random()
        if self._after_iteration is not None:
            self._after_iteration()
        self._plan_next()


class ProcessLoop:
    """What asyncio's tasks, futures and timeouts need of an event loop, and no more."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._as_loop: Any = self

    def __repr__(self) -> str:
        return f"<ProcessLoop of {self._process!r}>"

    def time(self) -> float:
        return self._process.clock.now()

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._as_loop, context)
        self._process.call_soon(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self._as_loop, context)
        self._process.call_at(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked by `TimerHandle.cancel`; cancelled ones are dropped when their time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self._as_loop)

    def create_task(
        self,
        coro: Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        task = asyncio.Task(coro, loop=self._as_loop, name=name, context=context)
        # Kept also when the process is dead: a task that is freed would run its clean-up code.
        self._process.tasks[task] = None
        task.add_done_callback(self._forget_task)
        return task

    def _forget_task(self, task: asyncio.Task[Any]) -> None:
        self._process.tasks.pop(task, None)

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody handles is a bug in what is simulated."""
        if self._process.is_alive:
            error = context.get("exception")
            text = f"{self._process.name}: {context.get('message')}: {error!r}"
            violation = Violation("no unhandled exception", text)
            violation.__cause__ = error
            self._process.scheduler.fail(violation)
