"""Random work on the journal, cut short by power failures and kills at any disk operation.

After every restart the log must be exactly what the last sync covered, or, if the end came during a sync,
what that one covers: never a part, never more, never a hole. What was recovered once must stay.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest

from raftcoord.consensus.journal import STUB_COMMAND, Journal
from raftcoord.testing.simulation.faulty_disk import FaultyDisk, PowerFailure

FOLDER = "/data/journal"
SEEDS = 1000
STEPS = 60


@dataclass(frozen=True)
class State:
    """What a journal holds. `entries` are contiguous."""

    entries: tuple[tuple[bytes, int, int], ...] = ()
    term: int = 0
    vote: str | None = None

    @property
    def last(self) -> int:
        return self.entries[-1][1] if self.entries else 0

    def aligned(self, snapshot: tuple[int, int] | None) -> State:
        """What the journal must make of this at its start, given the newest snapshot."""
        if snapshot is None:
            return self
        index, term = snapshot
        if any(entry[1:] == (index, term) for entry in self.entries):
            return self
        return replace(self, entries=((STUB_COMMAND, index, term),))

    def from_index(self, first: int) -> State:
        return replace(self, entries=tuple(entry for entry in self.entries if entry[1] >= first))


class Run:
    """One journal, its disk, and what it must hold.

    `synced` is what the last sync covered, `state` what was asked for since, `maybe` what a sync under way
    may or may not have made durable. `snapshot` stands for a snapshot that is durable elsewhere.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = FaultyDisk()
        self.disk.make_directory(FOLDER)
        self.snapshot: tuple[int, int] | None = None
        self.synced = self.state = State()
        self.maybe: State | None = None
        self.steps: list[str] = []
        self.segment_bytes = self.rng.choice((8192, 9000, 16384))
        self.restarts = 0
        self.journal = self.open()

    def open(self) -> Journal:
        return Journal.open(
            disk=self.disk,
            directory=FOLDER,
            segment_bytes=self.segment_bytes,
            snapshot=self.snapshot,
            salt=self.rng.randbytes(16),
        )

    def step(self) -> None:
        kind = self.rng.choice(
            ("add",) * 6 + ("sync",) * 6 + ("meta", "truncate", "compact", "reset", "prepare", "garbage")
        )
        self.steps.append(kind)
        getattr(self, f"do_{kind}")()

    def do_add(self) -> None:
        for _ in range(self.rng.choice((1, 1, 3))):
            size = self.rng.choice((0, 5, 300, 1500, 1500, self.rng.randint(0, 4000), 12_000))
            entry = (self.rng.randbytes(size), self.state.last + 1, self.state.term)
            self.journal.add(*entry)
            self.state = replace(self.state, entries=(*self.state.entries, entry))

    def do_meta(self) -> None:
        self.state = replace(
            self.state, term=self.state.term + 1, vote=self.rng.choice((None, "a", "replica-é"))
        )
        self.journal.setCurrentTerm(self.state.term, self.state.vote)

    def do_truncate(self) -> None:
        lowest = self.snapshot[0] + 1 if self.snapshot else 1
        if self.state.last < lowest:
            return
        index = self.rng.randint(max(lowest, self.state.last - 6), self.state.last)
        self.journal.deleteEntriesFrom(index - self.journal.first_index)
        kept = tuple(entry for entry in self.state.entries if entry[1] < index)
        self.state = replace(self.state, entries=kept)

    def do_sync(self) -> None:
        self.maybe = self.state
        was_dirty = self.journal.dirty
        assert self.journal.sync() is was_dirty
        self.synced, self.maybe = self.state, None

    def do_compact(self) -> None:
        """A snapshot of some committed, hence synced, entry became durable."""
        first = self.snapshot[0] if self.snapshot else 1
        common = [entry for entry in self.synced.entries if entry in self.state.entries and entry[1] > first]
        if not common:
            return
        _, index, term = self.rng.choice(common)
        self.snapshot = (index, term)
        self.journal.compact_to(self.rng.randint(self.journal.first_index, index))

    def do_reset(self) -> None:
        """A snapshot from the leader, beyond this log, became durable."""
        if self.rng.random() < 0.6:
            return
        self.snapshot = (self.state.last + self.rng.randint(1, 40), self.state.term)
        self.journal.reset_to(*self.snapshot)
        self.state = replace(self.state, entries=((STUB_COMMAND, *self.snapshot),))

    def do_prepare(self) -> None:
        self.journal.prepare_segment()

    def do_garbage(self) -> None:
        self.journal.collect_garbage()

    def restart(self) -> None:
        """End it by power failure or kill, perhaps again while it recovers, then compare."""
        self.restarts += 1
        self.steps.append("restart")
        while True:
            if self.rng.random() < 0.7:
                self.disk.lose_power(self.rng)
            else:
                self.disk.kill()
            if self.rng.random() < 0.3:
                self.disk.fail(PowerFailure(), after=self.rng.randint(0, 6))
            try:
                self.journal = self.open()
            except PowerFailure:
                continue
            break
        self.disk.heal()
        self.compare()

    def compare(self) -> None:
        journal = self.journal
        found = State(tuple(journal[:]), journal.getCurrentTerm(), journal.getVotedForNodeId())
        first = self.snapshot[0] if self.snapshot else 1
        candidates = [state for state in (self.synced, self.maybe) if state is not None]
        expected = [state.aligned(self.snapshot).from_index(first) for state in candidates]
        assert found.from_index(first) in expected, f"{found!r}"[:300]
        indexes = [index for _, index, _ in found.entries]
        assert indexes == list(range(journal.first_index, journal.first_index + len(indexes)))
        assert journal.log_bytes == sum(len(command) for command, _, _ in found.entries)
        # Compaction is not logged, so entries from before it may be back; all of it is durable now.
        self.synced = self.state = found
        self.maybe = None

    def run(self) -> None:
        for _ in range(STEPS):
            if self.rng.random() < 0.08:
                self.disk.fail(PowerFailure(), after=self.rng.randint(0, 12))
            try:
                self.step()
            except PowerFailure:
                self.restart()
            else:
                if self.rng.random() < 0.05:
                    self.restart()
        self.restart()


@pytest.mark.parametrize("first_seed", range(0, SEEDS, 50))
def test_what_was_synced_survives(first_seed: int) -> None:
    restarts = 0
    for seed in range(first_seed, first_seed + 50):
        run = Run(seed)
        try:
            run.run()
        except Exception as error:
            raise AssertionError(f"seed {seed}, after {run.steps[-12:]}: {error!r}") from error
        restarts += run.restarts
    assert restarts > 150


def test_the_disk_does_lose_what_was_not_synced() -> None:
    """The tests above prove nothing on a disk that keeps everything."""
    fates = set()
    for seed in range(200):
        disk = FaultyDisk()
        disk.make_directory("/d")
        file = disk.open("/d/a", create=True)
        file.pwrite(b"old" * 300, 0)
        file.sync()
        disk.sync_directory("/d")
        file.pwrite(b"new" * 300, 0)
        disk.open("/d/b", create=True)
        disk.rename("/d/a", "/d/c")
        disk.lose_power(random.Random(seed))
        contents = disk.contents()
        assert ("/d/a" in contents) != ("/d/c" in contents)
        data = contents.get("/d/a") or contents["/d/c"]
        content = "old" if data == b"old" * 300 else "new" if data == b"new" * 300 else "torn"
        fates.add((content, "/d/b" in contents, "/d/c" in contents))
    assert len(fates) == 12
