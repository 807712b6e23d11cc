"""Which client an object uses when none is given: the process's current one, or one per address.

Invariants:
  1. The current client is the one created last with `set_as_default` that is not closed.
  2. Handles that wake up from a pickle share one client per address, options and process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from raftcoord.client import forking
from raftcoord.client.addresses import (
    ADDRESS_ENVIRONMENT,
    Addresses,
    address_from_environment,
    parse_addresses,
)


class _Client(Protocol):
    @property
    def closed(self) -> bool: ...

    @property
    def addresses(self) -> Addresses | None: ...


_C = TypeVar("_C", bound=_Client)


class Registry(Generic[_C]):
    """The clients of one flavour (synchronous or asyncio) in this process; safe from any thread.

    Args:
        make: makes a client for addresses, without making it the current one.
    """

    def __init__(self, make: Callable[[Addresses], _C]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._defaults: list[_C] = []
        self._shared: dict[Addresses, _C] = {}
        forking.call_in_child(self._after_fork)

    def __repr__(self) -> str:
        return f"<Registry defaults={len(self._defaults)} shared={list(self._shared)}>"

    def set_default(self, client: _C) -> None:
        """Make a client the current one."""
        with self._lock:
            self._defaults = [other for other in self._defaults if not other.closed and other is not client]
            self._defaults.append(client)

    def forget(self, client: _C) -> None:
        """A client was closed."""
        with self._lock:
            self._defaults = [other for other in self._defaults if other is not client]
            self._shared = {key: other for key, other in self._shared.items() if other is not client}

    def current(self) -> _C:
        """Return the current client; else one for RAFTCOORD_ADDRESS.

        Raises:
            RuntimeError: there is neither.
        """
        with self._lock:
            for client in reversed(self._defaults):
                if not client.closed:
                    return client
        address = address_from_environment()
        if address is None:
            raise RuntimeError(
                f"no client: create a Client first, pass client=, or set {ADDRESS_ENVIRONMENT}=host:port,…"
            )
        return self.for_addresses(parse_addresses(address))

    def for_addresses(self, addresses: Addresses, make: Callable[[Addresses], _C] | None = None) -> _C:
        """Return the current client if it uses these addresses, else the shared one for them.

        Args:
            make: makes the shared one when there is none, without making it the current one.
        """
        with self._lock:
            for client in reversed(self._defaults):
                if not client.closed:
                    if client.addresses is not None and set(client.addresses) == set(addresses):
                        return client
                    break
            shared = self._shared.get(addresses)
            if shared is None or shared.closed:
                shared = self._shared[addresses] = (make or self._make)(addresses)
            return shared

    def _after_fork(self) -> None:
        # Another thread of the parent may have held the lock when the process forked.
        self._lock = threading.Lock()
