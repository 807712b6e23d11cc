"""The parts of the demonstration: how each is set up, when the leader is killed, and what must come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from raftcoord import Queue, Variable
from raftcoord.demo import tasks

WORKERS: Final = 10
ITEMS: Final = 10_000
POWERS: Final = [1, 32, 243, 1024, 3125, 7776, 16807, 32768, 59049, 100000]
_NUMBERS: Final = range(1, WORKERS + 1)
_HALF: Final = WORKERS // 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What came out of a part, and whether it is what must come out."""

    holds: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part.

    The leader is killed when `progress()` reaches `kill_at` of `total`. Until then `tokens_before_kill`
    workers may run; the others start right after, into the failover.
    """

    title: str
    task: Callable[[int], Any]
    set_up: Callable[[], None]
    check: Callable[[Sequence[Any]], Finding]
    tokens_before_kill: int = _HALF
    kill_at: int = _HALF
    total: int = WORKERS
    progress: Callable[[], int] | None = None  # None counts the workers that are done


def _set_y() -> None:
    Variable("y").set(5)


def _check_powers(results: Sequence[Any]) -> Finding:
    return Finding(results == POWERS, f"{results}")


def _check_failures(results: Sequence[Any]) -> Finding:
    messages = Counter(Queue("failures").get(timeout=0, batch=True))
    expected = Counter(
        f"{x} ** 5 Failed : unsupported operand type(s) for ** or pow(): 'int' and 'str'"
        for x in _NUMBERS
        if x % 2
    )
    powers_hold = results == [None if x % 2 else POWERS[x - 1] for x in _NUMBERS]
    example = min(messages, default="no message")
    return Finding(messages == expected and powers_hold, f'{messages.total()} messages such as "{example}"')


def _reset_counter() -> None:
    Variable("counter").set(1)


def _counter_progress() -> int:
    return int(Variable("counter").get(timeout=0)) - 1


def _check_racy(results: Sequence[Any]) -> Finding:
    final = int(Variable("counter").get(timeout=0))
    # Any number of updates may be lost here, but a value that nobody wrote would be a fault of the store.
    holds = len(results) == WORKERS and final in results
    return Finding(holds, f"{WORKERS} increments of 1 gave {final}: {WORKERS + 1 - final} lost, as expected")


def _check_counted(results: Sequence[Any]) -> Finding:
    final = int(Variable("counter").get(timeout=0))
    holds = sorted(results) == list(range(2, WORKERS + 2)) and final == WORKERS + 1
    return Finding(holds, f"returned {sorted(results)}")


def _fill_queue() -> None:
    queue: Queue = Queue("items")
    queue.put_many(list(range(1, ITEMS + 1)))
    queue.put_many([tasks.END_OF_ITEMS] * WORKERS)


def _drain_progress() -> int:
    return ITEMS - int(Queue("items").qsize())


def _check_drained(results: Sequence[Any]) -> Finding:
    seen = Counter(item for taken in results for item in taken)
    doubled = seen.total() - len(seen)
    missing = len(set(range(1, ITEMS + 1)) - seen.keys())
    strange = len(seen.keys() - set(range(1, ITEMS + 1)))
    shares = sorted(len(taken) for taken in results)
    text = (
        f"{seen.total():,} items, {missing} missing, {doubled} doubled; {shares[0]:,} to {shares[-1]:,} each"
    )
    return Finding(not (missing or doubled or strange), text)


PARTS: Final = (
    Part(
        title="x ** y with the global variable y = 5",
        task=tasks.power,
        set_up=_set_y,
        check=_check_powers,
    ),
    Part(
        title='odd x raised to the text "5": failures in a queue',
        task=tasks.power_of_text,
        set_up=lambda: None,
        check=_check_failures,
    ),
    Part(
        title="a shared counter without a lock",
        task=tasks.increment_without_lock,
        set_up=_reset_counter,
        check=_check_racy,
    ),
    Part(
        title="a shared counter under a lock",
        task=tasks.increment_under_lock,
        set_up=_reset_counter,
        check=_check_counted,
        tokens_before_kill=WORKERS,
        progress=_counter_progress,
    ),
    Part(
        title="a shared counter with atomic add",
        task=tasks.add,
        set_up=_reset_counter,
        check=_check_counted,
    ),
    Part(
        title=f"a queue of 1…{ITEMS:,} drained without a lock",
        task=tasks.drain,
        set_up=_fill_queue,
        check=_check_drained,
        tokens_before_kill=WORKERS,
        kill_at=ITEMS // 2,
        total=ITEMS,
        progress=_drain_progress,
    ),
)
