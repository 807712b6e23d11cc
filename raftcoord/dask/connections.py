"""Where the replicas are, and the one connection to them that all objects of a process share.

Invariants:
  1. There is one client per process and addresses, shared with the objects of `raftcoord` itself.
  2. What the plugin opened, it closes with the last worker of the process that uses it, unless objects
     outside of workers have come to use it as well.
"""

from __future__ import annotations

import threading
from typing import Any

import dask
from dask import config as dask_config

from raftcoord.client import forking, sync_client
from raftcoord.client.addresses import Addresses, parse_addresses
from raftcoord.client.loop_thread import stop_loop_thread
from raftcoord.client.sync_client import Client
from raftcoord.client.timeouts import Timeout

DEFAULTS: dict[str, Any] = {"raftcoord": {"addresses": None, "session-ttl": "10s", "timeout": "30s"}}
dask_config.update_defaults(DEFAULTS)


class Connections:
    """The clients of this process; safe from any thread."""

    def __init__(self) -> None:
        self._start_over()
        self.suggested: Addresses | None = None  # by a plugin that was made here, to be sent to workers
        forking.call_in_child(self._start_over)

    def __repr__(self) -> str:
        return f"<Connections workers={self._workers} made={self._made}>"

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._workers: list[Addresses] = []  # of the workers whose plugin is set up, the newest last
        self._made: dict[Addresses, Client] = {}
        self._used_outside: set[Client] = set()

    def addresses(self, explicit: Addresses | None, carried: Addresses | None) -> Addresses:
        """Return the addresses to use.

        Args:
            explicit: those that the user gave the object.
            carried: those that an object knew where it was pickled.

        Raises:
            RuntimeError: nobody knows any.
        """
        if explicit is not None:
            return explicit
        workers = self._workers
        found = (workers[-1] if workers else None) or configured() or carried or self.suggested
        if found is not None:
            return found
        try:
            client = sync_client.get_client()
        except RuntimeError:
            raise RuntimeError(
                "no address of raftcoord: set raftcoord.addresses in the configuration of Dask "
                "(DASK_RAFTCOORD__ADDRESSES=host:port,…), register a RaftcoordPlugin, or pass address="
            ) from None
        assert client.addresses is not None
        return client.addresses

    def client(self, addresses: Addresses, *, outside: bool) -> Client:
        """Return the client for addresses; make it when needed.

        Args:
            outside: whether it is used by something else than a worker and its tasks.
        """
        client = sync_client.registry.for_addresses(addresses, self._make)
        if outside:
            self._used_outside.add(client)
        return client

    def _make(self, addresses: Addresses, session_ttl: Timeout = None) -> Client:
        client = Client(
            addresses,
            session_ttl=session_ttl or dask_config.get("raftcoord.session-ttl"),
            timeout=dask_config.get("raftcoord.timeout"),
            set_as_default=False,
        )
        self._made[addresses] = client
        return client

    def enter(self, addresses: Addresses, session_ttl: Timeout) -> Client:
        """A worker of this process begins to use these addresses."""
        with self._lock:
            self._workers.append(addresses)
        return sync_client.registry.for_addresses(addresses, lambda found: self._make(found, session_ttl))

    def leave(self, addresses: Addresses) -> Client | None:
        """A worker has ended; return the client that is to be closed for it, if any."""
        with self._lock:
            if addresses in self._workers:
                self._workers.remove(addresses)
            if addresses in self._workers:
                return None
            client = self._made.get(addresses)
            if client is None or client in self._used_outside:
                return None
            return self._made.pop(addresses)


def configured() -> Addresses | None:
    """Return the addresses in Dask's configuration, or None. Raises TypeError or ValueError."""
    addresses = dask.config.get("raftcoord.addresses", None)
    return parse_addresses(addresses) if addresses else None


def close(client: Client) -> None:
    """End a client, and the loop thread if nothing else runs on it; blocks for at most about a second."""
    client.close()
    stop_loop_thread()


connections = Connections()
