"""Randomness: election jitter, back-off, identities."""

from __future__ import annotations

import random
import secrets
from typing import Protocol


class Rng(Protocol):
    """A source of randomness."""

    def random(self) -> float:
        """Return a float in [0, 1)."""

    def token(self, size_bytes: int) -> bytes:
        """Return bytes that nobody else will draw."""


class SystemRng:
    """Randomness seeded by the operating system; tokens come from it directly."""

    __slots__ = ("_random",)

    def __init__(self) -> None:
        self._random = random.Random(secrets.randbits(128))  # drawn for every message: no system call

    def __repr__(self) -> str:
        return "<SystemRng>"

    def random(self) -> float:
        return self._random.random()

    def token(self, size_bytes: int) -> bytes:
        return secrets.token_bytes(size_bytes)
