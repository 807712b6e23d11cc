"""HTTP for operators: health, readiness and metrics of a running replica."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from server_harness import NAME, VALUE, RawClient, free_address, make_config, run, serving

from raftcoord.consensus.interface import EngineStatus, FatalError, Role
from raftcoord.protocol.operations import Operation
from raftcoord.server.metrics import Histogram
from raftcoord.server.replica import ListenError, ReplicaServer
from raftcoord.server.status import unready_reason


def test_health_readiness_and_metrics(tmp_path: Path) -> None:
    async def scenario() -> None:
        address = free_address()
        async with serving(tmp_path, ops_listen=address) as server, aiohttp.ClientSession() as http:
            client = await RawClient.with_session(server)
            for sequence in range(1, 4):
                await client.ask([sequence, 0, int(Operation.VARIABLE_SET), NAME, VALUE])
            bad = await RawClient.connect(server)
            bad.send(5)
            await bad.rest()
            for path in ("healthz", "readyz"):
                async with http.get(f"http://{address}/{path}") as response:
                    assert response.status == 200, await response.text()
            async with http.get(f"http://{address}/metrics") as response:
                values = parse_metrics(await response.text())
            assert values["raftcoord_operations_total", "variable_set", "ok"] == 3
            assert values["raftcoord_rejected_total", "hello"] == 1
            assert values["raftcoord_role", "leader"] == 1
            assert values["raftcoord_role", "follower"] == 0
            assert values["raftcoord_sessions",] == 1
            assert values["raftcoord_connections",] == 1
            assert values["raftcoord_batch_commands_count",] >= 4
            assert values["raftcoord_commit_latency_seconds_count",] >= 4
            assert values["raftcoord_applied_index",] == server.engine_status().applied_index
            async with http.get(f"http://{address}/other") as response:
                assert response.status == 404

    run(scenario())


def test_a_fatal_error_shows(tmp_path: Path) -> None:
    async def scenario() -> None:
        address = free_address()
        async with serving(tmp_path, ops_listen=address) as server, aiohttp.ClientSession() as http:
            server.on_fatal(FatalError("the disk is gone"))
            assert str(await server.wait_fatal()) == "the disk is gone"
            for path in ("healthz", "readyz"):
                async with http.get(f"http://{address}/{path}") as response:
                    assert response.status == 503
                    assert "the disk is gone" in await response.text()

    run(scenario())


@pytest.mark.parametrize("setting", ["listen", "peer_listen", "ops_listen"])
def test_a_port_in_use_is_told_by_name_and_leaves_nothing_behind(setting: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path / "first") as other:
            taken = other.config.listen
            config = make_config(tmp_path / "second", **{setting: taken})
            server = ReplicaServer(config)
            with pytest.raises(ListenError, match=f"{setting}: cannot listen on {taken}: .*in use"):
                await server.start()
            again = ReplicaServer(make_config(tmp_path / "second"))
            await again.start()
            await again.stop()

    run(scenario())


def test_a_data_folder_in_use_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path):
            server = ReplicaServer(make_config(tmp_path))
            with pytest.raises(FatalError):
                await server.start()

    run(scenario())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"formed": False}, "have not met"),
        ({"leader": None}, "no leader is known"),
        ({"commit_index": 12}, "2 committed entries are not applied yet"),
    ],
)
def test_why_a_replica_is_not_ready(changes: dict[str, Any], reason: str | None) -> None:
    values: dict[str, Any] = {
        "name": "a",
        "identity": "i",
        "role": Role.FOLLOWER,
        "term": 3,
        "leader": "b",
        "leader_client_address": "h:1",
        "ready": False,
        "formed": True,
        "first_index": 1,
        "last_index": 20,
        "commit_index": 10,
        "applied_index": 10,
        "snapshot_index": 0,
        "log_bytes": 0,
        **changes,
    }
    found = unready_reason(EngineStatus(**values))
    assert found == reason if reason is None else found is not None and reason in found


def test_histograms_count_up_to_and_including_each_bound() -> None:
    histogram = Histogram((1.0, 10.0))
    for value in (0.5, 1.0, 5.0, 10.0, 11.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2.0), ("10.0", 4.0), ("+Inf", 5.0)]
    assert histogram.total == 27.5


def parse_metrics(text: str) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and label values; an operation goes before its code."""
    result = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sorted(sample.labels.items(), key=lambda pair: (pair[0] != "operation", pair[0]))
            result[(sample.name, *(value for _, value in labels))] = sample.value
    return result
