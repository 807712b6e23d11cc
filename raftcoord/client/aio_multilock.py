"""Several locks at once, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from raftcoord.client.aio_client import Client
from raftcoord.client.client_info import ClientInfo, client_infos
from raftcoord.client.lease_handle import LeaseBlock
from raftcoord.client.leases import Hold
from raftcoord.client.ownership import for_its_caller
from raftcoord.client.timeouts import Timeout, parse_timeout
from raftcoord.protocol.operations import MULTILOCK_NAMES_MAX, Operation
from raftcoord.protocol.values import Name, pack_name

_ACQUIRE: Final = int(Operation.MULTILOCK_ACQUIRE)
_RELEASE: Final = int(Operation.MULTILOCK_RELEASE)
_STATUS: Final = int(Operation.MULTILOCK_STATUS)


class MultiLock(LeaseBlock):
    """Locks that are taken together: all of them, or any `num_locks` of them, or none.

    Nobody can come to a deadlock over them, and nobody is overtaken: of two who want the same name, the one
    who asked first is served first. Names of a MultiLock have nothing to do with those of a `Lock`.

    Args:
        names: the locks, at most 1000; each a str, int, bytes or tuple of these. Doubles count once.
        client: the client to use; None takes the current one.
        on_lost: called, without arguments, when locks are lost while they are held; it must not block.
    """

    KIND: ClassVar[str] = "multilock"

    def __init__(
        self,
        names: Iterable[Name],
        client: Client | None = None,
        *,
        on_lost: Callable[[], object] | None = None,
    ) -> None:
        self._name_by_key = check_names(names)
        super().__init__(tuple(self._name_by_key.values()), client, on_lost=on_lost)

    def _key_of(self, name: Name) -> bytes:
        return b""  # each of the names has its own

    def _options(self) -> dict[str, Any]:
        return {"names": self.names}

    @property
    def names(self) -> tuple[Name, ...]:
        """All the names, each once."""
        return tuple(self._name_by_key.values())

    @property
    def names_held(self) -> tuple[Name, ...]:
        """The names that this task holds through this handle.

        Raises:
            NotHolder: this task holds nothing through this handle.
            LockLost: it did, and lost it.
        """
        held: tuple[Name, ...] = self._holdings.current().detail
        return held

    @for_its_caller
    async def acquire(
        self, blocking: bool = True, timeout: Timeout = None, num_locks: int | None = None
    ) -> bool:
        """Take the locks; tell whether that worked.

        Args:
            blocking: False does not wait.
            timeout: None waits for ever, 0 does not wait.
            num_locks: how many of the names are needed, in the order of `names` as they are free; None for
                all of them.

        Raises:
            SessionLost: the client's session ended while it waited.
            CallTimeout: a call that does not wait was not answered within the client's bound.
        """
        count = check_num_locks(num_locks, len(self._name_by_key))
        granted = await self._ask(_ACQUIRE, (list(self._name_by_key), count), blocking, timeout)
        if granted is None:
            return False
        fence, keys = granted
        self._remember(fence, tuple(self._name_by_key[key] for key in keys))
        return True

    @for_its_caller
    async def release(self, timeout: Timeout = None) -> None:
        """Give back all that the last `acquire` of this task took.

        Raises:
            NotHolder: this task holds nothing through this handle.
            LockLost: it did, and lost it; somebody else may have had it since.
            OutcomeUnknown: nobody answered in time; it is repeated in the background.
        """
        await self._release(None, timeout)

    def locked(self) -> bool:
        """Tell whether this handle holds its locks (or as many of them as it asked for). Asks nobody."""
        return any(hold.is_alive() for hold in self._holdings)

    async def holders(self, timeout: Timeout = None) -> dict[Name, ClientInfo]:
        """Return who holds which of the names; a name that is free is missing."""
        deadline = self._deadline(timeout)
        left_s = deadline.left_s()
        statuses = await asyncio.gather(*(self._status(key, left_s) for key in self._name_by_key))
        held = [
            (name, status[0]) for name, status in zip(self.names, statuses, strict=True) if status is not None
        ]
        infos = await client_infos(self._client, [session for _, session in held], deadline)
        return {name: info for (name, _), info in zip(held, infos, strict=True)}

    async def _status(self, key: bytes, timeout: Timeout) -> Any:
        code, status = await self._client.request(_STATUS, (key,), parse_timeout(timeout) or None)
        if code:
            self._refuse(code, status)
        return status

    async def _acquire_until(self, timeout: Timeout) -> bool:
        return await self.acquire(timeout=timeout)

    async def _release(self, hold: Hold | None, timeout: Timeout) -> None:
        await self._give_back(hold, _RELEASE, (), timeout)


def check_names(names: Iterable[Name]) -> dict[bytes, Name]:
    """Return distinct names by their keys, in order. Raises TypeError or ValueError."""
    if isinstance(names, str | bytes):
        raise TypeError("names are a list of names, and not one name")
    name_by_key = {pack_name(name): name for name in names}
    if not 1 <= len(name_by_key) <= MULTILOCK_NAMES_MAX:
        raise ValueError(f"a multilock has between 1 and {MULTILOCK_NAMES_MAX} names, not {len(name_by_key)}")
    return name_by_key


def check_num_locks(num_locks: int | None, names_count: int) -> int:
    """Return how many locks an acquire asks for. Raises TypeError or ValueError."""
    if num_locks is None:
        return names_count
    if type(num_locks) is not int:
        raise TypeError(f"num_locks is an int, not {type(num_locks).__qualname__}")
    if not 1 <= num_locks <= names_count:
        raise ValueError(f"num_locks must be between 1 and {names_count}, not {num_locks}")
    return num_locks
