"""The client's calls against the real machine, over a network that loses, delays and doubles what it likes.

One client under test runs tasks that are cancelled at random; a second, perfect client feeds it. The network
keeps a copy of everything ever sent and may deliver any copy again, on whatever connection; answers reach the
client only on the connection that is attached at that moment. In the end the network heals, and nothing may
be lost, doubled, stuck or left behind.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftcoord.client import exchange as exchange_module
from raftcoord.client.connection import Connection
from raftcoord.client.exchange import Exchange
from raftcoord.client.session_state import Session
from raftcoord.machine import Machine
from raftcoord.protocol.errors import Code, RaftcoordError
from raftcoord.protocol.frames import FrameDecoder, encode_frame
from raftcoord.protocol.operations import OPERATIONS, Kind, Operation
from raftcoord.protocol.values import pack_value, unpack_value
from raftcoord.runtime import Runtime

_O = Operation
READS = {int(spec.operation) for spec in OPERATIONS.values() if spec.kind in (Kind.READ, Kind.READ_OR_WAIT)}
STEPS = 120
QUEUE, LOCK, SUM, TOPIC = pack_value("q"), pack_value("l"), pack_value("n"), pack_value("t")
LIMITS = [0, b""]  # of a claim
# What is held by one at a time: how it is asked for, how it is released, and how it looks when it is free.
HOLDS: dict[str, tuple[Operation, list[Any], Operation, list[Any], tuple[Operation, Any]]] = {
    "lock": (_O.LOCK_ACQUIRE, [LOCK], _O.LOCK_RELEASE, [LOCK], (_O.LOCK_STATUS, None)),
    "semaphore": (
        _O.SEMAPHORE_ACQUIRE,
        [LOCK, 1],
        _O.SEMAPHORE_RELEASE,
        [LOCK],
        (_O.SEMAPHORE_STATUS, [1, 0, 0]),
    ),
    "multilock": (
        _O.MULTILOCK_ACQUIRE,
        [[LOCK, SUM], 2],
        _O.MULTILOCK_RELEASE,
        [],
        (_O.MULTILOCK_STATUS, None),
    ),
    "rwlock": (_O.RWLOCK_ACQUIRE, [LOCK, False], _O.RWLOCK_RELEASE, [LOCK], (_O.RWLOCK_STATUS, None)),
}


class Wire:
    """A connection as the exchange sees it: takes frames, and is always writable."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._decoder = FrameDecoder()
        self.frame_bytes_max = 1 << 23
        self.writable = True
        self.on_writable: Callable[[], None] | None = None

    def send(self, frame: bytes) -> None:
        for message in self._decoder.feed(frame):
            self._network.sent.append(message)
            self._network.in_flight.append(message)


class Network:
    """Carries requests to the machine and answers back, as badly as its dice say."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.machine = Machine()
        self.sent: list[list[Any]] = []
        self.in_flight: deque[list[Any]] = deque()
        self.answers: deque[list[Any]] = deque()
        self.feeder_sequence = 0
        self.client = self._open(b"c")
        self.feeder = self._open(b"f")
        session = Session(b"c" * 16, 10.0)
        session.id = self.client
        self.exchange = Exchange(cast(Any, self), session, 30.0, Runtime())
        self.attached = False

    def _open(self, letter: bytes) -> int:
        applied = self.machine.apply(0, [[0, 0, 0, int(_O.OPEN_SESSION), letter * 16, 10_000, "test"]])
        return int(applied.results[0][1])

    # What the exchange asks of its owner.

    def start(self) -> None:
        """Connections come and go by themselves here."""

    def leave(self, reason: str, hint: Any = None) -> None:
        raise AssertionError(f"the client leaves: {reason}")

    def on_session_lost(self, session: Session, reason: str) -> None:
        raise AssertionError(f"the session is lost: {reason}")

    def why_not_connected(self) -> str:
        return "the dice"

    # The world.

    def connect(self) -> None:
        self.disconnect()
        self.attached = True
        self.exchange.attach(cast(Connection, Wire(self)))

    def disconnect(self) -> None:
        if self.attached:
            self.attached = False
            self.answers.clear()
            self.exchange.detach()
            # What was sent may be lost, or still arrive at any time.
            self.in_flight = deque(message for message in self.in_flight if self.dice.random() < 0.3)

    def deliver(self, message: list[Any]) -> None:
        """Let one request arrive."""
        sequence, acked, operation, *arguments = message
        if self.dice.random() < 0.05:
            self._answer([sequence, int(Code.BUSY), "the dice say so"])
            return
        if operation in READS:
            result = self.machine.query(operation, arguments)
            if result is not None:
                self._answer([sequence, *result])
                return
        self.apply(self.client, [sequence, acked, operation, *arguments])

    def apply(self, session: int, command: list[Any]) -> Any:
        applied = self.machine.apply(0, [[session, *command]])
        result = applied.results[0]
        if session == self.client:
            self._answer([command[0], *result])
        for completed in applied.completed:
            if completed.session == self.client:
                self._answer([completed.sequence, completed.code, completed.payload])
        return result

    def feed(self, operation: Operation, *arguments: Any) -> Any:
        self.feeder_sequence += 1
        acked = self.feeder_sequence - 1
        return self.apply(self.feeder, [self.feeder_sequence, acked, int(operation), *arguments])

    def _answer(self, message: list[Any]) -> None:
        if self.attached:
            self.answers.extend(FrameDecoder().feed(encode_frame(message)))

    def answer_one(self) -> None:
        if self.answers:
            self.exchange.on_answer(*self.answers.popleft())

    def step(self) -> None:
        """Let something happen."""
        dice = self.dice
        chance = dice.random()
        if chance < 0.08:
            self.connect()
        elif chance < 0.12:
            self.disconnect()
        elif chance < 0.50 and self.in_flight:
            self.deliver(self.in_flight.popleft())
        elif chance < 0.58 and self.sent:
            self.deliver(dice.choice(self.sent))  # a copy that was thought lost
        elif chance < 0.92:
            self.answer_one()

    async def heal(self) -> None:
        """From here on nothing is lost, until all is quiet."""
        self.dice = random.Random(0)
        self.dice.random = lambda: 1.0  # type: ignore[method-assign]
        self.connect()
        for _ in range(20_000):
            if self.in_flight:
                self.deliver(self.in_flight.popleft())
            elif self.answers:
                self.answer_one()
            state = self.exchange.session.state
            await asyncio.sleep(0)
            if not (self.in_flight or self.answers or state.blocking or state.needs_confirm()):
                return
        raise AssertionError(f"it does not come to rest: {self.exchange!r} {state.open_calls()}")


class Player:
    """The tasks of the client under test, and what they were told."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.tasks: list[asyncio.Task[None]] = []
        self.got: list[Any] = []
        self.put = 0
        self.sums: list[int] = []
        self.adds = 0
        self.fences: dict[str, list[int]] = {kind: [] for kind in HOLDS}
        self.nacks = 0

    async def _request(self, operation: Operation, *arguments: Any, wait: bool = False) -> Any:
        code, payload = await self.network.exchange.request(int(operation), arguments, None, wait=wait)
        assert code not in (Code.STALE, Code.SESSION_LOST), f"{operation.name} was answered {code}"
        return payload if code == Code.OK else None

    async def get(self) -> None:
        wait = self.network.dice.random() < 0.7
        count = self.network.dice.choice((1, 1, 2))
        items = await self._request(_O.QUEUE_GET, QUEUE, 0, count, wait, wait=wait)
        self.got += [unpack_value(blob) for blob in items or ()]

    async def claim(self) -> None:
        wait = self.network.dice.random() < 0.7
        claimed = await self._request(_O.QUEUE_CLAIM, QUEUE, 0, LIMITS, wait, wait=wait)
        if claimed is None:
            return
        fence, blob, deliveries = claimed
        assert deliveries <= self.nacks + 1, "what nobody got counts as delivered"
        if self.network.dice.random() < 0.3:
            self.nacks += 1
            await self._request(_O.QUEUE_NACK, QUEUE, fence)
        else:
            self.got.append(unpack_value(blob))  # an ack reaches the store also when this task is cancelled
            await self._request(_O.QUEUE_ACK, QUEUE, fence)

    async def hold(self) -> None:
        kind = self.network.dice.choice(list(HOLDS))
        acquire, arguments, release, named, _ = HOLDS[kind]
        granted = await self._request(acquire, *arguments, True, wait=True)
        fence = granted[0] if isinstance(granted, list) else granted
        self.fences[kind].append(fence)
        await self._request(release, *named, fence)

    async def add(self) -> None:
        self.adds += 1
        blob, _ = await self._request(_O.VARIABLE_ADD, SUM, pack_value(1))
        self.sums.append(unpack_value(blob))

    async def read(self) -> None:
        if self.network.dice.random() < 0.5:
            await self._request(_O.VARIABLE_GET, SUM, True, wait=True)
        else:
            status = self.network.machine.query(_O.TOPIC_STATUS, [TOPIC])
            assert status is not None
            await self._request(_O.TOPIC_READ, TOPIC, status[1][1], 5, True, wait=True)

    def act(self) -> None:
        dice = self.network.dice
        chance = dice.random()
        if chance < 0.30:
            action: Callable[[], Awaitable[None]] = dice.choice(
                (self.get, self.claim, self.hold, self.hold, self.add, self.read)
            )
            self.tasks.append(asyncio.ensure_future(action()))
        elif chance < 0.45:
            self.network.feed(_O.QUEUE_PUT, QUEUE, 0, [pack_value(self.put)], False)
            self.put += 1
        elif chance < 0.47:
            self.network.feed(_O.TOPIC_PUBLISH, TOPIC, [9, 999, 0], [b"\x01"])
        elif chance < 0.57 and self.tasks:
            dice.choice(self.tasks).cancel()


async def play(seed: int) -> None:
    dice = random.Random(seed)
    network = Network(dice)
    player = Player(network)
    for _ in range(STEPS):
        player.act()
        network.step()
        if dice.random() < 0.7:
            await asyncio.sleep(0)
    for task in player.tasks:  # whoever still waits gives up, so that all comes to an end
        if dice.random() < 0.5:
            task.cancel()
    await network.heal()
    for task in player.tasks:
        task.cancel()
    outcomes = await asyncio.gather(*player.tasks, return_exceptions=True)
    await network.heal()
    for outcome in outcomes:
        assert outcome is None or isinstance(outcome, asyncio.CancelledError), repr(outcome)
    check(network, player)


def check(network: Network, player: Player) -> None:
    left = []
    while (result := network.feed(_O.QUEUE_GET, QUEUE, 0, -1, False))[1]:
        left += [unpack_value(blob) for blob in result[1]]
    assert sorted(player.got + left) == list(range(player.put)), "items were lost or doubled"
    for kind, (*_, (status, free)) in HOLDS.items():
        fences = player.fences[kind]
        assert fences == sorted(set(fences)), f"a grant of the {kind} was told twice, or out of turn"
        result = network.machine.query(status, [LOCK])
        assert result in ((Code.OK, free), (Code.OK, None)), f"the {kind} stayed behind: {result}"
    assert not network.machine.query(_O.MULTILOCK_STATUS, [SUM])[1]  # type: ignore[index]
    assert not network.machine._context.sessions[network.client].holds, "something is held and nobody knows"
    total = network.machine.query(_O.VARIABLE_GET, [SUM, False])
    assert total is not None
    value = unpack_value(total[1][0]) if total[0] == Code.OK else 0
    assert len(set(player.sums)) == len(player.sums) <= value <= player.adds, "an add counted twice, or not"
    # One more command confirms all the rest; only its own answer, and the feeder's last, may be stored then.
    network.exchange._start_internal(_O.CONFIRM, None)
    network.deliver(network.in_flight.popleft())
    counts = network.machine.counts()
    assert counts["waiters"] == 0
    assert counts["answers"] <= 2, f"answers stay stored: {counts}"


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_nothing_is_lost_doubled_stuck_or_left_behind(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange_module, "CONFIRM_AFTER_S", 0.0)
        patch.setattr(exchange_module, "BUSY_PAUSE_S", 0.0)
        try:
            asyncio.run(play(seed))
        except (AssertionError, RaftcoordError, KeyError, IndexError) as error:
            raise AssertionError(f"seed={seed}: {error}") from error
