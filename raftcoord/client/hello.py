"""Opening a connection: connect, say hello, wait for the answer."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from raftcoord.client.addresses import split_address
from raftcoord.client.connection import Connection
from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import MAGIC, PROTOCOL_VERSION, encode_frame
from raftcoord.runtime import Runtime

# Refusals for good: asking again changes nothing.
HOPELESS: Final = frozenset({Code.UNSUPPORTED_VERSION, Code.UNAUTHENTICATED, Code.MALFORMED})


async def say_hello(
    runtime: Runtime, address: str, kind: str, options: dict[str, Any], limit_s: float
) -> tuple[Connection, Any, float]:
    """Connect to a replica and say hello; return the connection, the answer and when the hello was sent.

    The answer is None when the replica closed the connection instead. The caller closes the connection.

    Raises:
        TimeoutError: it did not answer within the limit (seconds), connecting included.
        OSError, ValueError: there is nothing to connect to.
    """
    reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    connection = Connection(
        address,
        on_message=lambda message: None if reply.done() else reply.set_result(message),
        on_closed=lambda: None if reply.done() else reply.set_result(None),
    )
    answered = False
    try:
        async with asyncio.timeout(limit_s):
            host, port = split_address(address)
            await runtime.network.connect(lambda: connection, host, port)
            sent_at = runtime.clock.now()
            connection.send(encode_frame([MAGIC, PROTOCOL_VERSION, kind, options]))
            message = await reply
        answered = True
        return connection, message, sent_at
    finally:
        if not answered:
            connection.close()


def is_hello(message: Any) -> bool:
    """Whether this is an answer to a hello: [magic, version, code, payload]."""
    return isinstance(message, list) and len(message) == 4 and message[0] == MAGIC
