"""What the synchronous objects have in common: each is a facade over its asyncio counterpart."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from raftcoord.client.handle import Handle
from raftcoord.client.sync_client import Client, client_for_address, get_client
from raftcoord.protocol.values import Name

_H = TypeVar("_H", bound=Handle)


class SyncHandle(Generic[_H]):
    """One named object in the store, usable from any thread.

    Args:
        client: the client to use; None takes the current one.
        options: the arguments of the asyncio object.
    """

    AIO: ClassVar[type[Handle]]

    def __init__(self, client: Client | None, **options: Any) -> None:
        if client is not None and not isinstance(client, Client):
            raise TypeError(f"client= takes a raftcoord.Client, not {type(client).__qualname__}")
        self._client = client if client is not None else get_client()
        aio: Any = self.AIO(client=self._client.aio, **options)
        self._aio: _H = aio

    @property
    def name(self) -> Name:
        return self._aio.name

    @property
    def client(self) -> Client:
        return self._client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._client!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _wake, (type(self), self._client.address, self._options())

    def _options(self) -> dict[str, Any]:
        """Return the arguments, besides the client, that make an equal handle."""
        return self._aio._options()


def _wake(kind: Any, address: str, options: dict[str, Any]) -> Any:
    return kind(client=client_for_address(address), **options)
