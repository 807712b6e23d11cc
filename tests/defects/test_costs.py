"""What an operation costs: waiting, messages, and work that grows with the log; and whose clock decides.

10b is in `test_log_matching.py`, beside the load that shows it.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from harness import Kind, both, judge, our, world
from pysyncobj.batteries import _ReplLockManagerImpl
from stock import PerfectJournal

import raftcoord
from raftcoord.consensus.journal import Journal

COUNT = 10_000


@both
def test_10a_a_write_waits_for_messages_only(kind: Kind, tmp_path: Path) -> None:
    """No time passes between the write and its acknowledgement."""
    with world(kind, tmp_path) as running:
        running.elect("A")
        running.settle(1)
        running.advance(0.01)
        (write,) = running.write("A", b"value")
        for _ in range(5):
            running.run()
            running.deliver_all()
        judge(kind, [] if write.is_acked else ["it waits for the next period"])


@both
def test_10c_sending_a_batch_touches_only_that_batch(kind: Kind, tmp_path: Path) -> None:
    touched = 0

    def counting(get: Any) -> Any:
        def counted(journal: Any, item: int | slice) -> Any:
            nonlocal touched
            result = get(journal, item)
            touched += len(result) if isinstance(item, slice) else 1
            return result

        return counted

    options = {"logCompactionMinEntries": 10**9}
    with pytest.MonkeyPatch.context() as patch, world(kind, tmp_path, stock=options) as running:
        running.elect("A")
        running.cut("AB")
        running.write("A", *(b"value %d" % number + bytes(100) for number in range(COUNT)))
        running.settle(1, "AC")
        assert len(running["A"].log) > COUNT
        for journal in (PerfectJournal, Journal):
            patch.setattr(journal, "__getitem__", counting(journal.__getitem__))
        running.join("AB")
        running.settle(1)
        assert len(running["B"].log) > COUNT
        judge(kind, [f"{touched} entries read to send {COUNT}"] if touched > 5 * COUNT else [])


def test_catching_up_waits_for_no_heartbeat(tmp_path: Path) -> None:
    """All of a backlog of several windows goes out in round trips, while no time passes."""
    with world(Kind.OURS, tmp_path) as running:
        running.elect("A")
        running.cut("AB", "BC")
        running.write("A", *(bytes([number]) * 700_000 for number in range(20)))
        running.settle(0.5, "AC")
        running.join("AB")
        running.advance(0.2)
        for _ in range(40):
            running.run("B")
            running.deliver_all()
        assert running["B"].log[-1] == running["A"].log[-1]


def test_a_snapshot_is_sent_without_waiting_for_heartbeats(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path, ours={"snapshot_chunk_bytes": 1000}) as running:
        running.elect("A")
        running.cut("AB", "BC")
        running.write("A", *(bytes([number]) * 1000 for number in range(100)))
        running.settle(0.5, "AC")
        running["A"].snapshot()
        running.join("AB")
        running.advance(0.2)
        for _ in range(60):
            running.run("B")
            running.deliver_all()
        assert running["B"].applied == running["A"].applied
        assert running.sent["A", "B", "snapshot_chunk"] > 90


def test_an_idle_leader_sends_one_heartbeat_a_period(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path) as running:
        running.elect("A")
        running.settle(1)
        before = sum(count for (sender, _, _), count in running.sent.items() if sender == "A")
        running.settle(2, step_s=0.01)
        after = sum(count for (sender, _, _), count in running.sent.items() if sender == "A")
        assert after - before <= 2 * (2.02 / 0.075 + 2)


def test_11_the_stock_lock_manager_believes_the_clocks_of_its_clients() -> None:
    manager = _ReplLockManagerImpl(10.0)

    def acquire(*arguments: Any) -> bool:
        granted: bool = _ReplLockManagerImpl.acquire(manager, *arguments, _doApply=True)
        return granted

    assert acquire("lock", "A", 1000.0)
    assert acquire("lock", "B", 1010.5), "the same instant by a clock that is ahead"


@pytest.mark.parametrize("package", ["consensus", "machine"])
def test_11_neither_engine_nor_machine_reads_a_clock_of_its_own(package: str) -> None:
    assert raftcoord.__file__ is not None
    folder = Path(raftcoord.__file__).parent / package
    files = list(folder.rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert "time" not in names, f"{file.name} imports the time module"


def test_11_the_engine_asks_the_clock_that_it_was_given(tmp_path: Path) -> None:
    with world(Kind.OURS, tmp_path) as running:
        running.elect("A")
        running.isolate("A", noticed=False)
        for _ in range(50):
            our(running["A"]).run()
        assert running["A"].is_leader, "no time passed"
        running.advance(1.0)
        running.run("A")
        assert not running["A"].is_leader
