"""The metrics of one replica in Prometheus' terms. Needs prometheus_client; nothing else imports it.

Values are read when they are asked for, so that counting stays as cheap as in `metrics.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from raftcoord.consensus.interface import EngineStatus, Role
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import Operation
from raftcoord.server.metrics import Histogram

if TYPE_CHECKING:
    from raftcoord.server.replica import ReplicaServer

_PREFIX = "raftcoord_"
_ENGINE_GAUGES: tuple[tuple[str, str], ...] = (
    ("term", "Current term."),
    ("first_index", "Index of the first entry in the log."),
    ("last_index", "Index of the last entry in the log."),
    ("commit_index", "Index up to which entries are known to be committed."),
    ("applied_index", "Index up to which entries are applied."),
    ("snapshot_index", "Index of the newest snapshot."),
    ("log_bytes", "Bytes of commands in the log."),
)


class ReplicaCollector(Collector):
    """Collects from one replica."""

    def __init__(self, server: ReplicaServer) -> None:
        self._server = server

    def __repr__(self) -> str:
        return f"<ReplicaCollector {self._server!r}>"

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        status = self._server.engine_status()
        yield from _engine_families(status)
        yield from self._machine_families()
        yield from self._gateway_families()

    def _machine_families(self) -> Iterator[Metric]:
        counts = dict(self._server.counts())
        yield _gauge("sessions", "Live sessions.", counts.pop("sessions", 0))
        yield _gauge("waiters", "Calls that wait in the store.", counts.pop("waiters", 0))
        family = GaugeMetricFamily(_PREFIX + "objects", "What the store holds, by kind.", labels=["kind"])
        for kind, count in counts.items():
            family.add_metric([kind], count)
        yield family

    def _gateway_families(self) -> Iterator[Metric]:
        metrics = self._server.metrics
        yield _gauge("connections", "Open client connections.", len(self._server.gateway.connections))
        operations = CounterMetricFamily(
            _PREFIX + "operations",
            "Operations answered, by operation and code.",
            labels=["operation", "code"],
        )
        for key, count in sorted(metrics.operations.items()):
            operations.add_metric([_name(Operation, key >> 8), _name(Code, key & 0xFF)], count)
        yield operations
        rejected = CounterMetricFamily(
            _PREFIX + "rejected", "Clients that broke the protocol, by reason.", labels=["reason"]
        )
        for reason, count in sorted(metrics.rejected.items()):
            rejected.add_metric([reason], count)
        yield rejected
        for name, text, value in (
            ("connections_accepted", "Client connections accepted.", metrics.connections_accepted),
            ("sessions_expired", "Sessions that expired while this replica led.", metrics.sessions_expired),
            ("client_received_bytes", "Bytes received from clients.", metrics.bytes_received),
            ("client_sent_bytes", "Bytes sent to clients.", metrics.bytes_sent),
        ):
            yield CounterMetricFamily(_PREFIX + name, text, value=value)
        yield _histogram("batch_commands", "Commands in one log entry.", metrics.batch_commands)
        yield _histogram("commit_latency_seconds", "From proposal to result.", metrics.commit_latency_s)


def make_registry(server: ReplicaServer) -> CollectorRegistry:
    """Return a registry of its own for one replica: several may live in one process."""
    registry = CollectorRegistry()
    registry.register(ReplicaCollector(server))
    return registry


def _engine_families(status: EngineStatus) -> Iterator[Metric]:
    for attribute, text in _ENGINE_GAUGES:
        yield _gauge(attribute, text, getattr(status, attribute))
    role = GaugeMetricFamily(_PREFIX + "role", "1 for the role this replica has.", labels=["role"])
    for each in Role:
        role.add_metric([each.value], 1 if status.role is each else 0)
    yield role
    yield _gauge("ready_leader", "1 while this replica serves sessions.", int(status.ready))
    yield _gauge("has_leader", "1 while this replica knows a leader.", int(status.leader is not None))
    connected = GaugeMetricFamily(_PREFIX + "peer_connected", "1 while connected.", labels=["peer"])
    for peer in status.peers:
        connected.add_metric([peer.name], int(peer.connected))
    yield connected
    for name, value in sorted(status.counters.items()):
        yield _gauge("engine_" + name, f"Engine counter {name}.", value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value=value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(
        _PREFIX + name, text, buckets=histogram.cumulative(), sum_value=histogram.total
    )


def _name(kind: Any, value: int) -> str:
    try:
        return str(kind(value).name).lower()
    except ValueError:
        return str(value)
