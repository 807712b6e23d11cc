"""Dask's Event."""

from __future__ import annotations

from typing import Any, ClassVar

from raftcoord import aio
from raftcoord.client.sync_client import Client as StoreClient
from raftcoord.client.timeouts import Timeout
from raftcoord.dask.handle import DaskHandle
from raftcoord.dask.names import seconds


class Event(DaskHandle[aio.Event]):
    """A flag that is clear until somebody sets it, and that anybody can wait for.

    Args:
        name: None makes a random one.
        client: a Dask client; None takes that of the task or process.
        address: of the replicas; None takes what plugin or configuration say.
    """

    KIND: ClassVar[str] = "event"

    def _make(self, client: StoreClient) -> aio.Event:
        return aio.Event(self._store_name, client.aio)

    def wait(self, timeout: Timeout = None) -> Any:
        """Wait until the event is set; return True, or False when it was not set in time.

        Args:
            timeout: seconds, "200ms" or a timedelta; None waits for ever.
        """
        return self._run(self._object.wait(seconds(timeout)))

    def set(self) -> Any:
        """Set the event: all who wait go on.

        Raises:
            TimeoutError: no replica answered within the bound `raftcoord.timeout`.
        """
        return self._run(_without_result(self._object.set()))

    def clear(self) -> Any:
        """Clear the event. Raises: as `set`."""
        return self._run(_without_result(self._object.clear()))

    def is_set(self) -> Any:
        """Tell whether the event is set. Raises: as `set`."""
        return self._run(self._object.is_set())


async def _without_result(call: Any) -> None:
    await call
