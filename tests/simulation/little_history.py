"""A history in few words: calls as their callers saw them, and what is left in the end."""

from __future__ import annotations

from typing import Any

import pytest

from raftcoord.protocol.values import pack_name, pack_value
from raftcoord.testing.simulation.history_checks import check_histories
from raftcoord.testing.simulation.model import Model
from raftcoord.testing.simulation.model.queue import Item, Queue
from raftcoord.testing.simulation.model.topic import Topic
from raftcoord.testing.simulation.records import Outcome, Record
from raftcoord.testing.simulation.violation import Violation

OPEN = float("inf")


class History:
    """Calls, one after the other unless their times say otherwise, and what is left in the end."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.store = Model()

    def add(
        self,
        kind: str,
        argument: Any = None,
        result: Any = None,
        *,
        at: tuple[float, float] | None = None,
        outcome: Outcome = Outcome.OK,
        name: str = "x",
    ) -> History:
        """Add a call; without times it comes after all others."""
        if at is None:
            began = max((record.call_at for record in self.records), default=0)
            ended = max((r.return_at for r in self.records if r.return_at < OPEN), default=0)
            at = (max(began, ended) + 1, max(began, ended) + 2)
        record = Record("c1", 1, 0, kind, name, argument, at[0])
        record.result, record.outcome = result, outcome
        record.return_at = at[1] if outcome is not Outcome.UNKNOWN else OPEN
        self.records.append(record)
        return self

    def left(self, *values: str, name: str = "x") -> History:
        """Say what is left in a queue."""
        self.store.queues.table[pack_name(name)] = Queue(0, [Item(pack_value(value)) for value in values])
        return self

    def given_back(self, *values: str) -> History:
        """Say what came back from those who took it."""
        self.store.queues.given_back += [pack_value(value) for value in values]
        return self

    def published(self, name: str, *values: str, start: int = 100, gone: int = 0) -> History:
        """Say what the log has of a topic, from an offset on, and how many of that are not kept."""
        topic = Topic(messages=[(pack_value(value), 0) for value in values], gone=gone)
        topic.start.value = start
        self.store.topics.table[pack_name(name)] = topic
        self.store.topics.ever.setdefault(pack_name(name), []).append(topic)
        return self

    def check(self, *, fair_clocks: bool = False) -> None:
        check_histories(self.records, self.store, fair_clocks)

    def rejected(self, invariant: str, text: str | None = None, *, fair_clocks: bool = False) -> None:
        with pytest.raises(Violation, match=text) as caught:
            self.check(fair_clocks=fair_clocks)
        assert caught.value.invariant == invariant
