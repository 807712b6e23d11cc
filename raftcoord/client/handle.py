"""What the asyncio objects have in common: a name, a client, pickling, and how codes become exceptions."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn, TypeAlias

from raftcoord.client.aio_client import Client, client_for_address, get_client
from raftcoord.client.deadline import Deadline
from raftcoord.client.timeouts import Timeout, parse_timeout
from raftcoord.protocol.errors import Code, RaftcoordError, exception_for
from raftcoord.protocol.values import Name, pack_name

Errors: TypeAlias = Mapping[int, tuple[type[RaftcoordError], str]]

_TEXT_BY_CODE = {
    Code.UNSET: "it is not set",
    Code.FULL: "it is full",
    Code.EMPTY: "it has too few items",
    Code.CANCELLED: "the time was over",
    Code.CLOSED: "it was closed",
    Code.NOT_HOLDER: "it is not held by this handle",
    Code.WRONG_TYPE: "its value is not a number",
    Code.OVERFLOW: "the result does not fit into 64 bits",
    Code.STALE: "the replicas took the call for a late duplicate",
}


class Handle:
    """One named object in the store, as one client sees it. Holds no value itself.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.
    """

    KIND: ClassVar[str] = "object"
    ERRORS: ClassVar[Errors] = {}  # where a kind of object says more than a code alone

    def __init__(self, name: Name | None = None, client: Client | None = None) -> None:
        self._name: Name = f"{self.KIND}-{uuid.uuid4().hex}" if name is None else name
        self._key = self._key_of(self._name)
        if client is not None and not isinstance(client, Client):
            raise TypeError(f"client= takes a raftcoord.aio.Client, not {type(client).__qualname__}")
        self._client = client if client is not None else get_client()

    @property
    def name(self) -> Name:
        return self._name

    @property
    def client(self) -> Client:
        return self._client

    def __repr__(self) -> str:
        return f"<aio.{type(self).__name__} {self._name!r} {self._client!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _wake, (type(self), self._client.address, self._options())

    def _options(self) -> dict[str, Any]:
        """Return the arguments, besides the client, that make an equal handle."""
        return {"name": self._name}

    @property
    def _what(self) -> str:
        return f"{self.KIND} {self._name!r:.200}"

    def _key_of(self, name: Name) -> bytes:
        """Return how the store calls the object. Raises TypeError or ValueError."""
        return pack_name(name)

    def _refuse(self, code: int, payload: Any) -> NoReturn:
        """Raise what stands for an answer that is not OK."""
        known = self.ERRORS.get(code)
        if known is not None:
            kind, text = known
            raise kind(f"{self._what}: {text}")
        try:
            text = _TEXT_BY_CODE.get(Code(code), "")
        except ValueError:
            text = f"status {code}"
        if isinstance(payload, str):
            text = f"{text} {payload:.200}".strip()
        raise exception_for(code, f"{self._what}: {text or Code(code).name}")

    def _deadline(self, timeout: Timeout) -> Deadline:
        """Return the bound, from now on, of what takes several calls."""
        return Deadline(timeout, asyncio.get_running_loop().time, self._what)

    async def _call(self, operation: int, timeout: Timeout, *arguments: Any) -> Any:
        """Make a call that does not wait; None and 0 take the client's bound. Return its payload."""
        timeout_s = (parse_timeout(timeout) or None) if timeout is not None else None
        code, payload = await self._client.request(operation, (self._key, *arguments), timeout_s)
        if code:
            self._refuse(code, payload)
        return payload

    async def _wait(self, operation: int, timeout: Timeout, *arguments: Any) -> Any:
        """Make a call that waits unless the timeout is 0 (then: the client's bound). Return its payload."""
        timeout_s = parse_timeout(timeout)
        wait = timeout_s != 0
        code, payload = await self._client.request(
            operation, (self._key, *arguments, wait), timeout_s if wait else None, wait=wait
        )
        if code:
            self._refuse(code, payload)
        return payload


def _wake(kind: type[Handle], address: str, options: dict[str, Any]) -> Handle:
    return kind(client=client_for_address(address), **options)
