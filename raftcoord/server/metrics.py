"""Plain counters of one replica. Counting must cost next to nothing; naming and formatting is done by
whoever reads them (`ops_metrics.py`, the status request)."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import Final

BATCH_SIZE_BOUNDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
LATENCY_S_BOUNDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Histogram:
    """Counts of values per bucket; a bucket holds the values up to and including its bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram count={sum(self.counts)} total={self.total:.6g}>"

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (upper bound, count of values up to it), the last bound being "+Inf"."""
        result, running = [], 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            running += count
            result.append((str(bound), float(running)))
        return result


class Metrics:
    """What one replica counts about its clients.

    `operations` is keyed by `operation * 256 + code`; of the connection-level requests only "follow" is in
    it, as TOPIC_READ.
    """

    __slots__ = (
        "batch_commands",
        "bytes_received",
        "bytes_sent",
        "commit_latency_s",
        "connections_accepted",
        "operations",
        "rejected",
        "sessions_expired",
    )

    def __init__(self) -> None:
        self.operations: defaultdict[int, int] = defaultdict(int)
        self.rejected: defaultdict[str, int] = defaultdict(int)
        self.batch_commands = Histogram(BATCH_SIZE_BOUNDS)
        self.commit_latency_s = Histogram(LATENCY_S_BOUNDS)
        self.connections_accepted = 0
        self.sessions_expired = 0
        self.bytes_received = 0
        self.bytes_sent = 0

    def __repr__(self) -> str:
        return f"<Metrics operations={sum(self.operations.values())} rejected={dict(self.rejected)}>"

    def as_counters(self) -> dict[str, float]:
        """Return the counters under plain names, for the status map."""
        counters: dict[str, float] = {
            "operations": sum(self.operations.values()),
            "batches": sum(self.batch_commands.counts),
            "connections_accepted": self.connections_accepted,
            "sessions_expired": self.sessions_expired,
            "bytes_received": self.bytes_received,
            "bytes_sent": self.bytes_sent,
        }
        for reason, count in self.rejected.items():
            counters[f"rejected_{reason}"] = count
        return counters
