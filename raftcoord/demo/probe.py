"""A client that does nothing but write, so that a failover shows as its longest call."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

from raftcoord import Client, Variable

_PAUSE_S: Final = 0.002
_END_WAIT_S: Final = 40.0


class Probe:
    """Writes one variable again and again from a thread of its own, and times every call.

    Args:
        address: the replicas.
    """

    def __init__(self, address: str) -> None:
        self._client = Client(address, name="probe", session_ttl="5s", set_as_default=False)
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._calls: list[tuple[float, float]] = []  # when each call began and ended
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="probe", daemon=True)

    def __repr__(self) -> str:
        return f"<Probe calls={len(self._calls)} error={self._error!r}>"

    def __enter__(self) -> Self:
        self._client.connect()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(_END_WAIT_S)
        self._client.close()

    def longest_call_s(self, since: float) -> float:
        """Return the longest call that ended after `since`, in seconds; infinity when a call failed.

        Waits until a call that began after `since` has ended: the workers can be done while the probe's own
        call is still on its way through the failover.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._error is not None or (self._calls and self._calls[-1][0] >= since), _END_WAIT_S
            )
            if self._error is not None:
                return float("inf")
            return max((end - begin for begin, end in self._calls if end >= since), default=float("inf"))

    def _write(self) -> None:
        variable: Variable = Variable("probe", client=self._client)
        count = 0
        try:
            while not self._stop.wait(_PAUSE_S):
                begin = time.monotonic()
                variable.set(count)
                with self._changed:
                    self._calls.append((begin, time.monotonic()))
                    self._changed.notify_all()
                count += 1
        except Exception as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()
