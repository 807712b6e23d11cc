"""The numbers that a run yields, and how many of them become one.

Plain values only: no clock, no processes, no printing.

Invariants:
  1. A figure names its unit and the command that measures it again.
  2. Ratios are taken round by round, between neighbours in time, before the median is: the speed of a
     shared machine drifts over minutes, and a ratio of two medians would contain that drift.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of an ascending, non-empty sequence lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What load generators saw in one measured window."""

    operations: int
    seconds: float
    median_ms: float
    p99_ms: float
    generator_cpu: float  # CPU seconds of the generators per second; 1.0 is one busy core
    cluster_cpu: float = 0.0  # the same of all replicas together
    others_cpu: float = 0.0  # the same of whatever else ran on the machine, other machines on its host too

    @property
    def per_second(self) -> float:
        return self.operations / self.seconds

    @classmethod
    def joined(cls, parts: Sequence[Load]) -> Load:
        """Add up generators that ran side by side; latencies become those of the slowest."""
        return cls(
            operations=sum(part.operations for part in parts),
            seconds=max(part.seconds for part in parts),
            median_ms=max(part.median_ms for part in parts),
            p99_ms=max(part.p99_ms for part in parts),
            generator_cpu=sum(part.generator_cpu for part in parts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report. `values` holds one number for each round, or for each repetition."""

    name: str
    unit: str
    section: str
    values: tuple[float, ...]
    etcd_values: tuple[float, ...] = ()
    statistic: str = "median"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return f"make bench BENCH_ARGS={self.section}"

    @property
    def value(self) -> float:
        return _reduced(self.values, self.statistic)

    @property
    def etcd_value(self) -> float | None:
        return _reduced(self.etcd_values, self.statistic) if self.etcd_values else None

    @property
    def ratios(self) -> tuple[float, ...]:
        """raftcoord divided by etcd, round by round; empty when etcd was not measured."""
        if len(self.values) != len(self.etcd_values):
            return ()
        return tuple(own / other for own, other in zip(self.values, self.etcd_values, strict=True))

    def as_map(self) -> dict[str, Any]:
        """Return everything, derived numbers included, for the JSON file."""
        ratios = self.ratios
        return {
            **asdict(self),
            "value": self.value,
            "etcd_value": self.etcd_value,
            "ratios": ratios,
            "ratio": statistics.median(ratios) if ratios else None,
            "command": self.command,
        }


def _reduced(values: Sequence[float], statistic: str) -> float:
    return max(values) if statistic == "worst" else statistics.median(values)
