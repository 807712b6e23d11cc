"""Loopback ports that stay ours while the process that listens on them is down.

A socket that is bound but does not listen keeps a port away from everybody who asks for any free port,
and from the kernel's choice of source ports. A server that sets SO_REUSEADDR, as asyncio and uvloop do,
can still listen on it; while none does, connecting is refused at once.

Invariants:
  1. The reservation never listens, so no connection can hang in its backlog.
  2. A port is never given back between the choice and the end of its owner.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"


class ReservedPort:
    """One port of 127.0.0.1, reserved until `close`.

    Args:
        port: the port, or 0 for any free one.

    Raises:
        OSError: somebody listens on the port.
    """

    __slots__ = ("_socket", "port")

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((LOOPBACK, port))
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def __repr__(self) -> str:
        return f"<ReservedPort {self.address} {'closed' if self._socket.fileno() < 0 else 'held'}>"

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def close(self) -> None:
        self._socket.close()


def reserve(ports: Iterable[int]) -> list[ReservedPort]:
    """Reserve all the given ports (0 stands for any), or none.

    Raises:
        OSError: one of them is in use; the message names it.
    """
    with contextlib.ExitStack() as undo:
        held: list[ReservedPort] = []
        for port in ports:
            try:
                held.append(ReservedPort(port))
            except OSError as error:
                raise OSError(
                    error.errno, f"cannot use port {port} of {LOOPBACK}: {error.strerror}"
                ) from None
            undo.callback(held[-1].close)
        undo.pop_all()
        return held
