"""Asking one replica how it is, with one plain blocking socket: for tools and tests, without a client.

Any replica answers, whether it leads or not, so this works when the cluster as a whole does not.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import MAGIC, PROTOCOL_VERSION, FrameDecoder, FrameError, encode_frame

_RECEIVE_BYTES = 65536
_REQUEST_ID = -1


class ObserveError(OSError):
    """The replica did not answer as it should; the message says in one line what happened."""


def observe(address: str, timeout_s: float = 1.0) -> dict[str, Any]:
    """Return the status map of the replica at "host:port".

    Raises:
        ObserveError: nobody listens there, or no proper answer came within `timeout_s` altogether.
    """
    status = ask(address, "status", timeout_s=timeout_s)
    if type(status) is not dict:
        raise ObserveError(f"{address}: its status is not a map")
    return status


def ask(address: str, operation: str, *arguments: Any, timeout_s: float = 1.0) -> Any:
    """Make one connection-level request and return its payload.

    Raises:
        ObserveError: as for `observe`, or the replica refused.
    """
    deadline = time.monotonic() + timeout_s
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s) as connection:
            messages = _messages(connection, deadline)
            connection.sendall(encode_frame([MAGIC, PROTOCOL_VERSION, "observer", {}]))
            _payload_of(next(messages), 4)
            connection.sendall(encode_frame([_REQUEST_ID, operation, *arguments]))
            return _payload_of(next(message for message in messages if message[0] == _REQUEST_ID), 3)
    except TimeoutError:
        raise ObserveError(f"{address}: no answer within {timeout_s:g} s") from None
    except FrameError as error:
        raise ObserveError(f"{address}: does not speak the protocol: {error}") from None
    except (OSError, ValueError, OverflowError) as error:
        raise ObserveError(f"{address}: {getattr(error, 'strerror', None) or error}") from None


def _messages(connection: socket.socket, deadline: float) -> Iterator[list[Any]]:
    """Yield what the replica sends; never ends but by an exception."""
    decoder = FrameDecoder()
    while (rest_s := deadline - time.monotonic()) > 0:
        connection.settimeout(rest_s)
        data = connection.recv(_RECEIVE_BYTES)
        if not data:
            raise ObserveError("the replica closed the connection")
        for message in decoder.feed(data):
            if type(message) is not list or not message:
                raise FrameError("an answer is not a list")
            yield message
    raise TimeoutError


def _payload_of(message: list[Any], length: int) -> Any:
    if len(message) != length:
        raise FrameError(f"an answer of {len(message)} items instead of {length}")
    code, payload = message[-2:]
    if code != Code.OK:
        name = Code(code).name if code in set(Code) else f"status {code}"
        raise ObserveError(f"answered {name}" + (f": {payload}" if payload else ""))
    return payload
