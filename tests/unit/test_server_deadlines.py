"""The lazy timer heap under the session clock and the silence timeouts."""

from __future__ import annotations

from dataclasses import dataclass

from server_harness import LoopClock, jumping_loop, let_pass, run

from raftcoord.server.deadlines import REVISIT_S, STALL_GRACE_S, STALL_S, Deadlines


@dataclass(slots=True)
class Item:
    name: str
    deadline: float | None


class Watch:
    """A heap and what it reported, with the times."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.reported: list[tuple[str, float]] = []
        self.deadlines: Deadlines[Item] = Deadlines(self.clock, lambda item: item.deadline, self._due)
        self.start = self.clock.now()

    def _due(self, items: list[Item]) -> None:
        self.reported += [(item.name, self.clock.now() - self.start) for item in items]

    def add(self, name: str, after_s: float) -> Item:
        item = Item(name, self.clock.now() + after_s)
        self.deadlines.add(item)
        return item


def test_items_are_reported_in_order_and_never_early() -> None:
    async def scenario() -> None:
        watch = Watch()
        for name, after_s in (("late", 3.0), ("early", 1.0), ("middle", 2.0)):
            watch.add(name, after_s)
        await let_pass(10)
        assert [name for name, _ in watch.reported] == ["early", "middle", "late"]
        assert all(at >= due for (_, at), due in zip(watch.reported, (1.0, 2.0, 3.0), strict=True))

    run(scenario())


def test_a_renewed_item_waits_for_its_new_deadline() -> None:
    async def scenario() -> None:
        watch = Watch()
        item = watch.add("renewed", 1.0)
        for _ in range(5):
            await let_pass(0.8)
            item.deadline = watch.clock.now() + 1.0
        assert watch.reported == []
        await let_pass(2)
        assert [name for name, _ in watch.reported] == ["renewed"]
        assert watch.reported[0][1] >= 5.0

    run(scenario())


def test_forgotten_items_leave_the_heap_long_before_a_far_deadline() -> None:
    async def scenario() -> None:
        watch = Watch()
        item = watch.add("forgotten", 3600.0)
        item.deadline = None
        await let_pass(REVISIT_S + 1)
        assert "items=0 timer=off" in repr(watch.deadlines)
        assert watch.reported == []

    run(scenario())


def test_a_far_deadline_is_kept_over_many_visits() -> None:
    async def scenario() -> None:
        watch = Watch()
        watch.add("far", 10 * REVISIT_S)
        await let_pass(9 * REVISIT_S)
        assert watch.reported == []
        await let_pass(2 * REVISIT_S)
        assert [name for name, _ in watch.reported] == ["far"]

    run(scenario())


def test_after_a_stall_there_is_time_to_renew() -> None:
    async def scenario() -> None:
        watch = Watch()
        renewed, silent = watch.add("renewed", 1.0), watch.add("silent", 1.0)
        jumping_loop().stall(60.0)
        await let_pass(STALL_GRACE_S / 2)
        assert watch.reported == []
        renewed.deadline = watch.clock.now() + 1.0
        await let_pass(STALL_GRACE_S)
        assert [name for name, _ in watch.reported] == [silent.name]

    run(scenario())


def test_a_loop_that_is_always_late_still_makes_progress() -> None:
    async def scenario() -> None:
        watch = Watch()
        watch.add("due", 1.0)
        for _ in range(4):
            jumping_loop().stall(STALL_S * 20)
            await let_pass(0)
            await let_pass(0)
        assert [name for name, _ in watch.reported] == ["due"]

    run(scenario())


def test_clear_stops_everything() -> None:
    async def scenario() -> None:
        watch = Watch()
        watch.add("gone", 1.0)
        watch.deadlines.clear()
        await let_pass(5)
        assert watch.reported == []

    run(scenario())
