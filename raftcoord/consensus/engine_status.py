"""One consistent view of a replica's consensus, for people and metrics."""

from __future__ import annotations

from collections.abc import Mapping

from raftcoord.consensus.compaction import Compaction
from raftcoord.consensus.interface import EngineConfig, EngineStatus, PeerStatus, Role
from raftcoord.consensus.replica_parts import Parts


def engine_status(
    *,
    config: EngineConfig,
    parts: Parts,
    compaction: Compaction,
    ready: bool,
    leader_client_address: str | None,
    counters: Mapping[str, float],
) -> EngineStatus:
    """Read the state of all parts in one go; call it between turns of the engine."""
    core = parts.core
    leading = core.role is Role.LEADER
    return EngineStatus(
        name=config.name,
        identity=parts.folder.identity,
        role=core.role,
        term=core.term,
        leader=core.leader,
        leader_client_address=leader_client_address,
        ready=ready,
        formed=parts.members.is_formed,
        first_index=core.first_index,
        last_index=core.last_index,
        commit_index=core.commit_index,
        applied_index=core.applied_index,
        snapshot_index=compaction.snapshot_index,
        log_bytes=parts.journal.log_bytes,
        peers=tuple(
            PeerStatus(
                name=peer,
                address=address,
                connected=peer in parts.replication.connected,
                match_index=core.match_index(peer) if leading else None,
                problem=parts.transport.last_problem(peer),
            )
            for peer, address in sorted(config.peers.items())
            if peer != config.name
        ),
        counters={
            **counters,
            "pre_votes_started": parts.elections.pre_votes_started,
            "peers_refused": parts.transport.refused_count,
            "snapshots_written": compaction.written,
            "snapshot_seconds": compaction.seconds,
        },
    )
