"""What a status request answers: one replica described in plain msgpack values."""

from __future__ import annotations

from typing import Any

from raftcoord.consensus.interface import EngineStatus
from raftcoord.version import __version__


def status_map(
    *,
    engine_status: EngineStatus,
    counts: dict[str, int],
    connections: int,
    uptime_s: float,
    counters: dict[str, float],
) -> dict[str, Any]:
    """Return the status of one replica. Indexes count log entries; `counts` is the machine's."""
    objects = dict(counts)
    sessions = objects.pop("sessions", 0)
    waiters = objects.pop("waiters", 0)
    return {
        "name": engine_status.name,
        "identity": engine_status.identity,
        "version": __version__,
        "role": engine_status.role.value,
        "term": engine_status.term,
        "leader": engine_status.leader,
        "leader_address": engine_status.leader_client_address,
        "ready": engine_status.ready,
        "formed": engine_status.formed,
        "first_index": engine_status.first_index,
        "last_index": engine_status.last_index,
        "commit_index": engine_status.commit_index,
        "applied_index": engine_status.applied_index,
        "snapshot_index": engine_status.snapshot_index,
        "log_bytes": engine_status.log_bytes,
        "peers": [
            {
                "name": peer.name,
                "address": peer.address,
                "connected": peer.connected,
                "match_index": peer.match_index,
            }
            for peer in engine_status.peers
        ],
        "sessions": sessions,
        "objects": objects,
        "waiters": waiters,
        "connections": connections,
        "uptime_s": uptime_s,
        "counters": {**engine_status.counters, **counters},
    }


def unready_reason(engine_status: EngineStatus) -> str | None:
    """Return why a replica is not ready to be counted on, or None when it is.

    Ready is one that knows a leader and has applied everything that it knows to be committed.
    """
    if not engine_status.formed:
        return "the members of the cluster have not met yet"
    if engine_status.leader is None:
        return "no leader is known"
    behind = engine_status.commit_index - engine_status.applied_index
    if behind > 0:
        return f"{behind} committed entries are not applied yet"
    return None
