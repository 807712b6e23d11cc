"""The figures as a table for the terminal, as Markdown for the README, and as JSON.

Formatting only; nothing is measured or computed here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure

HEADINGS = ("figure", "raftcoord", "etcd", "ratio", "ratio in each round", "measured by")


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{text}/s" if unit == "/s" else f"{text} {unit}"


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Return one row of texts for each figure, in the order of `HEADINGS`."""
    table: list[tuple[str, ...]] = []
    for figure in figures:
        ratio = figure.as_map()["ratio"]
        table.append(
            (
                figure.name,
                _number(figure.value, figure.unit),
                _number(figure.etcd_value, figure.unit),
                "–" if ratio is None else f"{ratio:.2f}",
                " ".join(f"{value:.2f}" for value in figure.ratios),
                figure.command,
            )
        )
    return table


def print_table(figures: Sequence[Figure], title: str) -> None:
    table = Table(title=title)
    for number, heading in enumerate(HEADINGS[:-1]):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows(figures):
        table.add_row(*row[:-1])
    Console().print(table)


def markdown(figures: Sequence[Figure], title: str) -> str:
    """Return a Markdown table under a line that says where it was measured."""
    columns = (0, 1, 2, 3, 5)
    lines = [
        title,
        "",
        "| " + " | ".join(HEADINGS[column] for column in columns) + " |",
        "|---|---:|---:|---:|---|",
    ]
    for row in rows(figures):
        cells = [f"`{row[column]}`" if column == 5 else row[column] for column in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def save(figures: Sequence[Figure], about: dict[str, Any], path: Path) -> None:
    """Write everything, also the numbers of each round, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"about": about, "figures": [figure.as_map() for figure in figures]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
