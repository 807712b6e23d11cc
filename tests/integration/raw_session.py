"""A client session on one plain blocking socket, for tests that must decide what is sent when, and where."""

from __future__ import annotations

import os
import socket
from types import TracebackType
from typing import Any, Self

from raftcoord.protocol.errors import Code
from raftcoord.protocol.frames import MAGIC, PROTOCOL_VERSION, FrameDecoder, encode_frame


class RawSession:
    """One session on one replica, which must lead."""

    def __init__(self, address: str, ttl_ms: int = 5000) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._decoder = FrameDecoder()
        self._messages: list[Any] = []
        options = {"session": 0, "nonce": os.urandom(16), "ttl_ms": ttl_ms, "name": "raw"}
        self._socket.sendall(encode_frame([MAGIC, PROTOCOL_VERSION, "session", options]))
        _, _, code, payload = self.receive()
        assert code == Code.OK, (code, payload)
        self.session: int = payload["session"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, sequence: int, operation: int, *arguments: Any) -> None:
        self._socket.sendall(encode_frame([sequence, 0, int(operation), *arguments]))

    def send_control(self, request_id: int, name: str, *arguments: Any) -> None:
        self._socket.sendall(encode_frame([request_id, name, *arguments]))

    def receive(self) -> Any:
        """Return the next message; None when the replica closed the connection."""
        while not self._messages:
            try:
                data = self._socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    def receive_all(self) -> list[Any]:
        """Return all messages until the replica closes the connection or is silent for ten seconds."""
        messages = []
        try:
            while (message := self.receive()) is not None:
                messages.append(message)
        except TimeoutError:
            pass
        return messages
