"""A variable shared by all clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from raftcoord.client import aio_variable
from raftcoord.client.aio_variable import NOT_GIVEN, Versioned
from raftcoord.client.deadline import Deadline
from raftcoord.client.handle import Handle
from raftcoord.client.sync_client import Client
from raftcoord.client.sync_handle import SyncHandle
from raftcoord.client.timeouts import Timeout
from raftcoord.protocol.values import Name


class Variable(SyncHandle[aio_variable.Variable]):
    """A global value. Reads are linearizable: they see every write that was acknowledged before.

    Args:
        name: a str, int, bytes or tuple of these; None makes a random one.
        client: the client to use; None takes the current one.

    Values are None, bool, int (64 bits), float, str, bytes, list, dict, tuple, datetime and timedelta, up to
    1 MiB when packed. What is put in comes back equal and of the same type.
    """

    AIO: ClassVar[type[Handle]] = aio_variable.Variable

    def __init__(self, name: Name | None = None, client: Client | None = None) -> None:
        super().__init__(client, name=name)

    def set(
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
        self._client.run(self._aio.set(value, timeout, ttl=ttl, ephemeral=ephemeral))

    def get(self, timeout: Timeout = None) -> Any:
        """Return the value; wait until there is one.

        Args:
            timeout: None waits for ever, 0 does not wait.

        Raises:
            CallTimeout: the variable was unset for that long (a TimeoutError).
        """
        return self._client.run(self._aio.get(timeout))

    def get_versioned(self, timeout: Timeout = None) -> Versioned:
        """Return the value with its revision; otherwise like `get`."""
        return self._client.run(self._aio.get_versioned(timeout))

    def compare_and_set(
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
        return self._client.run(
            self._aio.compare_and_set(expected, value, revision=revision, timeout=timeout)
        )

    def update(
        self,
        function: Callable[[Any], Any],
        timeout: Timeout = None,
        *,
        default: Any = NOT_GIVEN,
    ) -> Any:
        """Replace the value by `function(value)`, and return the new one.

        When somebody else changed the variable meanwhile, the function is called again with the newer value,
        so that no change is lost; it should have no side effects. It runs in this thread.

        Args:
            function: takes the value and returns the new one.
            timeout: bound on the whole, apart from what the function itself takes.
            default: what the function takes when the variable is unset. Without it, an unset variable is
                waited for, as `get` does.

        Raises:
            CallTimeout: not done in time, and certainly not done.
            OutcomeUnknown: sent, and not answered in time. Otherwise as `set`.
        """
        aio, run = self._aio, self._client.run
        deadline = Deadline(timeout, time.monotonic, f"variable {self.name!r}")
        present = run(aio_variable.begin_update(aio, default, deadline.left_s()))
        while True:
            value = function(present.value)
            newer = run(aio_variable.try_update(aio, present, value, default, deadline.left_s()))
            if newer is None:
                return value
            present = newer

    def add(self, n: float = 1, timeout: Timeout = None) -> Any:
        """Add a number and return the sum. Atomic, and done once however often it is sent. Unset counts as 0.

        Raises:
            WrongType: the present value is not a number.
            NumberOverflow: the sum of two ints does not fit into 64 bits.
            TypeError: `n` is not a number. Otherwise as `set`.
        """
        return self._client.run(self._aio.add(n, timeout))

    def delete(self, timeout: Timeout = None) -> bool:
        """Make the variable unset; tell whether it was set. Raises: as `set`."""
        return self._client.run(self._aio.delete(timeout))

    def watch(self, timeout: Timeout = None) -> Iterator[Versioned]:
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
            change = self.next_change(seen, timeout)
            seen = change.revision
            yield change

    def next_change(self, seen_revision: int, timeout: Timeout = None) -> Versioned:
        """Return the value as soon as its revision is not `seen_revision` (0: unset).

        Raises:
            CallTimeout: it kept that revision for that long.
        """
        return self._client.run(self._aio.next_change(seen_revision, timeout))
