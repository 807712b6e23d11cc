"""What happened in a run, for a reader: one line an event, the newest ones kept.

A trace is made by running a scenario once more: writing one costs more than running without.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from raftcoord.consensus import messages as m

KEPT_LINES: Final = 400
_SHOWN_KEYS: Final = {
    m.APPEND: ("prevLogIdx", "prevLogTerm", "commit_index"),
    m.APPEND_REPLY: ("next_node_idx", "reset", "success"),
    m.VOTE_REQUEST: ("last_log_index", "last_log_term", "hand_over"),
    m.PRE_VOTE: ("term", "last_log_index", "last_log_term"),
    m.PRE_VOTE_REPLY: ("term", "granted"),
    m.SNAPSHOT_CHUNK: ("index", "index_term", "offset", "size_bytes"),
    m.SNAPSHOT_REPLY: ("index", "offset", "next_index"),
}


class Trace:
    """Collects lines; `tell` is what a `World` calls.

    Args:
        show: takes each line at once, e.g. `print`; None only keeps the newest ones.
    """

    def __init__(self, show: Callable[[str], object] | None = None) -> None:
        self._show = show
        self._kept: deque[tuple[float, str, Any]] = deque(maxlen=KEPT_LINES)

    def __repr__(self) -> str:
        return f"<Trace kept={len(self._kept)}>"

    def tell(self, time_s: float, who: str, what: Any) -> None:
        """Take one event."""
        if self._show is not None:
            self._show(_line(time_s, who, what))
        else:
            # Messages are changed by whoever sends them on, so they are read now and formatted later.
            self._kept.append((time_s, who, dict(what) if isinstance(what, dict) else what))

    def lines(self, count: int = KEPT_LINES) -> list[str]:
        """Return the newest lines."""
        return [_line(*event) for event in list(self._kept)[-count:]]


def _line(time_s: float, who: str, what: Any) -> str:
    text = _message(what) if isinstance(what, dict) and "body" in what else f"{what}"
    return f"{time_s:12.6f}  {who:<9} {text}"


def _message(envelope: m.Envelope) -> str:
    body = envelope["body"]
    kind = body["type"]
    fields = " ".join(f"{key}={body[key]}" for key in _SHOWN_KEYS.get(kind, ()) if key in body)
    entries = body.get("entries")
    if entries:
        fields += f" entries={entries[0][1]}..{entries[-1][1]}"
    return f"{kind} term={envelope['term']} number={envelope['number']} {fields}"
