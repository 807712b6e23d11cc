"""What is measured, and what is wanted of it: one `Section` for each kind of load."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.dask.comparison import Comparison
from benchmarks.dask.topics import PUBLISHER, SUBSCRIBER

Samples = Mapping[str, Sequence[float]]  # what one turn found: the numbers of each name


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """How the turns of a section are run, and how to read their numbers."""

    text: str
    count: int  # calls, messages or handles of one turn
    unit: str
    workers: tuple[str, ...]
    threads: int
    on_old_dask: bool = False
    ratio_max: float | None = None
    ratio_min: float | None = None

    def compared(self, own: Sequence[Samples], other: Sequence[Samples]) -> list[Comparison]:
        """Return the figures: the numbers of each turn become their median."""
        return [
            Comparison(
                name=name,
                unit=UNITS.get(name, self.unit),
                values=tuple(statistics.median(turn[name]) for turn in own),
                dask_values=tuple(statistics.median(turn[name]) for turn in other),
                ratio_max=self.ratio_max,
                ratio_min=self.ratio_min,
                value_max=VALUES_MAX.get(name),
            )
            for name in own[0]
        ]


SECTIONS: Final = {
    "calls": Section(
        text="median time of one call of Variable, Queue and Lock, in a client and inside a task",
        count=300,
        unit="ms",
        workers=("one",),
        threads=2,
        ratio_max=1.0,
    ),
    "topics": Section(
        text="messages of 100 B per second through Pub and Sub, against the last but one release with them",
        count=5000,
        unit="/s",
        workers=(PUBLISHER, SUBSCRIBER),
        threads=12,
        on_old_dask=True,
        ratio_min=2.0,
    ),
    "handles": Section(
        text="what 10,000 unpickled handles add to a worker process",
        count=10_000,
        unit="",
        workers=("one",),
        threads=2,
    ),
}
VALUES_MAX: Final = {
    "handles, connections": 1,
    "handles, more threads": 0,
    "handles, memory left by one": 0.05,
}
UNITS: Final = {
    "handles, memory of one": "KiB",
    "handles, memory left by one": "KiB",
    "handles, time to wake up one": "µs",
}
