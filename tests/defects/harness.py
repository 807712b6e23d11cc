"""What a test of this folder needs: both backends, and the rule by which their answers are judged.

A scenario returns what it found wrong. With the engine that must be nothing. With the stock library it
must be something: a scenario that finds nothing there has not met the defect, and proves nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from ours import OurReplica
from stock import StockReplica
from world import Replica, World


class Kind(Enum):
    """Which backend a scenario runs on."""

    OURS = "ours"
    STOCK = "stock"


both = pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)

STOCK_LEAVES_FILES_OPEN = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


@contextlib.contextmanager
def world(
    kind: Kind,
    folder: Path,
    names: str = "ABC",
    *,
    ours: dict[str, Any] | None = None,
    stock: dict[str, Any] | None = None,
    joined: bool = True,
) -> Iterator[World]:
    """Run replicas of one backend; `ours` and `stock` are options for the one that is chosen."""

    def make(world: World, name: str) -> Replica:
        if kind is Kind.OURS:
            return OurReplica(world, name, **(ours or {}))
        return StockReplica(world, name, **(stock or {}))

    running = World(names, folder=folder, make=make)
    try:
        running.open(joined=joined)
        yield running
    finally:
        running.close()


def judge(kind: Kind, problems: list[str]) -> None:
    """Hold the findings of a scenario against what its backend must show."""
    if kind is Kind.OURS:
        assert not problems, "\n".join(problems)
    else:
        assert problems, "the check does not see the defect in the stock library"


def our(replica: Replica) -> OurReplica:
    """Return a replica as the engine's."""
    assert isinstance(replica, OurReplica)
    return replica


def stock(replica: Replica) -> StockReplica:
    """Return a replica as the stock library's."""
    assert isinstance(replica, StockReplica)
    return replica


Scenario = Callable[[World], list[str]]
