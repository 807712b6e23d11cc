"""The stock library as a backend: its own core, journal and snapshots, on the simulated links.

Invariants:
  1. Nothing of the library is changed but what it takes as a parameter: transport, journal object, clock.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pysyncobj import FAIL_REASON, replicated
from pysyncobj.journal import MemoryJournal
from world import Fate, Message, World, Write

from raftcoord.consensus.library import (
    Node,
    NullPoller,
    SyncObj,
    SyncObjConf,
    Transport,
    journal_for_construction,
    running,
)

_LEADER = 2


WORLDS: list[World] = []  # not in the core itself, whose attributes its snapshots pickle


class PerfectJournal(MemoryJournal):  # type: ignore[misc]
    """A journal that never loses anything: what goes wrong on it is not the disk's fault."""

    def __init__(self) -> None:
        super().__init__()
        self._commit = 1

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        self._commit = index

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return self._commit


class _SimTransport(Transport):  # type: ignore[misc]
    def __init__(self, world: World, name: str) -> None:
        super().__init__(None, None, [])
        self._world, self._name = world, name

    def send(self, node: Any, message: Message) -> bool:
        return self._world.send(self._name, node.id, copy.deepcopy(message))


class StockCore(SyncObj):  # type: ignore[misc]
    """A replicated list of values."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.applied: list[bytes] = []
        self.poison: bytes | None = None

    def _apply(self, value: bytes) -> None:
        world = WORLDS[-1]
        world.clock.time_s += world.slow_apply_s
        if value == self.poison:
            self.applied.append(b"partial")
            raise RuntimeError("poison")
        self.applied.append(value)

    @replicated  # type: ignore[untyped-decorator]
    def put(self, value: bytes) -> int:
        self._apply(value)
        return len(self.applied)


class StockReplica:
    """See `Replica`. `journal` is "perfect", "file", or "memory" (the library's default)."""

    core_class: type[StockCore] = StockCore

    def __init__(self, world: World, name: str, journal: str = "perfect", **options: Any) -> None:
        self.name = name
        self.world = world
        WORLDS[:] = [world]
        self._journal = journal
        self._perfect = PerfectJournal()
        self._options = options
        self.core: Any = None

    def __repr__(self) -> str:
        return (
            f"<StockReplica {self.name} term={self.term} last={self.log[-1][1:]} commit={self.commit_index}>"
        )

    @property
    def journal_path(self) -> str:
        return str(self.world.folder / f"{self.name}.journal")

    @property
    def dump_path(self) -> str:
        return str(self.world.folder / f"{self.name}.dump")

    def private(self, name: str) -> Any:
        return getattr(self.core, f"_SyncObj__{name}")

    def set_private(self, name: str, value: Any) -> None:
        setattr(self.core, f"_SyncObj__{name}", value)

    def start(self) -> None:
        options = {"autoTick": False, "logCompactionMinTime": 10**6, "pollerType": "select"}
        options |= {"commandsWaitLeader": False, **self._options}
        if options.get("fullDumpFile"):
            options["fullDumpFile"] = self.dump_path
        if self._journal == "file":
            options["journalFile"] = self.journal_path
        others = [Node(other) for other in self.world.names if other != self.name]
        with self._journals(), self.running():
            self.core = self.core_class(
                Node(self.name),
                others,
                SyncObjConf(**options),
                transport=_SimTransport(self.world, self.name),
            )
        self.core._poller = NullPoller()

    @contextlib.contextmanager
    def _journals(self) -> Iterator[None]:
        if self._journal == "perfect":
            with journal_for_construction(self._perfect):
                yield
        else:
            yield

    def running(self) -> contextlib.AbstractContextManager[None]:
        """Let the core see the simulated clock."""
        return running(self.world.clock)

    def crash(self) -> None:
        with contextlib.suppress(ValueError):  # closed before
            self.private("raftLog")._destroy()

    def run(self) -> None:
        with self.running():
            self.core.doTick(0.0)

    def receive(self, sender: str, message: Message) -> None:
        with self.running():
            self.private("transport")._onMessageReceived(Node(sender), message)

    def link_up(self, peer: str) -> None:
        self.private("transport")._onNodeConnected(Node(peer))

    def link_down(self, peer: str) -> None:
        self.private("transport")._onNodeDisconnected(Node(peer))

    def propose(self, value: bytes, write: Write) -> None:
        refusals = {FAIL_REASON.NOT_LEADER, FAIL_REASON.MISSING_LEADER, FAIL_REASON.LEADER_CHANGED}

        def answered(_result: Any, reason: int) -> None:
            if reason == FAIL_REASON.SUCCESS:
                write.answers.append(Fate.ACKED)
            else:
                # The library documents these as "without command commit".
                write.answers.append(Fate.REFUSED if reason in refusals else Fate.UNKNOWN)

        with self.running():
            self.core.put(value, callback=answered)

    def begin_snapshot(self, turns: int) -> None:
        self.core.forceLogCompaction()
        self.run()

    def snapshot(self) -> None:
        self.begin_snapshot(1)
        self.run()

    def lose_power(self) -> None:
        """Of all that is never synced, lose only what a rename without a sync leaves empty."""
        self.crash()
        if self._journal == "file":
            Path(f"{self.journal_path}.meta").write_bytes(b"")

    def disk_state(self) -> Any:
        return self.log

    def set_disk_state(self, state: Any) -> None:
        self._perfect.clear()
        for entry in state:
            self._perfect.add(*entry)

    def read(self) -> list[list[bytes]]:
        return [list(self.applied)] if self.is_leader and self.core.isReady() else []

    def set_election_deadline(self, at: float) -> None:
        self.set_private("raftElectionDeadline", at)

    @property
    def is_leader(self) -> bool:
        return bool(self.private("raftState") == _LEADER)

    @property
    def term(self) -> int:
        term: int = self.core.raftCurrentTerm
        return term

    @property
    def commit_index(self) -> int:
        index: int = self.core.raftCommitIndex
        return index

    @property
    def applied(self) -> list[bytes]:
        applied: list[bytes] = self.core.applied
        return applied

    @property
    def log(self) -> list[tuple[bytes, int, int]]:
        return list(self.private("raftLog")[0:])

    def match_index(self, peer: str) -> int:
        index: int = self.private("raftMatchIndex")[Node(peer)]
        return index
