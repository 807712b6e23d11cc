"""Durations as users write them: seconds, `timedelta`, or text such as "200ms".

Pure: nothing here reads a clock.
"""

from __future__ import annotations

import datetime
import math
import re
from typing import Final, TypeAlias

from raftcoord.protocol.operations import TTL_MS_MAX

Timeout: TypeAlias = float | int | str | datetime.timedelta | None

_TEXT: Final = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-zµ]*)\s*", re.IGNORECASE)
_SECONDS_BY_UNIT: Final[dict[str, float]] = {
    "": 1.0,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
}


def parse_timeout(timeout: Timeout) -> float | None:
    """Return a duration in seconds; None (for ever) stays None, and so does infinity.

    Raises:
        TypeError: it is none of the accepted types.
        ValueError: it is negative, not a number, or a text that cannot be read.
    """
    if timeout is None:
        return None
    if isinstance(timeout, datetime.timedelta):
        seconds = timeout.total_seconds()
    elif isinstance(timeout, str):
        seconds = _parse_text(timeout)
    elif isinstance(timeout, int | float) and not isinstance(timeout, bool):
        seconds = float(timeout)
    else:
        raise TypeError(f"a timeout is a number, str, timedelta or None, not {type(timeout).__qualname__}")
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"a timeout cannot be {timeout!r}")
    return None if math.isinf(seconds) else seconds


def parse_duration(duration: Timeout, *, what: str) -> float:
    """Return a finite duration in seconds. Raises TypeError or ValueError, which name `what` it is."""
    try:
        seconds = parse_timeout(duration)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None
    if seconds is None or seconds == 0:
        raise ValueError(f"{what} must be a finite duration above 0, not {duration!r}")
    return seconds


def parse_duration_ms(duration: Timeout, *, what: str) -> int:
    """Return a duration in whole milliseconds, at least one. Raises TypeError or ValueError."""
    milliseconds = math.ceil(parse_duration(duration, what=what) * 1000)
    if milliseconds > TTL_MS_MAX:
        raise ValueError(f"{what} must be at most {TTL_MS_MAX // 1000} s, not {duration!r}")
    return milliseconds


def _parse_text(text: str) -> float:
    match = _TEXT.fullmatch(text)
    unit = _SECONDS_BY_UNIT.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"cannot read the timeout {text!r}; write for example '200ms', '10s' or '2m'")
    return float(match[1]) * unit
