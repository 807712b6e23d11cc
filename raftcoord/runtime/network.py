"""Connections: the two calls of an asyncio loop that open sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Protocol

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Network(Protocol):
    """Opens connections and listeners that speak asyncio's transport and protocol interface."""

    async def listen(
        self, factory: ProtocolFactory, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> asyncio.AbstractServer:
        """Listen on one address. Raises OSError, e.g. when the port is in use."""

    async def connect(
        self, factory: ProtocolFactory, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[Any, Any]:
        """Open a connection; return (transport, protocol). Raises OSError."""


class LoopNetwork:
    """TCP through the running event loop."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<LoopNetwork>"

    async def listen(
        self, factory: ProtocolFactory, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> asyncio.AbstractServer:
        loop = asyncio.get_running_loop()
        return await loop.create_server(factory, host, port, ssl=tls, backlog=1024)

    async def connect(
        self, factory: ProtocolFactory, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, host, port, ssl=tls)
