"""The bound of something that takes several calls."""

from __future__ import annotations

from collections.abc import Callable

from raftcoord.client.timeouts import Timeout, parse_timeout
from raftcoord.protocol.errors import CallTimeout


class Deadline:
    """A timeout that began when this was made.

    Args:
        timeout: as users write it; None for none. 0 does not wait, and leaves calls to the client's bound.
        now: the clock, in seconds.
        what: for the message of the error.
    """

    def __init__(self, timeout: Timeout, now: Callable[[], float], what: str) -> None:
        timeout_s = parse_timeout(timeout)
        self._now = now
        self._what = what
        self._waits = timeout_s != 0
        self._at = now() + timeout_s if timeout_s else None

    def __repr__(self) -> str:
        return f"<Deadline of {self._what} at={self._at}>"

    def left_s(self) -> float | None:
        """Return the seconds left: None for ever, 0 only if the timeout was 0.

        Raises:
            CallTimeout: none are.
        """
        if self._at is None:
            return None if self._waits else 0.0
        left_s = self._at - self._now()
        if left_s <= 0:
            raise CallTimeout(f"{self._what}: the time was over")
        return left_s
