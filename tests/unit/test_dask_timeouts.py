"""Timeouts as Dask takes them."""

from __future__ import annotations

import math
from datetime import timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from raftcoord.dask.names import seconds, shorter


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (None, None),
        (0, 0.0),
        (3, 3.0),
        (0.25, 0.25),
        ("30 s", 30.0),
        ("200ms", 0.2),
        ("1.5 hours", 5400.0),
        ("7", 7.0),
        (timedelta(milliseconds=1500), 1.5),
        (math.inf, None),
        (np.int64(2), 2.0),
        (Fraction(5), 5.0),
    ],
)
def test_what_dask_takes(timeout: Any, expected: float | None) -> None:
    for _ in range(2):
        assert seconds(timeout) == expected


@pytest.mark.parametrize(
    "bad", [-1, -0.5, math.nan, True, "soon", "5 parsecs", "-1s", "", " ", timedelta(-1), [], b"1s"]
)
def test_what_is_refused_every_time(bad: Any) -> None:
    for _ in range(2):
        with pytest.raises((TypeError, ValueError, KeyError)):
            seconds(bad)


def test_shorter() -> None:
    assert shorter(None, None) is None
    assert shorter(1.0, None) == shorter(None, 1.0) == shorter(1.0, 2.0) == shorter(2.0, 1.0) == 1.0
