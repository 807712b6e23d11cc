"""The worker processes of one part: started together, waited for together, never left behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from raftcoord.testing.lifeline import Lifeline

FINISH_WAIT_S: Final = 60.0


class WorkerFailed(Exception):
    """A worker ended with an error or not at all; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker printed: its result, and when it was done (seconds of the machine's clock)."""

    result: Any
    finished_s: float


class Crew:
    """Workers 1 to `count` on one task."""

    def __init__(self, task: str, count: int, address: str) -> None:
        self._task = task
        self._lifeline = Lifeline(None)  # ends the workers when the director is killed
        self._processes = [self._start(number, address) for number in range(1, count + 1)]

    def __repr__(self) -> str:
        running = sum(process.poll() is None for process in self._processes)
        return f"<Crew {self._task} running={running} of={len(self._processes)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
            self._lifeline.forget(process.pid)
        self._lifeline.close()

    def raise_if_failed(self) -> None:
        """Raise WorkerFailed when a worker has ended with an error."""
        for number, process in enumerate(self._processes, start=1):
            if process.poll() not in (None, 0):
                raise WorkerFailed(
                    f"worker {number} ended with {process.returncode}: {self._last_words(process)}"
                )

    def reports(self) -> list[Report]:
        """Wait for all workers and return their reports by number. Raises WorkerFailed."""
        deadline = time.monotonic() + FINISH_WAIT_S
        reports = []
        for number, process in enumerate(self._processes, start=1):
            try:
                output, _ = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise WorkerFailed(f"worker {number} has not finished in {FINISH_WAIT_S:g} s") from None
            self.raise_if_failed()
            reports.append(Report(**json.loads(output)))
        return reports

    def _start(self, number: int, address: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "raftcoord.demo.worker", self._task, str(number), address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lifeline.watch(process.pid)
        return process

    @staticmethod
    def _last_words(process: subprocess.Popen[str]) -> str:
        lines = process.communicate()[1].strip().splitlines()
        return lines[-1] if lines else "it said nothing"
