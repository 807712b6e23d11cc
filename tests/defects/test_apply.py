"""Every committed entry is applied once on every replica, whatever apply or a callback does."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Kind, both, judge, our, stock, world
from pysyncobj import replicated
from stock import StockCore
from world import Fate, World, diverged

from raftcoord.consensus.interface import NotCommitted, Outcome
from raftcoord.consensus.proposals import WAITING_MAX


class Boom(Exception):
    """What a careless callback raises."""


def run_through_errors(world: World, seconds: float) -> None:
    for _ in range(int(seconds / 0.11)):
        world.advance(0.11)
        for name in sorted(world.alive):
            try:
                world.run(name)
            except (Boom, RuntimeError):
                continue
        world.deliver_all()


def poisoned(world: World, kind: Kind) -> list[str]:
    """Applying one entry raises, half way through its effects, on every replica."""
    world.elect("A")
    for name in "ABC":
        values = our(world[name]).state_machine if kind is Kind.OURS else stock(world[name]).core
        values.poison = b"poison"
    (write,) = world.write("A", b"poison")
    run_through_errors(world, 3)
    times = world["A"].applied.count(b"partial")
    assert not write.is_acked
    problems = [f"half applied {times} times"] if times > 1 else []
    if kind is Kind.OURS:
        # It stops at once, tells its owner, and says that it does not know the outcome.
        assert times == 1
        assert [str(error) for error in our(world["A"]).failures] == ["poison"]
        assert write.answers == [Fate.UNKNOWN]
    elif not write.answers:
        problems.append("the client is never told")
    return problems


@both
def test_07a_an_entry_that_cannot_be_applied_stops_the_replica(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        judge(kind, poisoned(running, kind))


def careless_callback(world: World, kind: Kind) -> list[str]:
    world.elect("A")

    def raise_boom(*_: object) -> None:
        raise Boom

    if kind is Kind.OURS:
        world.loop.call_soon(our(world["A"]).engine.propose, b"once", raise_boom)
    else:
        with stock(world["A"]).running():
            stock(world["A"]).core.put(b"once", callback=raise_boom)
    run_through_errors(world, 2)
    if kind is Kind.OURS:
        # A callback that raises is a bug of the replica's own: it stops, and the others go on.
        assert [type(error) for error in our(world["A"]).failures] == [Boom]
        world.elect("B", "BC")
    problems = diverged(world["A"], world["B"], world["C"])
    return problems + [
        f"{name} applied it {world[name].applied.count(b'once')} times"
        for name in "ABC"
        if world[name].applied.count(b"once") != 1
    ]


@both
def test_07b_a_callback_that_raises_applies_nothing_twice(kind: Kind, tmp_path: Path) -> None:
    with world(kind, tmp_path) as running:
        judge(kind, careless_callback(running, kind))


class _NewerCore(StockCore):
    @replicated(ver=1)  # type: ignore[untyped-decorator]
    def newer(self) -> None:
        """Only a newer release has this."""


@both
def test_07e_an_entry_of_an_unknown_kind_shifts_nothing(kind: Kind, tmp_path: Path) -> None:
    """C is older than the others and does not know one kind of entry."""
    with pytest.MonkeyPatch.context() as patch, world(kind, tmp_path) as running:
        if kind is Kind.STOCK:
            for name in "AB":
                patch.setattr(stock(running[name]), "core_class", _NewerCore)
                running.crash(name)
                running.restart(name)
            running.join()
        running.elect("A")
        if kind is Kind.STOCK:
            with stock(running["A"]).running():
                stock(running["A"]).core.setCodeVersion(1)
        else:
            our(running["A"]).core.append(b"\x7fan entry of a release to come")
        running.write("A", b"first", b"second")
        running.settle(2)
        assert running["A"].applied == [b"first", b"second"]
        judge(kind, [] if running["C"].applied == [b"first", b"second"] else [f"C: {running['C'].applied}"])


def test_07f_the_stock_library_raises_for_what_it_has_queued(tmp_path: Path) -> None:
    with world(Kind.STOCK, tmp_path, "A", stock={"appendEntriesUseBatch": False}) as running:
        core = stock(running["A"]).core
        tried: list[int] = []

        def submit() -> None:
            for number in range(90_000):
                tried.append(number)
                core._applyCommand(b"\x01", None)

        with pytest.raises(BlockingIOError):
            submit()
        assert len(core._SyncObj__commandsQueue._FastQueue__queue) == len(tried)


def test_07f_proposals_beyond_the_bound_are_refused_and_the_others_kept(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path, "A") as running:
        running.elect("A")
        engine = our(running["A"]).engine
        answers: list[Outcome] = []
        count = WAITING_MAX + 10

        def submit() -> None:
            for _ in range(count):
                engine.propose(b"x", answers.append)

        running.loop.call_soon(submit)
        running.drain(20)
        running.settle(3)
        assert len(answers) == count
        assert sum(isinstance(answer, NotCommitted) for answer in answers) == 10
        assert len(running["A"].applied) == WAITING_MAX


def test_commands_are_never_forwarded_between_replicas(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path) as running:
        running.elect("A")
        (write,) = running.write("B", b"value")
        running.settle(1)
        assert write.answers == [Fate.REFUSED]
        assert not any(kind.startswith("apply_command") for _, _, kind in running.sent)
