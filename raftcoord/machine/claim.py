"""Items of queues, which may have been delivered before, and claims: items that a session works on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias


class Redelivered(NamedTuple):
    """An item that came back from a claim."""

    value: bytes
    deliveries: int


Item: TypeAlias = "bytes | Redelivered"  # nearly all of them are plain values


def value_of(item: Item) -> bytes:
    """Return what was put."""
    return item if isinstance(item, bytes) else item.value


def deliveries_of(item: Item) -> int:
    """Return how often it was claimed."""
    return 0 if isinstance(item, bytes) else item.deliveries


def size_of(item: Item) -> int:
    """Return its size in bytes."""
    return len(item) if isinstance(item, bytes) else len(item.value)


def encode_items(items: Iterable[Item]) -> list[Any]:
    """Return items as plain values."""
    return [item if isinstance(item, bytes) else list(item) for item in items]


def decode_items(encoded: Iterable[Any]) -> list[Item]:
    """Return the items of these plain values."""
    return [item if isinstance(item, bytes) else Redelivered(*item) for item in encoded]


class Claim:
    """An item with a session that works on it.

    `number` counts the loans and claims of the queue, `deliveries` those of the item, this one included.
    """

    __slots__ = ("dead_letters", "deliveries", "deliveries_max", "number", "sequence", "session", "value")

    def __init__(
        self, session: int, sequence: int, number: int, item: Item, limits: tuple[int, bytes] | list[Any]
    ) -> None:
        self.session, self.sequence, self.number = session, sequence, number
        self.value, self.deliveries = value_of(item), deliveries_of(item) + 1
        self.deliveries_max: int = limits[0]
        self.dead_letters: bytes = limits[1]

    def __repr__(self) -> str:
        return f"<Claim {self.number} session={self.session} deliveries={self.deliveries}>"

    @property
    def is_dead(self) -> bool:
        """Whether the item must not be delivered again."""
        return 0 < self.deliveries_max <= self.deliveries

    def item(self, deliveries: int) -> Item:
        """Return the item as one that was claimed so often."""
        return Redelivered(self.value, deliveries) if deliveries else self.value

    def fields(self) -> list[Any]:
        """Return the claim as plain values."""
        return [
            self.session,
            self.sequence,
            self.number,
            self.value,
            self.deliveries,
            self.deliveries_max,
            self.dead_letters,
        ]

    @classmethod
    def decode(cls, fields: list[Any]) -> Claim:
        """Return the claim with these fields."""
        session, sequence, number, value, deliveries, *limits = fields
        return cls(session, sequence, number, Redelivered(value, deliveries - 1), limits)
