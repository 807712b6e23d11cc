"""The library that the engine is made from, as far as importing it goes."""

from __future__ import annotations

import socket

from raftcoord.consensus import library


def test_importing_the_library_leaves_the_functions_of_sockets_alone() -> None:
    assert library.SyncObj is not None
    packed = socket.inet_pton(socket.AF_INET6, "::1")
    assert socket.inet_ntop(socket.AF_INET6, packed) == "::1"
    assert socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, "127.0.0.1")) == "127.0.0.1"
