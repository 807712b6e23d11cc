"""The smallest scenario that still fails: faults, clients, threads and calls are dropped while it does.

Delta debugging (Zeller and Hildebrandt, IEEE TSE 2002), from coarse to fine. A scenario counts as failing
when any promise is broken; it need not be the first one's, since a shorter run can stumble over it elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from raftcoord.testing.simulation.scenario import ClientPlan, Scenario
from raftcoord.testing.simulation.simulation import Result, simulate

RUNS_MAX: Final = 400

_T = TypeVar("_T")


class Shrinker:
    """Shrinks one scenario.

    Args:
        tell: takes every smaller scenario that still fails.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        runs_max: int = RUNS_MAX,
        tell: Callable[[Scenario, Result], object] = lambda scenario, result: None,
    ) -> None:
        self.scenario = scenario
        self.runs = 0
        self._runs_max = runs_max
        self._tell = tell

    def __repr__(self) -> str:
        return f"<Shrinker runs={self.runs} {self.scenario.summary()}>"

    def run(self) -> Scenario:
        """Return the smallest failing scenario that was found within the bound on runs."""
        while self._pass() and self.runs < self._runs_max:
            pass
        return self.scenario

    def _pass(self) -> bool:
        before = self.scenario
        self._drop_parts("faults", self.scenario.faults)
        self._drop_parts("clients", self.scenario.clients)
        for number in range(len(self.scenario.clients)):
            self._drop_threads(number)
        return self.scenario != before

    def _drop_parts(self, field: str, parts: Sequence[object]) -> None:
        for kept in _smaller(parts):
            self._try(msgspec.structs.replace(self.scenario, **{field: kept}))

    def _drop_threads(self, number: int) -> None:
        for kept in _smaller(self.scenario.clients[number].threads):
            self._try_client(number, threads=kept)
        for thread in range(len(self.scenario.clients[number].threads)):
            for steps in _smaller(self.scenario.clients[number].threads[thread]):
                threads = list(self.scenario.clients[number].threads)
                threads[thread] = steps
                self._try_client(number, threads=tuple(threads))

    def _try_client(self, number: int, **changes: object) -> None:
        clients: list[ClientPlan] = list(self.scenario.clients)
        clients[number] = msgspec.structs.replace(clients[number], **changes)
        self._try(msgspec.structs.replace(self.scenario, clients=tuple(clients)))

    def _try(self, candidate: Scenario) -> None:
        if self.runs >= self._runs_max or _size(candidate) >= _size(self.scenario):
            return
        self.runs += 1
        result = simulate(candidate)
        if result.violation is not None:
            self.scenario = candidate
            self._tell(candidate, result)


def _size(scenario: Scenario) -> int:
    threads = [thread for plan in scenario.clients for thread in plan.threads]
    return len(scenario.faults) + len(scenario.clients) + len(threads) + sum(map(len, threads))


def _smaller(parts: Sequence[_T]) -> Iterator[tuple[_T, ...]]:
    """Yield what is left of a sequence without one of its parts, large parts first."""
    size = len(parts)
    while size >= 1:
        for start in range(0, len(parts), size):
            yield (*parts[:start], *parts[start + size :])
        size //= 2
