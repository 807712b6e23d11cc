"""The states of a client as its listeners see them."""

from __future__ import annotations

from enum import Enum


class ClientState(Enum):
    """Where a client stands.

    CONNECTED  the session is attached to the leader
    SUSPENDED  no replica is attached; the session may live on, and its locks with it
    LOST       there is no session: none was opened yet, it expired, or the client is closed
    """

    CONNECTED = "connected"
    SUSPENDED = "suspended"
    LOST = "lost"
