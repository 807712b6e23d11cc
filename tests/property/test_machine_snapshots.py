"""Snapshots of a machine that goes on working, and replicas with different pasts that must stay identical.

Properties:
  1. A snapshot with commands applied between its slices is the one taken at once where it began.
  2. What was restored gives the same snapshot again, and goes on as the original does.
  3. A replica that is restored at random points gives the results, effects and snapshots of one that is not.
  4. Damage is a ValueError.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import zlib
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_actions import Expire, Open, Player, Restore, Step, any_step, focus_of, steps

from raftcoord.machine import Applied, Machine, snapshot

OPENED = [Open(0), Open(1), Open(2)]


@pytest.fixture(autouse=True, scope="module")
def tiny_slices() -> Iterator[None]:
    """Cut at every value, also inside objects, so that commands come between any two."""
    patch = pytest.MonkeyPatch()
    patch.setattr(snapshot, "_PARTS_PER_SLICE_MAX", 1)
    yield
    patch.undo()


def whole(machine: Machine) -> bytes:
    return b"".join(machine.begin_snapshot())


def copy_of(machine: Machine, chunk_bytes: int = 7) -> Machine:
    data = whole(machine)
    copy = Machine()
    copy.restore(data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes))
    return copy


def played(steps_: list[Step]) -> tuple[Machine, Player]:
    machine = Machine()
    player = Player(machine)
    for step in [*OPENED, *steps_]:
        player.play(step)
    return machine, player


def outcome(applied: Applied) -> tuple[Any, ...]:
    return applied.results, applied.completed, applied.opened, applied.ended


@settings(max_examples=60, deadline=None, print_blob=True)
@given(before=steps, between=steps, stride=st.integers(0, 5))
def test_commands_between_the_slices_do_not_show(
    before: list[Step], between: list[Step], stride: int
) -> None:
    machine, player = played(before)
    expected = whole(machine)
    slices = machine.begin_snapshot()
    written = []
    for step in between:
        written += [part for _, part in zip(range(stride), slices, strict=False)]
        player.play(step)
    written += slices
    assert b"".join(written) == expected


@pytest.mark.parametrize("seed", range(70))
def test_commands_between_the_slices_of_many_snapshots_do_not_show(seed: int) -> None:
    rng = random.Random(seed)
    machine, player = played([])

    def work(count: int) -> None:
        for _ in range(count):
            step = any_step(rng, focus_of(seed))
            if not isinstance(step, Restore):
                player.play(step)

    for _ in range(8):
        work(rng.randint(0, 60))
        expected = whole(machine)
        slices = machine.begin_snapshot()
        written = []
        while part := list(itertools.islice(slices, rng.randint(1, 9))):
            written += part
            work(rng.randint(0, 6))
        assert b"".join(written) == expected


@settings(max_examples=30, deadline=None, print_blob=True)
@given(before=steps, between=steps, after=steps, slices_written=st.integers(0, 20))
def test_a_snapshot_that_was_given_up_leaves_no_trace(
    before: list[Step], between: list[Step], after: list[Step], slices_written: int
) -> None:
    machine, player = played(before)
    given_up = machine.begin_snapshot()
    for _ in zip(range(slices_written), given_up, strict=False):
        pass
    for step in between:
        player.play(step)
    given_up.close()  # type: ignore[attr-defined]
    expected = whole(machine)
    slices = machine.begin_snapshot()
    for step in after:
        player.play(step)
    assert b"".join(slices) == expected


def test_old_states_are_kept_only_while_a_snapshot_is_under_way() -> None:
    machine, player = played([])
    for slices_written in range(3):
        slices = machine.begin_snapshot()
        player.play(Expire((0,)))
        assert "saved=1" in repr(machine._context.copies)
        list(itertools.islice(slices, slices_written))
        slices.close()  # type: ignore[attr-defined]
        assert "saved=None" in repr(machine._context.copies)
        player.play(Open(10 + slices_written))


def test_a_second_snapshot_ends_the_first() -> None:
    machine, player = played([])
    first = machine.begin_snapshot()
    next(first)
    second = machine.begin_snapshot()
    with pytest.raises(RuntimeError):
        list(first)
    expected = whole(copy_of(machine))
    assert b"".join(machine.begin_snapshot()) == expected
    with pytest.raises(RuntimeError):
        list(second)
    player.play(Open(7))
    assert whole(machine) != expected


def test_a_snapshot_goes_on_when_the_machine_is_restored() -> None:
    machine, _ = played([])
    expected, other = whole(machine), whole(played([Open(5)])[0])
    slices = machine.begin_snapshot()
    written = [next(slices)]
    machine.restore([other])
    assert b"".join([*written, *slices]) == expected
    assert whole(machine) == other


@settings(max_examples=60, deadline=None, print_blob=True)
@given(log=steps, restores=st.lists(st.booleans(), max_size=60), chunk_bytes=st.integers(1, 100))
def test_a_replica_that_is_restored_at_random_points_stays_identical(
    log: list[Step], restores: list[bool], chunk_bytes: int
) -> None:
    steady = Machine()
    player = Player(steady)
    restless = Machine()
    for index, step in enumerate([*OPENED, *log]):
        commands = player.to_commands(step)
        applied = steady.apply(player.now_ms, commands)
        for view in applied.opened:
            player.opened(view.id)
        assert outcome(restless.apply(player.now_ms, commands)) == outcome(applied)
        assert restless.next_deadline_ms() == steady.next_deadline_ms()
        if index < len(restores) and restores[index]:
            restless = copy_of(restless, chunk_bytes)
            assert restless.counts() == steady.counts()
    assert whole(restless) == whole(steady)
    assert list(restless.sessions()) == list(steady.sessions())


@settings(max_examples=60, deadline=None, print_blob=True)
@given(log=steps, position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_damage_is_refused(log: list[Step], position: float, flip: int, cut: bool) -> None:
    data = bytearray(whole(played(log)[0]))
    at = int(position * len(data))
    if cut:
        del data[at:]
    else:
        data[at] ^= flip
    with pytest.raises(ValueError):
        Machine().restore([bytes(data)])


@settings(max_examples=100, deadline=None, print_blob=True)
@given(
    log=steps,
    path=st.lists(st.integers(0, 9), max_size=4),
    nonsense=st.sampled_from([None, True, -1, 0, 2**64 - 1, 1.5, b"", "", [], [1], {}, {1: []}, [[]] * 5]),
    remove=st.booleans(),
)
def test_nonsense_with_a_good_checksum_never_raises_anything_but_value_error(
    log: list[Step], path: list[int], nonsense: Any, remove: bool
) -> None:
    values = list(snapshot.read_values([whole(played(log)[0])]))
    place: Any = values
    for index in path:
        inner = place[index % len(place)]
        if type(inner) is not list or not inner:
            break
        place = inner
    index = (path or [0])[-1] % len(place)
    place[index : index + 1] = [] if remove else [nonsense]
    stream = b"".join(map(msgpack.packb, values))
    with contextlib.suppress(ValueError):
        Machine().restore([stream + zlib.crc32(stream).to_bytes(4, "big")])
