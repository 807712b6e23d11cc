"""Work that may only be done behind a read barrier: reads, keep-alives, and attaching to a session.

Invariants:
  1. The barrier behind which a piece of work runs was asked for after that work was added. A leader that
     was deposed, or slept, and does not know it yet therefore never does any.
  2. Work runs in the order in which it was added, in the event loop and never inside the engine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from raftcoord.consensus.interface import Engine

READS_PENDING_MAX: Final = 200_000


class Reader(Protocol):
    """Who is told when the barrier failed."""

    def on_not_leader(self) -> None:
        """This replica does not lead: ask elsewhere."""


Work = tuple[Callable[[Any, Any], None], Reader, Any]  # function(reader, argument)


class ReadQueue:
    """Collects work of one turn of the loop and asks for one barrier for all of it.

    Args:
        on_barrier: called, inside the engine, when work waits to be run by `settle`; it only schedules.
    """

    __slots__ = ("_collecting", "_engine", "_finished", "_on_barrier", "_pending")

    def __init__(self, *, engine: Engine, on_barrier: Callable[[], None]) -> None:
        self._engine = engine
        self._on_barrier = on_barrier
        self._collecting: list[Work] = []
        self._finished: deque[tuple[list[Work], bool]] = deque()
        self._pending = 0

    def __repr__(self) -> str:
        return f"<ReadQueue pending={self._pending}>"

    def add(self, function: Callable[[Any, Any], None], reader: Reader, argument: Any) -> bool:
        """Run `function(reader, argument)` behind the next barrier; return False when too much waits."""
        if self._pending >= READS_PENDING_MAX:
            return False
        if not self._collecting:
            asyncio.get_running_loop().call_soon(self._ask)
        self._collecting.append((function, reader, argument))
        self._pending += 1
        return True

    def settle(self) -> None:
        """Run the work whose barrier was passed; tell the readers of the rest."""
        while self._finished:
            works, passed = self._finished.popleft()
            self._pending -= len(works)
            if passed:
                for function, reader, argument in works:
                    function(reader, argument)
            else:
                for _, reader, _ in works:
                    reader.on_not_leader()

    def _ask(self) -> None:
        works, self._collecting = self._collecting, []
        self._engine.read_barrier(partial(self._take, works))

    def _take(self, works: list[Work], passed: bool) -> None:
        self._finished.append((works, passed))
        self._on_barrier()
