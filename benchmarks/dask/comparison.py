"""The figures of both systems next to each other: arithmetic, table, JSON. Nothing is measured here.

Invariants:
  1. Ratios are taken round by round, before the median is (see `benchmarks.figures`).
  2. A figure that something is wanted of says whether it was met.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One line of the report; `values` and `dask_values` hold one number for each round.

    Exactly one of the wishes may be set: for `ratio_max` and `ratio_min` the ratio counts, which is
    raftcoord divided by Dask, for `value_max` the figure of raftcoord alone.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    dask_values: tuple[float, ...]
    ratio_max: float | None = None
    ratio_min: float | None = None
    value_max: float | None = None

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def dask_value(self) -> float:
        return statistics.median(self.dask_values)

    @property
    def ratios(self) -> tuple[float, ...]:
        """raftcoord divided by Dask, round by round; empty when Dask's figure is 0 in one of them."""
        if not all(self.dask_values):
            return ()
        return tuple(own / other for own, other in zip(self.values, self.dask_values, strict=True))

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def wanted(self) -> str:
        for sign, limit in (("ratio ≤", self.ratio_max), ("ratio ≥", self.ratio_min), ("≤", self.value_max)):
            if limit is not None:
                return f"{sign} {limit:g}"
        return ""

    @property
    def is_met(self) -> bool | None:
        """Whether what is wanted holds; None when nothing is."""
        if self.value_max is not None:
            return self.value <= self.value_max
        if self.ratio is not None and self.ratio_max is not None:
            return self.ratio <= self.ratio_max
        if self.ratio is not None and self.ratio_min is not None:
            return self.ratio >= self.ratio_min
        return None

    def as_map(self) -> dict[str, Any]:
        """Return everything, derived numbers included, for the JSON file."""
        derived = ("value", "dask_value", "ratios", "ratio", "wanted", "is_met")
        return asdict(self) | {name: getattr(self, name) for name in derived}

    def row(self) -> tuple[str, ...]:
        """Return the texts of one line of the table."""
        verdict = {True: "yes", False: "NO", None: ""}[self.is_met]
        return (
            self.name,
            _number(self.value, self.unit),
            _number(self.dask_value, self.unit),
            "–" if self.ratio is None else f"{self.ratio:.2f}",
            f"{self.wanted}: {verdict}" if self.wanted else "",
        )


HEADINGS = ("figure", "raftcoord", "Dask", "ratio", "wanted")


def print_table(figures: Sequence[Comparison], title: str) -> None:
    table = Table(title=title)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for figure in figures:
        table.add_row(*figure.row())
    Console().print(table)


def markdown(figures: Sequence[Comparison], title: str) -> str:
    """Return a Markdown table under a line that says where it was measured."""
    lines = [title, "", "| " + " | ".join(HEADINGS) + " |", "|---|---:|---:|---:|---|"]
    return "\n".join([*lines, *("| " + " | ".join(figure.row()) + " |" for figure in figures)])


def save(figures: Sequence[Comparison], about: dict[str, Any], path: Path) -> None:
    """Write everything, also the numbers of each round, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"about": about, "figures": [figure.as_map() for figure in figures]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _number(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"
    return f"{text}/s" if unit == "/s" else f"{text} {unit}".rstrip()
