"""Simulated processes: iterations, clocks, what asyncio needs of the loop, and the ways of ending."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from little_world import START_S, finish, new_process, pass_time

from raftcoord.testing.simulation.process import ITERATION_S, SimClock
from raftcoord.testing.simulation.scheduler import Scheduler
from raftcoord.testing.simulation.violation import Violation


class TestIterations:
    """What runs when, and in which order."""

    def test_what_is_ready_runs_in_order_and_what_it_adds_in_the_next_iteration(self) -> None:
        scheduler = Scheduler()
        seen: list[str] = []
        process = new_process(scheduler, after_iteration=lambda: seen.append("|"))

        def first() -> None:
            seen.append("a")
            process.loop.call_soon(seen.append, "d")

        process.loop.call_soon(first)
        process.loop.call_soon(seen.append, "b")
        process.loop.call_soon(seen.append, "c")
        pass_time(scheduler, 1)
        assert "".join(seen) == "abc|d|"

    def test_iterations_take_time(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler)
        times: list[float] = []

        def again() -> None:
            times.append(scheduler.now)
            if len(times) < 50:
                process.loop.call_soon(again)

        process.loop.call_soon(again)
        pass_time(scheduler, 1)
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert len(gaps) == 49
        assert ITERATION_S[0] <= min(gaps) < max(gaps) <= ITERATION_S[1]

    def test_timers_run_by_time_then_by_plan_behind_what_is_ready(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler)
        seen: list[str] = []
        now = process.loop.time()
        process.loop.call_at(now + 0.2, seen.append, "c")
        process.loop.call_at(now + 0.1, seen.append, "a")
        process.loop.call_at(now + 0.1, seen.append, "b")
        process.loop.call_later(0.15, seen.append, "cancelled").cancel()
        process.loop.call_later(5, seen.append, "late")
        scheduler.at(0.3, process.resume)
        process.pause()
        process.loop.call_soon(seen.append, "ready")
        pass_time(scheduler, 1)
        assert seen == ["ready", "a", "b", "c"]

    def test_timers_are_never_early(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler, rate=0.777)
        early: list[float] = []

        def look(due_s: float) -> None:
            if process.loop.time() < due_s:
                early.append(due_s)

        for number in range(200):
            due_s = process.loop.time() + number / 77
            process.loop.call_at(due_s, look, due_s)
        pass_time(scheduler, 20)
        assert early == []
        assert scheduler.steps <= 200  # and none was woken for nothing

    def test_an_earlier_wake_replaces_a_later_one(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler)
        seen: list[float] = []

        def add() -> None:
            process.loop.call_soon(lambda: seen.append(scheduler.now))

        process.loop.call_later(3, lambda: seen.append(scheduler.now))
        scheduler.at(1, add)
        pass_time(scheduler, 2)
        process.loop.call_later(0.5, lambda: seen.append(scheduler.now))
        pass_time(scheduler, 5)
        assert seen == pytest.approx([1, 2.5, 3], abs=1e-4)

    def test_processes_take_turns_and_each_sees_its_own_loop(self) -> None:
        scheduler = Scheduler()
        loops: list[tuple[str, Any]] = []
        processes = {name: new_process(scheduler, name) for name in "abc"}

        async def work(name: str) -> None:
            for _ in range(20):
                loops.append((name, asyncio.get_running_loop()))
                await asyncio.sleep(0)
                loops.append((name, asyncio.get_running_loop()))
                await asyncio.sleep(0.00001)

        for name, process in processes.items():
            process.spawn(work(name))
        pass_time(scheduler, 1)
        assert len(loops) == 120
        assert all(loop is processes[name].loop for name, loop in loops)
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()

    def test_blocking_work_delays_the_next_iteration(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler, rate=0.5)
        seen: list[tuple[float, float]] = []

        def look() -> None:
            seen.append((scheduler.now, process.loop.time() - START_S))

        def block() -> None:
            process.clock.elapsed_s += 2
            seen.append((process.now, process.loop.time() - START_S))
            process.loop.call_soon(look)
            process.loop.call_later(0.1, look)

        process.loop.call_soon(block)
        pass_time(scheduler, 10)
        assert seen[0] == (2.0, 1.0)
        assert [at for pair in seen[1:] for at in pair] == pytest.approx([2, 1, 2.2, 1.1], abs=1e-3)
        assert process.clock.elapsed_s == 0


class TestClock:
    """One host's time against the world's."""

    def test_a_clock_has_a_rate(self) -> None:
        scheduler = Scheduler()
        scheduler.run(7)
        clock = SimClock(scheduler, start_s=50, rate=1.25)
        scheduler.run(11)
        assert clock.now() == 55
        assert clock.world_time(60) == 15

    def test_a_jump_skips_time_once(self) -> None:
        scheduler = Scheduler()
        clock = SimClock(scheduler, start_s=0, rate=2)
        scheduler.run(1)
        clock.elapsed_s = 0.5
        clock.jump(10)
        clock.elapsed_s = 0
        scheduler.run(2)
        assert (clock.now(), clock.world_time(15)) == (14, 2.5)

    def test_sleep_follows_the_process_clock(self) -> None:
        scheduler = Scheduler()
        finish(new_process(scheduler, rate=4), asyncio.sleep(2))
        assert scheduler.now == pytest.approx(0.5, abs=1e-3)

    def test_timers_follow_a_jump(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler)
        seen: list[float] = []
        for delay_s in (3, 9):
            process.loop.call_later(delay_s, lambda: seen.append(scheduler.now))
        pass_time(scheduler, 1)
        process.clock.jump(5)
        process.clock_jumped()
        pass_time(scheduler, 10)
        assert seen == pytest.approx([1, 4], abs=1e-3)


async def _event_and_lock() -> list[str]:
    seen: list[str] = []
    event, lock = asyncio.Event(), asyncio.Lock()

    async def other() -> None:
        async with lock:
            seen.append("other holds")
            await asyncio.sleep(1)
            event.set()
        seen.append("other is done")

    task = asyncio.ensure_future(other())
    await asyncio.sleep(0.1)
    assert lock.locked()
    async with lock:
        seen.append("mine")
    await event.wait()
    await task
    return seen


async def _gather() -> list[Any]:
    async def after(delay_s: float, value: int) -> int:
        await asyncio.sleep(delay_s)
        if value < 0:
            raise ValueError(value)
        return value

    results = await asyncio.gather(after(0.3, 1), after(0.1, -2), after(0.2, 3), return_exceptions=True)
    return [repr(result) for result in results]


async def _timeout() -> float:
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.Event().wait()
    async with asyncio.timeout(5):
        await asyncio.sleep(0.25)
    return round(asyncio.get_running_loop().time() - began, 2)


async def _wait_for() -> list[object]:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    asyncio.get_running_loop().call_later(0.1, queue.put_nowait, 7)
    first = await asyncio.wait_for(queue.get(), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 1)
    return [first, queue.empty()]


async def _task_group_and_cancel() -> list[str]:
    seen: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append(name)
            raise

    async def failing() -> None:
        await asyncio.sleep(0.1)
        raise ValueError

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(work("in the group"))
            group.create_task(failing())

    with pytest.raises(ExceptionGroup):
        await together()
    task = asyncio.ensure_future(work("by hand"))
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task])
    return [*seen, str(done.pop().cancelled())]


async def _shield_and_future() -> list[object]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()
    loop.call_soon_threadsafe(future.set_result, "set")
    inner = asyncio.ensure_future(asyncio.sleep(1, "inner"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(inner), 0.1)
    return [await future, await inner]


ASYNCIO: dict[str, tuple[Callable[[], Awaitable[Any]], Any]] = {
    "event and lock": (_event_and_lock, ["other holds", "other is done", "mine"]),
    "gather": (_gather, ["1", "ValueError(-2)", "3"]),
    "timeout": (_timeout, 0.75),
    "wait_for": (_wait_for, [7, True]),
    "task group and cancel": (_task_group_and_cancel, ["in the group", "by hand", "True"]),
    "shield and future": (_shield_and_future, ["set", "inner"]),
}


@pytest.mark.parametrize(("work", "result"), ASYNCIO.values(), ids=ASYNCIO)
def test_asyncio_works_on_simulated_time(work: Callable[[], Any], result: Any) -> None:
    process = new_process(Scheduler())
    assert finish(process, work()) == result
    pass_time(process.scheduler, 1)
    assert process.tasks == {}


class TestPause:
    """As SIGSTOP and SIGCONT."""

    def test_a_paused_process_runs_nothing_until_it_is_resumed(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler)
        seen: list[tuple[str, float]] = []

        def see(name: str) -> None:
            seen.append((name, round(scheduler.now, 3)))

        process.loop.call_later(2, see, "due in the pause")
        process.loop.call_later(8, see, "due later")
        pass_time(scheduler, 1)
        process.pause()
        process.loop.call_soon(see, "ready")
        pass_time(scheduler, 4)
        assert seen == []
        process.resume()
        process.resume()
        pass_time(scheduler, 5)
        assert seen == [("ready", 5), ("due in the pause", 5), ("due later", 8)]
        assert process.loop.time() == START_S + 10

    def test_a_process_may_pause_itself_to_the_end_of_its_iteration(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler)
        seen: list[str] = []
        process.loop.call_soon(process.pause)
        process.loop.call_soon(process.loop.call_soon, seen.append, "after")
        pass_time(scheduler, 1)
        assert seen == []
        process.resume()
        pass_time(scheduler, 1)
        assert seen == ["after"]


class TestKill:
    """As SIGKILL: of what is killed nothing runs any more."""

    def test_nothing_runs_any_more_not_even_what_cleans_up(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler)
        seen: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(5)
            finally:
                seen.append("cleaned up")

        process.on_death.append(lambda: seen.append("died"))
        process.spawn(work())
        process.loop.call_later(2, seen.append, "timer")
        pass_time(scheduler, 1)
        process.loop.call_soon(seen.append, "ready")
        process.kill()
        process.kill()
        process.resume()
        process.loop.call_soon(seen.append, "call_soon")
        process.loop.call_later(0.1, seen.append, "call_later")
        pass_time(scheduler, 10)
        assert seen == ["died"]
        assert "dead" in repr(process)

    def test_killed_from_its_own_code_it_ends_with_that_code(self) -> None:
        scheduler = Scheduler()
        iterations: list[str] = []
        process = new_process(scheduler, after_iteration=lambda: iterations.append("iteration"))
        seen: list[str] = []

        def die() -> None:
            process.kill()
            seen.append("rest of the callback")
            process.loop.call_soon(seen.append, "planned when dead")

        def died() -> None:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            seen.append("died")

        process.on_death.append(died)
        process.loop.call_soon(die)
        process.loop.call_soon(seen.append, "behind it in the iteration")
        pass_time(scheduler, 1)
        assert seen == ["rest of the callback", "died"]
        assert iterations == []

    def test_an_exception_that_leaves_the_code_of_the_dead_is_of_no_interest(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler)
        deaths: list[int] = []
        process.on_death.append(lambda: deaths.append(1))

        async def die() -> None:
            await asyncio.sleep(0.1)
            process.kill()
            raise BaseException("power failure")

        process.spawn(die())
        pass_time(scheduler, 1)
        assert deaths == [1]

    def test_the_others_live_on(self) -> None:
        scheduler = Scheduler()
        one, other = new_process(scheduler, "one"), new_process(scheduler, "other")
        one.spawn(asyncio.sleep(5))
        scheduler.at(1, one.kill)
        assert finish(other, asyncio.sleep(3, "alive")) == "alive"


class TestUnhandled:
    """What nobody handles is a bug in what is simulated."""

    def test_in_a_callback(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler, "r7")
        process.loop.call_soon(int, "no number")
        with pytest.raises(Violation, match=r"r7.*no number") as caught:
            pass_time(scheduler, 1)
        assert caught.value.invariant == "no unhandled exception"
        assert isinstance(caught.value.__cause__, ValueError)

    def test_in_a_task_that_nobody_waits_for(self) -> None:
        scheduler = Scheduler()
        process = new_process(scheduler)

        async def work() -> None:
            await asyncio.sleep(1)
            raise KeyError("lost")

        process.spawn(work())
        with pytest.raises(Violation, match="lost") as caught:
            pass_time(scheduler, 5)
        assert caught.value.invariant == "no unhandled exception"

    def test_what_somebody_waits_for_is_handled(self) -> None:
        async def work() -> None:
            raise KeyError("seen")

        process = new_process(Scheduler())
        with pytest.raises(KeyError):
            finish(process, work())
        pass_time(process.scheduler, 1)
