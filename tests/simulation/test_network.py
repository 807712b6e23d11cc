"""Simulated connections: what gets through, in which order, and what ends them."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest
from little_network import BACK, FORTH, LATENCY_S, PORT, Pair, Recorder

from raftcoord.testing.simulation.link_rules import LinkRules, Pace
from raftcoord.testing.simulation.network import HostNetwork
from raftcoord.testing.simulation.scheduler import stream

SEEDS = range(20)


class TestConnecting:
    """From the call of connect to its result."""

    def test_both_sides_are_told_and_can_talk(self) -> None:
        pair = Pair(greeting=(b"hello",))
        near, far = pair.connected()
        pair.do("a", near.transport.write, b"ping")
        pair.pass_time(1)
        assert (near.events, far.events) == (["made", "data"], ["made", "data"])
        assert (near.data, far.data) == (b"hello", b"ping")
        assert near.transport.get_extra_info("peername") == ("b", 0)
        assert far.transport.get_extra_info("peername")[0] == "a"
        assert near.transport.get_extra_info("socket", "none") == "none"

    def test_nobody_listens(self) -> None:
        pair = Pair(listens=False)
        task = pair.dial()
        pair.pass_time(0.1)
        assert isinstance(task.exception(), ConnectionRefusedError)

    @pytest.mark.parametrize("why", ["listener closed", "process killed"])
    def test_nobody_listens_any_more(self, why: str) -> None:
        pair = Pair(listens=False)
        listener = pair.listen()
        near, far = pair.connected()
        if why == "listener closed":
            listener.close()
        else:
            pair.end_process("b")
        task = pair.dial()
        pair.pass_time(0.1)
        assert isinstance(task.exception(), ConnectionRefusedError)
        assert near.is_lost == far.transport.is_closing() == (why == "process killed")

    def test_a_port_has_one_listener(self) -> None:
        pair = Pair()
        with pytest.raises(OSError) as caught:
            pair.listen()
        assert caught.value.errno == errno.EADDRINUSE
        pair.end_process("b")
        pair.restart("b")
        pair.listen()
        assert pair.connected()[1].process is pair.processes["b"]

    @pytest.mark.parametrize("blocked", [[FORTH], [BACK], [FORTH, BACK]])
    def test_a_blocked_link_lets_it_wait(self, blocked: list[tuple[str, str]]) -> None:
        pair = Pair()
        pair.rules.block(blocked)
        task = pair.dial()
        pair.pass_time(20)
        assert not task.done()
        pair.rules.unblock(blocked)
        pair.pass_time(1)
        assert task.result().events == ["made"]
        assert [far.events for far in pair.accepted] == [["made"]]

    def test_a_host_without_power_lets_it_wait(self) -> None:
        pair = Pair()
        pair.lose_power("b")
        task = pair.dial()
        pair.pass_time(20)
        assert not task.done()
        pair.restart("b")
        pair.listen()
        pair.pass_time(1)
        assert task.result().events == ["made"]

    def test_a_paused_process_accepts_and_answers_later(self) -> None:
        pair = Pair(greeting=(b"hello",))
        pair.processes["b"].pause()
        task = pair.dial()
        pair.pass_time(1)
        near = task.result()
        pair.do("a", near.transport.write, b"ping")
        pair.pass_time(5)
        assert near.events == ["made"]
        assert [event for far in pair.accepted for event in far.events] == []
        pair.processes["b"].resume()
        pair.pass_time(1)
        assert (near.data, pair.accepted[0].data) == (b"hello", b"ping")

    def test_both_protocols_are_made_inside_their_processes(self) -> None:
        pair = Pair(listens=False)
        loops: list[Any] = []

        def accept() -> Recorder:
            loops.append(asyncio.get_running_loop())
            return Recorder(pair.processes["b"])

        pair.network.listen(pair.processes["b"], accept, "b", PORT)
        task = pair.dial()
        pair.pass_time(1)
        assert task.result().events == ["made"]
        assert loops == [pair.processes["b"].loop]

    @pytest.mark.parametrize("seed", range(4))
    def test_all_that_came_before_the_answer_is_delivered(self, seed: int) -> None:
        pair = Pair(seed, greeting=(b"one", b"two", b"three"))
        pair.rules.block([BACK])
        task = pair.dial()
        pair.pass_time(1)
        pair.rules.unblock([BACK])
        pair.pass_time(2)
        assert task.result().data == b"onetwothree"

    @pytest.mark.parametrize("end", ["reset", "killed", "power"])
    def test_what_ends_before_the_answer_is_noticed(self, end: str) -> None:
        pair = Pair()
        pair.rules.block([BACK])
        task = pair.dial()
        pair.pass_time(1)
        assert [far.events for far in pair.accepted] == [["made"]]
        if end == "reset":
            pair.network.reset("b", "a")
        elif end == "killed":
            pair.end_process("b")
        else:
            pair.lose_power("b")
            pair.restart("b")
        pair.rules.unblock([BACK])
        pair.pass_time(5)
        error = task.exception()
        assert isinstance(error, ConnectionError) if error else task.result().is_lost


class TestGivingUp:
    """A connect whose caller does not wait for it."""

    @pytest.mark.parametrize("after", [number / 4 for number in range(16)])
    def test_it_leaves_nothing_open(self, after: float) -> None:
        pair = Pair()
        task = pair.dial()
        pair.pass_time(after * LATENCY_S)
        task.cancel()
        pair.pass_time(1)
        if task.cancelled():
            assert all(far.is_lost for far in pair.accepted)
            assert all(near.events[-1:] in ([], ["lost"]) for near in pair.dialed)
            assert [transports for transports in pair.network._transports.values() if transports] == []
        else:
            assert task.result().events == ["made"]

    def test_it_leaves_nothing_open_behind_a_block(self) -> None:
        pair = Pair()
        pair.rules.block([BACK])
        network = HostNetwork(pair.network, pair.processes["a"], "a")

        async def connect() -> None:
            async with asyncio.timeout(0.5):
                await network.connect(lambda: Recorder(pair.processes["a"]), "b", PORT)

        task = pair.processes["a"].spawn(connect())
        pair.pass_time(2)
        assert isinstance(task.exception(), TimeoutError)
        assert [far.events for far in pair.accepted] == [["made"]]
        pair.rules.unblock([BACK])
        pair.pass_time(2)
        assert [far.events for far in pair.accepted] == [["made", "end", "lost"]]

    def test_a_killed_caller_leaves_nothing_open(self) -> None:
        pair = Pair()
        pair.rules.block([BACK])
        pair.dial()
        pair.pass_time(1)
        pair.end_process("a")
        pair.pass_time(1)
        assert [far.is_lost for far in pair.accepted] == [True]
        assert pair.dialed == []


class TestOrder:
    """Every direction of a connection is a FIFO of bytes."""

    @pytest.mark.parametrize("seed", SEEDS)
    def test_bytes_arrive_in_order_and_all_of_them(self, seed: int) -> None:
        pair = Pair(seed)
        near, far = pair.connected()
        sent = [bytes([number]) * (number * 37 % 300 + 1) for number in range(100)]
        for number, data in enumerate(sent):
            pair.scheduler.after(number * LATENCY_S / 10, pair.do, "a", near.transport.write, data)
            pair.scheduler.after(number * LATENCY_S / 10, pair.do, "b", far.transport.write, data[::-1])
        pair.pass_time(1)
        assert far.data == near.data == b"".join(sent)

    @pytest.mark.parametrize(("probability", "parts"), [(0, 1), (1, 2)])
    def test_what_was_written_at_once_may_arrive_in_two_parts(
        self, probability: float, parts: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("raftcoord.testing.simulation.connection.SPLIT_PROBABILITY", probability)
        pair = Pair()
        near, far = pair.connected()
        pair.do("a", near.transport.write, b"written at once")
        pair.do("a", near.transport.write, bytearray(b"!"))
        pair.do("a", near.transport.write, b"")
        pair.pass_time(1)
        assert len(far.parts) == parts + 1
        assert far.data == b"written at once!"

    def test_what_is_sent_leaves_when_the_process_has_got_so_far(self) -> None:
        pair = Pair()
        near, far = pair.connected()
        began = pair.scheduler.now

        def work() -> None:
            near.transport.write(b"before")
            pair.processes["a"].clock.elapsed_s += 2
            near.transport.write(b"after")

        pair.do("a", work)
        pair.pass_time(5)
        assert [at - began for at in far.times] == pytest.approx([LATENCY_S, 2 + LATENCY_S], abs=LATENCY_S)

    def test_a_slow_link_is_slow(self) -> None:
        pair = Pair()
        near, far = pair.connected()
        pair.rules.slow_down([FORTH], 1000)
        began = pair.scheduler.now
        pair.do("a", near.transport.write, b"slow")
        pair.do("b", far.transport.write, b"quick")
        pair.pass_time(10)
        pair.rules.slow_down([FORTH], 1)
        assert 1 <= far.times[0] - began <= 2.1
        assert near.times[0] - began <= 0.05


class TestBlocks:
    """A direction in which nothing gets through."""

    @pytest.mark.parametrize("seed", SEEDS)
    def test_it_delays_and_loses_nothing(self, seed: int) -> None:
        pair = Pair(seed)
        near, far = pair.connected()
        pair.do("a", near.transport.write, b"on its way,")
        pair.pass_time(LATENCY_S / 2)
        pair.rules.block([FORTH])
        for number in range(50):
            pair.do("a", near.transport.write, b"%d," % number)
            pair.pass_time(0.1)
        pair.do("b", far.transport.write, b"the other way is open")
        pair.pass_time(1)
        assert (far.events, near.data) == (["made"], b"the other way is open")
        pair.rules.unblock([FORTH])
        pair.do("a", near.transport.write, b"last")
        pair.pass_time(1)
        assert far.data == b"on its way," + b"".join(b"%d," % number for number in range(50)) + b"last"

    def test_blocks_add_up(self) -> None:
        rules = LinkRules(stream(1, "x"), lambda source, target: Pace(1))
        opened: list[tuple[str, str]] = []
        rules.on_open = opened.append
        rules.block([FORTH, BACK])
        rules.block([FORTH])
        assert rules.blocked() == [FORTH, BACK]
        rules.unblock([FORTH, BACK])
        assert (rules.is_blocked(*FORTH), rules.is_blocked(*BACK), opened) == (True, False, [BACK])
        rules.unblock([FORTH])
        assert (rules.blocked(), opened) == ([], [BACK, FORTH])

    def test_a_second_block_begins_while_the_first_ends(self) -> None:
        pair = Pair()
        near, far = pair.connected()
        pair.rules.block([FORTH])
        pair.do("a", near.transport.write, b"held")
        pair.pass_time(1)
        pair.rules.unblock([FORTH])
        pair.rules.block([FORTH])
        pair.pass_time(5)
        assert far.data == b""
        pair.rules.unblock([FORTH])
        pair.pass_time(1)
        assert far.data == b"held"


def test_latency_varies_a_little_and_rarely_much() -> None:
    rules = LinkRules(stream(1, "x"), lambda source, target: Pace(0.001, bytes_per_s=1000))
    delays = [rules.delay_s("a", "b") for _ in range(5000)]
    assert 0.001 <= min(delays) < sorted(delays)[4500] <= 0.002
    assert max(delays) > 0.004
    assert rules.transfer_s("a", "b", 500) == 0.5
    rules.slow_down([FORTH], 10)
    assert rules.transfer_s("a", "b", 500) == 5
    assert rules.transfer_s("b", "a", 500) == 0.5
    assert min(rules.delay_s("a", "b") for _ in range(100)) >= 0.01


def test_what_is_sent_at_once_shares_the_bandwidth() -> None:
    pair = Pair(bytes_per_s=1000)
    near, far = pair.connected()
    began = pair.scheduler.now
    for _ in range(10):
        pair.do("a", near.transport.write, bytes(1000))
    pair.pass_time(20)
    assert len(far.data) == 10_000
    assert far.times[-1] - began == pytest.approx(10, abs=0.1)
    assert far.times[0] - began <= 1.1
