"""The checks of the state machines: the same log, once and in order, and the same outcome and state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from little_log import ONE, TWO, Falsify, V, entry, expiring, opening

from raftcoord.machine import Applied, Machine
from raftcoord.protocol.operations import Operation
from raftcoord.testing.simulation.oracle import Oracle
from raftcoord.testing.simulation.state_checks import DIGEST_EVERY, StateChecks
from raftcoord.testing.simulation.violation import Violation

ENTRIES = 3 * DIGEST_EVERY


def _payload(number: int) -> bytes:
    """Return the entry that is the `number`th one of the log: the first opens session 1, all others set."""
    if number == 0:
        return entry(opening(1))
    return entry([1, number, number - 1, int(Operation.VARIABLE_SET), V, ONE], now_ms=number)


def _index(number: int) -> int:
    """Return the index of an entry: there are no-ops between them."""
    return 2 + number + number // 5


class Replicas:
    """Machines "a" and "b", and the checks that are told of them."""

    def __init__(self) -> None:
        self.checks = StateChecks(Oracle())
        self.machines: dict[str, Machine] = {}
        for name in "ab":
            self.start(name)

    def start(self, name: str) -> None:
        self.machines[name] = Machine()
        self.checks.started(name)

    def apply(
        self,
        name: str,
        number: int,
        *,
        index: int | None = None,
        payload: bytes | None = None,
        falsify: Falsify = lambda applied: None,
    ) -> None:
        payload = _payload(number) if payload is None else payload
        applied = self.machines[name].apply_entry(payload)
        falsify(applied)
        index = _index(number) if index is None else index
        self.checks.on_applied(name, index, payload, applied, self.machines[name])

    def apply_all(self, name: str, first: int = 0, end: int = ENTRIES) -> None:
        for number in range(first, end):
            self.apply(name, number)

    def restore(self, name: str, number: int, *, change: Callable[[Machine], object] | None = None) -> None:
        """Give a replica a snapshot of what there is after so many entries."""
        other = Machine()
        for earlier in range(number):
            other.apply_entry(_payload(earlier))
        if change is not None:
            change(other)
        self.start(name)
        self.machines[name].restore(other.begin_snapshot())
        self.checks.on_restored(name, _index(number - 1), self.machines[name])


def _change(machine: Machine) -> None:
    machine.apply(0, [[1, 999, 0, int(Operation.VARIABLE_SET), b"other", TWO]])


def _rejected(invariant: str, function: Callable[[], object]) -> None:
    with pytest.raises(Violation) as caught:
        function()
    assert caught.value.invariant == invariant, caught.value


class TestOrder:
    """Every entry once and in order."""

    def test_replicas_may_be_at_different_points(self) -> None:
        replicas = Replicas()
        for number in range(ENTRIES):
            replicas.apply("a", number)
            if number >= 7:
                replicas.apply("b", number - 7)
        replicas.apply_all("b", ENTRIES - 7)
        replicas.checks.compare_snapshots(replicas.machines)
        assert replicas.checks.oracle.index == _index(ENTRIES - 1)

    def test_whoever_is_first_is_believed_only_if_it_goes_on(self) -> None:
        for index in (_index(4), _index(2)):
            replicas = Replicas()
            replicas.apply_all("a", 0, 5)
            _rejected(
                "applied once and in order",
                lambda replicas=replicas, index=index: replicas.apply("a", 5, index=index),  # type: ignore[misc]
            )

    @pytest.mark.parametrize("number", [2, 4], ids=["again", "one left out"])
    def test_another_entry_than_that_of_the_others(self, number: int) -> None:
        replicas = Replicas()
        replicas.apply_all("a")
        replicas.apply_all("b", 0, 3)
        _rejected("applied once and in order", lambda: replicas.apply("b", number))

    def test_a_restart_begins_from_the_start(self) -> None:
        replicas = Replicas()
        for name in ("a", "b", "a"):
            replicas.start(name)
            replicas.apply_all(name)

    def test_a_restart_that_does_not(self) -> None:
        replicas = Replicas()
        replicas.apply_all("a")
        replicas.start("a")
        _rejected("applied once and in order", lambda: replicas.apply("a", 3))


class TestOutcome:
    """The same entry is the same, and gives the same, on every replica."""

    def test_another_payload(self) -> None:
        replicas = Replicas()
        replicas.apply_all("a", 0, 3)
        replicas.apply_all("b", 0, 2)
        payload = entry([1, 2, 1, int(Operation.VARIABLE_SET), V, TWO], now_ms=2)
        _rejected("same log, same state", lambda: replicas.apply("b", 2, payload=payload))

    @pytest.mark.parametrize(
        "falsify",
        [
            lambda applied: applied.results.append((0, None)),
            lambda applied: applied.ended.append(1),
            lambda applied: applied.opened.clear(),
        ],
        ids=["results", "ended", "opened"],
    )
    def test_another_outcome(self, falsify: Falsify) -> None:
        replicas = Replicas()
        replicas.apply_all("a", 0, 3)
        _rejected("same log, same state", lambda: replicas.apply("b", 0, falsify=falsify))

    def test_the_first_outcome_is_held_against_the_model(self) -> None:
        def falsify(applied: Applied) -> None:
            applied.results[0] = (0, 0)

        replicas = Replicas()
        replicas.apply("a", 0)
        _rejected("fences grow", lambda: replicas.apply("a", 1, falsify=falsify))

    def test_effects_count(self) -> None:
        replicas = Replicas()
        for name in "ab":
            replicas.apply(name, 0)
            replicas.apply(name, 1, payload=entry([1, 1, 0, int(Operation.VARIABLE_WATCH), V, 0, True]))
        served = entry([1, 2, 0, int(Operation.VARIABLE_SET), V, ONE])
        replicas.apply("a", 2, payload=served)
        _rejected(
            "same log, same state",
            lambda: replicas.apply("b", 2, payload=served, falsify=lambda applied: applied.completed.clear()),
        )


class TestState:
    """State is the same after the same entry, however it came about."""

    def test_a_difference_shows_after_some_entries(self) -> None:
        replicas = Replicas()
        replicas.apply_all("a")
        replicas.apply("b", 0)
        _change(replicas.machines["b"])
        replicas.machines["b"]._context.number = 1  # so that no result gives it away
        _rejected("same log, same state", lambda: replicas.apply_all("b", 1))

    def test_a_snapshot_is_as_good_as_the_log(self) -> None:
        replicas = Replicas()
        replicas.apply_all("a")
        for number in (DIGEST_EVERY, DIGEST_EVERY + 3):
            replicas.restore("b", number)
            replicas.apply_all("b", number)
        replicas.checks.compare_snapshots(replicas.machines)

    def test_the_same_point_is_restored_the_same_way(self) -> None:
        replicas = Replicas()
        replicas.apply_all("a")
        replicas.restore("a", 20)
        replicas.restore("b", 20)
        _rejected("same log, same state", lambda: replicas.restore("b", 20, change=_change))

    def test_a_snapshot_of_another_state(self) -> None:
        replicas = Replicas()
        replicas.apply_all("a")
        number = 2 * DIGEST_EVERY
        _rejected("same log, same state", lambda: replicas.restore("b", number, change=_change))

    def test_what_is_written_is_compared(self) -> None:
        replicas = Replicas()
        for name in "ab":
            replicas.apply_all(name, 0, 5)
        for name in "ab":
            replicas.checks.on_snapshot(name, _index(4), replicas.machines[name])
        _change(replicas.machines["b"])
        _rejected(
            "same log, same state",
            lambda: replicas.checks.on_snapshot("b", _index(4), replicas.machines["b"]),
        )

    def test_snapshots_at_the_end_are_compared_byte_for_byte(self) -> None:
        replicas = Replicas()
        for name in "ab":
            replicas.apply_all(name)
        replicas.checks.compare_snapshots(replicas.machines)
        replicas.machines["b"].apply(10**6, [])
        _rejected("same log, same state", lambda: replicas.checks.compare_snapshots(replicas.machines))

    def test_sessions_are_state(self) -> None:
        replicas = Replicas()
        for name in "ab":
            replicas.apply_all(name, 0, 5)
        replicas.checks.on_snapshot("a", _index(4), replicas.machines["a"])
        replicas.machines["b"].apply_entry(entry(expiring(1)))
        _rejected(
            "same log, same state",
            lambda: replicas.checks.on_snapshot("b", _index(4), replicas.machines["b"]),
        )

    def test_several_locks_are_state(self) -> None:
        acquire = entry([1, 99, 0, int(Operation.MULTILOCK_ACQUIRE), [b"m"], 1, True])
        replicas = Replicas()
        for name in "ab":
            replicas.apply_all(name, 0, 5)
            replicas.machines[name].apply_entry(acquire)
        replicas.checks.on_snapshot("a", _index(4), replicas.machines["a"])
        replicas.machines["b"].apply_entry(entry([1, 100, 0, int(Operation.MULTILOCK_RELEASE), 17]))
        _rejected(
            "same log, same state",
            lambda: replicas.checks.on_snapshot("b", _index(4), replicas.machines["b"]),
        )


class TestModel:
    """In the end every replica answers as the model does."""

    MADE: tuple[tuple[Operation, list[Any]], ...] = (
        (Operation.VARIABLE_SET, [V, ONE]),
        (Operation.QUEUE_PUT, [b"q", 0, [ONE], True]),
        (Operation.LOCK_ACQUIRE, [b"l", True]),
        (Operation.EVENT_SET, [b"e"]),
        (Operation.SEMAPHORE_ACQUIRE, [b"s", 2, True]),
        (Operation.MULTILOCK_ACQUIRE, [[b"m", b"n"], 2, True]),
        (Operation.RWLOCK_ACQUIRE, [b"r", True, True]),
        (Operation.TOPIC_PUBLISH, [b"t", [9, 99, 0], [ONE, TWO]]),
    )
    # What else a replica may have done, without a change to how many of everything there are.
    CHANGES: tuple[tuple[Operation, list[Any]], ...] = (
        (Operation.VARIABLE_SET, [V, TWO]),
        (Operation.QUEUE_PUT, [b"q", 0, [TWO], True]),
        (Operation.SEMAPHORE_ACQUIRE, [b"s", 2, True]),
        (Operation.RWLOCK_ACQUIRE, [b"r", True, True]),
        (Operation.TOPIC_PUBLISH, [b"t", [9, 99, 0], [TWO]]),
        (Operation.TOPIC_PUBLISH, [b"t", [1, 99, 0], [ONE]]),
    )

    def _replicas(self) -> Replicas:
        replicas = Replicas()
        replicas.apply("a", 0)
        for number, (operation, arguments) in enumerate(self.MADE, start=1):
            replicas.apply("a", number, payload=entry([1, number, number - 1, int(operation), *arguments]))
        return replicas

    def test_what_was_made_is_there(self) -> None:
        replicas = self._replicas()
        replicas.checks.compare_with_model({"a": replicas.machines["a"]})
        _rejected("machine", lambda: replicas.checks.compare_with_model({"b": replicas.machines["b"]}))

    @pytest.mark.parametrize(("operation", "arguments"), CHANGES)
    def test_what_is_otherwise_is_seen(self, operation: Operation, arguments: list[Any]) -> None:
        replicas, number = self._replicas(), len(self.MADE)
        replicas.machines["a"].apply_entry(entry([1, number + 1, number, int(operation), *arguments]))
        _rejected("machine", lambda: replicas.checks.compare_with_model({"a": replicas.machines["a"]}))
