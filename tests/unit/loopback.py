"""Loopback addresses for tests that open real sockets, and waiting for what happens on them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable


def free_addresses(count: int) -> list[str]:
    """Return addresses that nobody listens on at the moment, sorted."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return sorted(addresses)


async def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Return as soon as the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)
