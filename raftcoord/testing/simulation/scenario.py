"""What happens in a run, as plain data: settings, the work of the clients, and the faults.

A scenario and its seed decide a run completely. It can be stored as JSON, cut down and played again.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cluster and its hosts. Rates are of a host's clock, 1 being the world's.

    `fair_clocks` says that no replica's clock is faster than a client's: then a client knows that a lock is
    lost no later than the replicas hand it on. `tuning` gives constants of production code other values
    (see `tuning.py`).
    """

    replicas: int = 3
    election_timeout_ms: int = 300
    heartbeat_ms: int = 60
    segment_bytes: int = 16 * 1024
    snapshot_log_entries: int = 100_000
    snapshot_log_bytes: int = 1 << 30
    trailing_log_bytes: int = 4096
    snapshot_chunk_bytes: int = 1024
    latency_ms: float = 0.3
    bytes_per_s: int = 50_000_000
    sync_ms: float = 0.3
    replica_rates: tuple[float, ...] = ()
    fair_clocks: bool = True
    tuning: dict[str, int] = {}


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a client.

    Attributes:
        kind: a key of `steps.STEPS`.
        think_ms: pause before it.
        timeout_ms: of the call; None waits for ever.
        cancel_ms: the caller gives up after so long.
        cancel_at_answer: the caller is cancelled after its answer arrived and before it could look at it.
        count: items of a batch, the number that is added, how many locks, levels or messages.
        size: characters of a value, at least.
        hold_ms: how long a lock is held, an item is worked on, or a variable lives.
    """

    kind: str
    name: str
    think_ms: int = 0
    timeout_ms: int | None = None
    cancel_ms: int | None = None
    cancel_at_answer: bool = False
    count: int = 1
    size: int = 0
    hold_ms: int = 0


class ClientPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A client: `threads` of calls that run side by side over its one session."""

    ttl_ms: int = 2000
    timeout_ms: int = 10_000
    rate: float = 1.0
    threads: tuple[tuple[Step, ...], ...] = ()


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that goes wrong.

    Attributes:
        kind: a key of `nemesis.FAULTS`.
        target: a host ("r1", "c2"), "leader", "follower", or what the kind says.
        last_ms: how long until it is over, where that makes sense.
        options: what else the kind takes.
    """

    at_ms: int
    kind: str
    target: str = ""
    last_ms: int = 0
    options: dict[str, Any] = {}


class Scenario(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run. All faults end at `heal_ms`; then everything must come to its end within bounds."""

    seed: int
    settings: Settings
    clients: tuple[ClientPlan, ...]
    faults: tuple[Fault, ...] = ()
    heal_ms: int = 5000

    def summary(self) -> str:
        """Say in one line what is in it."""
        calls = sum(len(thread) for plan in self.clients for thread in plan.threads)
        return (
            f"seed {self.seed}: {self.settings.replicas} replicas, {len(self.clients)} clients, "
            f"{calls} calls, {len(self.faults)} faults in {self.heal_ms / 1000:.1f} s"
        )


def encode(scenario: Scenario) -> bytes:
    """Return a scenario as JSON."""
    return msgspec.json.format(msgspec.json.encode(scenario))


def decode(data: bytes | str) -> Scenario:
    """Return the scenario in a JSON text. Raises ValueError when it is none."""
    return msgspec.json.decode(data, type=Scenario)
