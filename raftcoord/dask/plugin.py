"""The plugin that connects the workers of a Dask cluster with the replicas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

from distributed import WorkerPlugin

from raftcoord.client.addresses import Addresses, parse_addresses
from raftcoord.client.timeouts import Timeout, parse_duration
from raftcoord.dask import bridge
from raftcoord.dask.connections import close, configured, connections
from raftcoord.dask.outbox import FLUSH_AT_EXIT_S, outboxes
from raftcoord.protocol.errors import RaftcoordError

_log = logging.getLogger(__name__)

CONNECT_LIMIT_S: Final = 5.0  # a worker starts without the replicas if it must


class RaftcoordPlugin(WorkerPlugin):  # type: ignore[misc]  # Dask has no types
    """Tells workers where the replicas are, and gives each worker process its one connection.

        client.register_plugin(RaftcoordPlugin("host1:7400,host2:7400,host3:7400"))

    The connection is opened with the worker and closed with it: what the worker's tasks held is free at once
    when it is stopped in order, and within the session's time to live when it dies. In the process that makes
    the plugin, objects use the same addresses unless its configuration has others.

    Args:
        addresses: "host:port,host:port,…"; None takes `raftcoord.addresses` from Dask's configuration.
        session_ttl: time to live of the sessions of workers; None takes `raftcoord.session-ttl`.

    Raises:
        ValueError: there are no addresses.
    """

    name = "raftcoord"

    def __init__(self, addresses: str | Iterable[str] | None = None, session_ttl: Timeout = None) -> None:
        found = configured() if addresses is None else parse_addresses(addresses)
        if found is None:
            raise ValueError("no addresses: give some, or set raftcoord.addresses in Dask's configuration")
        if session_ttl is not None:
            parse_duration(session_ttl, what="session_ttl")
        self.addresses: Addresses = found
        self.session_ttl = session_ttl
        connections.suggested = found

    def __repr__(self) -> str:
        return f"<RaftcoordPlugin {','.join(self.addresses)}>"

    async def setup(self, worker: Any) -> None:
        """Open the connection of a worker's process; called by Dask."""
        client = connections.enter(self.addresses, self.session_ttl)
        try:
            await bridge.call_async(client.aio.connect(CONNECT_LIMIT_S))
        except RaftcoordError as error:
            _log.warning("worker_starts_unconnected worker=%s error=%s", worker.address, error)

    async def teardown(self, worker: Any) -> None:
        """Close the connection of a worker's process if no other worker there uses it; called by Dask."""
        client = connections.leave(self.addresses)
        if client is not None:
            await bridge.call_async(outboxes.drained(FLUSH_AT_EXIT_S))
            await asyncio.to_thread(close, client)
