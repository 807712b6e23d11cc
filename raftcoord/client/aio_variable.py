"""A variable shared by all clients, for asyncio."""

from __future__ import annotations

import copy
import inspect
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Any, ClassVar, Final, NamedTuple

from raftcoord.client.handle import Handle
from raftcoord.client.timeouts import Timeout, parse_duration_ms, parse_timeout
from raftcoord.protocol.errors import Code, SessionLost
from raftcoord.protocol.operations import Operation
from raftcoord.protocol.values import pack_value, unpack_value

_SET: Final = int(Operation.VARIABLE_SET)
_GET: Final = int(Operation.VARIABLE_GET)
_COMPARE_AND_SET: Final = int(Operation.VARIABLE_COMPARE_AND_SET)
_ADD: Final = int(Operation.VARIABLE_ADD)
_DELETE: Final = int(Operation.VARIABLE_DELETE)
_SET_WITH: Final = int(Operation.VARIABLE_SET_WITH)
_WATCH: Final = int(Operation.VARIABLE_WATCH)


class Unset(Enum):
    """Stands for "has no value": in `compare_and_set`, and for a deleted variable in `watch`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


class _NotGiven(Enum):
    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "NOT_GIVEN"


UNSET: Final = Unset.UNSET
NOT_GIVEN: Final = _NotGiven.NOT_GIVEN


class Versioned(NamedTuple):
    """A value and its revision. Revisions are unique in the store and only grow; 0 means unset."""

    value: Any
    revision: int


def condition_of(expected: Any, revision: int | None) -> list[Any]:
    """Return the wire form of what a compare_and_set expects. Raises TypeError or ValueError."""
    if (expected is NOT_GIVEN) == (revision is None):
        raise TypeError("compare_and_set takes either an expected value or revision=")
    if revision is not None:
        if type(revision) is not int or revision < 0:
            raise ValueError(f"a revision is an int of at least 0, not {revision!r}")
        return [revision] if revision else []
    return [] if expected is UNSET else [pack_value(expected)]


class Variable(Handle):
    """A global value. Reads are linearizable: they see every write that was acknowledged before.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.

    Values are None, bool, int (64 bits), float, str, bytes, list, dict, tuple, datetime and timedelta, up to
    1 MiB when packed. What is put in comes back equal and of the same type.
    """

    KIND: ClassVar[str] = "variable"

    async def set(
        self, value: Any, timeout: Timeout = None, *, ttl: Timeout = None, ephemeral: bool = False
    ) -> None:
        """Set the value. Any later change, by anyone, drops the `ttl` and `ephemeral` of this one.

        Args:
            timeout: bound on the call; None takes the client's own.
            ttl: unset the variable after this time; None for never.
            ephemeral: unset the variable when the client's session ends.

        Raises:
            TypeError: a value of this type cannot be stored.
            ValueTooLarge: it is over 1 MiB.
            CallTimeout: not done in time, and certainly not done.
            OutcomeUnknown: sent, and not answered in time.
        """
        blob = pack_value(value)
        if ttl is None and not ephemeral:
            await self._call(_SET, timeout, blob)
        else:
            ttl_ms = 0 if ttl is None else parse_duration_ms(ttl, what="ttl")
            await self._call(_SET_WITH, timeout, blob, ttl_ms, bool(ephemeral))

    async def get(self, timeout: Timeout = None) -> Any:
        """Return the value; wait until there is one.

        Args:
            timeout: None waits for ever, 0 does not wait.

        Raises:
            CallTimeout: the variable was unset for that long (a TimeoutError).
        """
        blob, _ = await self._wait(_GET, timeout)
        return unpack_value(blob)

    async def get_versioned(self, timeout: Timeout = None) -> Versioned:
        """Return the value with its revision; otherwise like `get`."""
        blob, revision = await self._wait(_GET, timeout)
        return Versioned(unpack_value(blob), revision)

    async def compare_and_set(
        self,
        expected: Any = NOT_GIVEN,
        value: Any = NOT_GIVEN,
        *,
        revision: int | None = None,
        timeout: Timeout = None,
    ) -> bool:
        """Set the value if the variable is as expected; tell whether it was.

        Args:
            expected: the value it must have, or `UNSET`.
            value: the new value.
            revision: instead of `expected`: the revision it must have; 0 stands for unset.
            timeout: bound on the call; None takes the client's own.

        Raises: as `set`.
        """
        if value is NOT_GIVEN:
            raise TypeError("compare_and_set needs a new value")
        return await self._compare_and_set(condition_of(expected, revision), value, timeout) is None

    async def update(
        self,
        function: Callable[[Any], Any],
        timeout: Timeout = None,
        *,
        default: Any = NOT_GIVEN,
    ) -> Any:
        """Replace the value by `function(value)`, and return the new one.

        When somebody else changed the variable meanwhile, the function is called again with the newer value,
        so that no change is lost; it should have no side effects.

        Args:
            function: takes the value and returns the new one; in asyncio it may be a coroutine function.
            timeout: bound on the whole, apart from what the function itself takes.
            default: what the function takes when the variable is unset. Without it, an unset variable is
                waited for, as `get` does.

        Raises:
            CallTimeout: not done in time, and certainly not done.
            OutcomeUnknown: sent, and not answered in time. Otherwise as `set`.
        """
        deadline = self._deadline(timeout)
        present = await begin_update(self, default, deadline.left_s())
        while True:
            value = function(present.value)
            if inspect.isawaitable(value):
                value = await value
            newer = await try_update(self, present, value, default, deadline.left_s())
            if newer is None:
                return value
            present = newer

    async def _compare_and_set(self, condition: list[Any], value: Any, timeout: Timeout) -> Versioned | None:
        """Return None when the value was set, else what the variable holds (`UNSET` for nothing)."""
        arguments = (self._key, condition, pack_value(value))
        code, payload = await self._client.request(
            _COMPARE_AND_SET, arguments, parse_timeout(timeout) or None
        )
        if code == Code.CONFLICT:
            return Versioned(UNSET, 0) if payload is None else Versioned(unpack_value(payload[0]), payload[1])
        if code:
            self._refuse(code, payload)
        return None

    async def _get_or_default(self, default: Any, timeout: Timeout) -> Versioned:
        code, payload = await self._client.request(_GET, (self._key, False), parse_timeout(timeout) or None)
        if code == Code.UNSET:
            return Versioned(copy.deepcopy(default), 0)  # the function may change it, and be called again
        if code:
            self._refuse(code, payload)
        return Versioned(unpack_value(payload[0]), payload[1])

    async def add(self, n: float = 1, timeout: Timeout = None) -> Any:
        """Add a number and return the sum. Atomic, and done once however often it is sent. Unset counts as 0.

        Raises:
            WrongType: the present value is not a number.
            NumberOverflow: the sum of two ints does not fit into 64 bits.
            TypeError: `n` is not a number. Otherwise as `set`.
        """
        if type(n) not in (int, float):
            raise TypeError(f"add takes an int or a float, not {type(n).__qualname__}")
        blob, _ = await self._call(_ADD, timeout, pack_value(n))
        return unpack_value(blob)

    async def delete(self, timeout: Timeout = None) -> bool:
        """Make the variable unset; tell whether it was set. Raises: as `set`."""
        existed = await self._call(_DELETE, timeout)
        return bool(existed)

    async def watch(self, timeout: Timeout = None) -> AsyncIterator[Versioned]:
        """Iterate over the value as it changes, the present one first if there is one.

        Always ends up at the newest value, but skips those that were replaced in the meantime. A deletion
        shows as `Versioned(UNSET, 0)`.

        Args:
            timeout: how long to wait for each change; None for ever.

        Raises:
            CallTimeout: nothing changed for that long.
        """
        seen = 0
        while True:
            change = await self.next_change(seen, timeout)
            seen = change.revision
            yield change

    async def next_change(self, seen_revision: int, timeout: Timeout = None) -> Versioned:
        """Return the value as soon as its revision is not `seen_revision` (0: unset).

        Raises:
            CallTimeout: it kept that revision for that long.
        """
        deadline = self._deadline(timeout)
        while True:
            try:
                blob, revision = await self._wait(_WATCH, deadline.left_s(), seen_revision)
            except SessionLost:
                if self._client.closed:
                    raise
                continue  # watching takes nothing, so it simply goes on in the next session
            return Versioned(UNSET if blob is None else unpack_value(blob), revision)


async def begin_update(variable: Variable, default: Any, timeout: Timeout) -> Versioned:
    """Return what the function of an update is called with first."""
    if default is NOT_GIVEN:
        return await variable.get_versioned(timeout)
    return await variable._get_or_default(default, timeout)


async def try_update(
    variable: Variable, present: Versioned, value: Any, default: Any, timeout: Timeout
) -> Versioned | None:
    """Set a value unless the variable changed; return None when that worked, else what to try with next."""
    newer = await variable._compare_and_set(condition_of(NOT_GIVEN, present.revision), value, timeout)
    if newer is None or newer.revision:
        return newer
    return await begin_update(variable, default, timeout)
