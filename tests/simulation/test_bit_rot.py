"""Bits that flip where a promise covers it: the real stores must refuse what they are in."""

from __future__ import annotations

import random

import pytest
from little_disk import Host, fill

from raftcoord.consensus.journal import JournalDamaged
from raftcoord.consensus.snapshot_store import SnapshotDamaged
from raftcoord.testing.simulation.bit_rot import JOURNAL, SNAPSHOTS, Rot, find_rot

SEEDS = range(60)


def _host() -> Host:
    host = Host()
    fill(host.open_journal(), 1, 25)
    store = host.open_snapshots()
    host.write_snapshot(store, 5, b"old state" * 100)
    host.write_snapshot(store, 9, b"new state" * 100)
    host.restart()
    return host


def _rot(host: Host, what: str, seed: int) -> Rot:
    rot = find_rot(host.store, what, random.Random(seed))
    assert rot is not None
    return rot


@pytest.mark.parametrize("what", ["journal", "snapshot"])
def test_there_is_no_place_where_nothing_is_promised(what: str) -> None:
    host = Host()
    assert find_rot(host.store, what, random.Random(1)) is None
    fill(host.open_journal(), 1, 1)
    host.store.open(f"{SNAPSHOTS}/write-1.tmp", create=True).pwrite(b"half", 0)
    assert find_rot(host.store, what, random.Random(1)) is None


def test_one_bit_flips_and_flips_back() -> None:
    host = _host()
    before = host.store.contents()
    for what in ("journal", "snapshot"):
        for seed in SEEDS:
            rot = _rot(host, what, seed)
            assert bin(rot.good ^ rot.bad).count("1") == 1
            assert not rot.is_there(host.store)
            rot.begin(host.store)
            assert rot.is_there(host.store)
            changed = {path for path, data in host.store.contents().items() if data != before[path]}
            assert changed == {rot.path}
            rot.repair(host.store)
            assert not rot.is_there(host.store)
            assert host.store.contents() == before


def test_all_of_journal_and_newest_snapshot_are_hit() -> None:
    host = _host()
    journal = {_rot(host, "journal", seed).path for seed in SEEDS}
    assert {path.rpartition("/")[0] for path in journal} == {JOURNAL}
    assert len(journal) >= 3
    snapshots = {_rot(host, "snapshot", seed).path for seed in SEEDS}
    assert len(snapshots) == 1
    assert "0009-" in snapshots.pop()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_journal_refuses_it_and_forgives_when_it_is_repaired(seed: int) -> None:
    host = _host()
    rot = _rot(host, "journal", seed)
    rot.begin(host.store)
    with pytest.raises(JournalDamaged):
        host.open_journal()
    rot.repair(host.store)
    host.restart()
    assert host.open_journal().last_index == 25


@pytest.mark.parametrize("seed", SEEDS)
def test_the_snapshot_store_refuses_it_and_forgives_when_it_is_repaired(seed: int) -> None:
    host = _host()
    rot = _rot(host, "snapshot", seed)
    rot.begin(host.store)
    with pytest.raises(SnapshotDamaged):
        host.open_snapshots()
    rot.repair(host.store)
    host.restart()
    store = host.open_snapshots()
    assert b"".join(store.read()) == b"new state" * 100


def test_it_outlives_a_loss_of_power() -> None:
    host = _host()
    rot = _rot(host, "journal", 1)
    rot.begin(host.store)
    host.restart(power=True)
    assert rot.is_there(host.store)


def test_a_file_that_is_gone_has_no_rot() -> None:
    host = _host()
    rot = _rot(host, "snapshot", 1)
    rot.begin(host.store)
    del host.store.files[rot.path]
    assert not rot.is_there(host.store)
    rot.repair(host.store)
