"""Who the clients behind the numbers of sessions are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from raftcoord.client.aio_client import Client
from raftcoord.client.deadline import Deadline
from raftcoord.protocol.errors import exception_for
from raftcoord.protocol.operations import BATCH_ITEMS_MAX, Operation

_NAMES: Final = int(Operation.SESSION_NAMES)


class ClientInfo(NamedTuple):
    """A client as others see it; its name is "" when its session has just ended."""

    session_id: int
    name: str


async def client_infos(client: Client, sessions: Sequence[int], deadline: Deadline) -> list[ClientInfo]:
    """Return who has each of these sessions. Raises CallTimeout."""
    found: list[ClientInfo] = []
    for start in range(0, len(sessions), BATCH_ITEMS_MAX):
        part = list(sessions[start : start + BATCH_ITEMS_MAX])
        code, names = await client.request(_NAMES, (part,), deadline.left_s() or None)
        if code:
            raise exception_for(code, "names of sessions")
        found += map(ClientInfo, part, names)
    return found
