"""Simulated connections: how they end, and what a slow reader does to the one who writes."""

from __future__ import annotations

import pytest
from little_network import BACK, FORTH, LATENCY_S, Pair, Recorder

from raftcoord.testing.simulation.network import RESET_S

SEEDS = range(10)
CHUNK = bytes(8192)


class TestClose:
    """An end that one side chooses."""

    @pytest.mark.parametrize("how", ["close", "abort"])
    def test_what_was_sent_before_is_delivered(self, how: str) -> None:
        pair = Pair()
        near, far = pair.connected()

        def work() -> None:
            for number in range(10):
                near.transport.write(b"%d" % number)
            getattr(near.transport, how)()
            near.transport.write(b"too late")
            assert near.transport.is_closing()

        pair.do("a", work)
        pair.pass_time(1)
        assert far.data == b"0123456789"
        assert (near.events, near.error) == (["made", "lost"], None)
        assert (far.events[-2:], far.error) == (["end", "lost"], None)
        assert [transports for transports in pair.network._transports.values() if transports] == []

    @pytest.mark.parametrize("after", [number / 4 for number in range(9)])
    def test_nothing_is_delivered_to_the_one_who_closed(self, after: float) -> None:
        pair = Pair()
        near, far = pair.connected()
        for _ in range(5):
            pair.do("b", far.transport.write, b"data")
        pair.pass_time(after * LATENCY_S)
        pair.do("a", near.transport.close)
        pair.scheduler.after(LATENCY_S, pair.do, "b", far.transport.write, b"more")
        pair.pass_time(1)
        assert near.events[-1] == "lost"  # and nothing after it, which the recorder sees to
        assert far.is_lost

    def test_what_is_waiting_to_be_read_is_not_read_after_close(self) -> None:
        pair = Pair()
        near, far = pair.connected()
        pair.processes["a"].pause()
        pair.do("b", far.transport.write, b"one")
        pair.do("b", far.transport.write, b"two")
        pair.pass_time(1)
        near.transport.close()
        pair.processes["a"].resume()
        pair.pass_time(1)
        assert near.events == ["made", "lost"]

    def test_both_may_close_at_once(self) -> None:
        pair = Pair()
        ends = pair.connected()
        pair.do("a", ends[0].transport.close)
        pair.do("b", ends[1].transport.close)
        pair.pass_time(1)
        assert [(end.events, end.error) for end in ends] == [(["made", "lost"], None)] * 2

    def test_an_older_connection_does_not_hold_up_a_newer_one(self) -> None:
        pair = Pair()
        old, old_far = pair.connected()
        pair.rules.slow_down([FORTH], 1000)
        pair.do("a", old.transport.write, b"slow")
        pair.pass_time(0.01)
        pair.do("a", old.transport.close)
        pair.rules.slow_down([FORTH], 1)
        near, far = pair.connected()
        pair.do("a", near.transport.write, b"quick")
        pair.pass_time(0.1)
        assert (far.data, old_far.data) == (b"quick", b"")
        pair.pass_time(5)
        assert (old_far.data, old_far.is_lost, far.is_lost) == (b"slow", True, False)


class TestProcessEnds:
    """The system closes the sockets of a process that ended."""

    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_other_side_gets_what_was_sent_and_then_the_end(self, seed: int) -> None:
        pair = Pair(seed)
        near, far = pair.connected()
        for number in range(10):
            pair.do("b", far.transport.write, b"%d" % number)
        pair.pass_time(0.0001)
        pair.end_process("b")
        far.transport.write(b"from the dead")
        pair.pass_time(1)
        assert near.data == b"0123456789"
        assert (near.events[-2:], near.error) == (["end", "lost"], None)
        assert far.events == ["made"]

    def test_the_dead_are_told_nothing(self) -> None:
        pair = Pair()
        near, far = pair.connected()
        pair.do("a", near.transport.write, b"on its way")
        pair.pass_time(LATENCY_S / 2)
        pair.end_process("b")
        pair.pass_time(1)
        assert far.events == ["made"]
        assert near.is_lost

    def test_the_end_waits_for_a_blocked_link(self) -> None:
        pair = Pair()
        near, far = pair.connected()
        pair.rules.block([BACK])
        pair.do("b", far.transport.write, b"last words")
        pair.pass_time(0.01)
        pair.end_process("b")
        pair.pass_time(5)
        assert near.events == ["made"]
        pair.rules.unblock([BACK])
        pair.pass_time(1)
        assert (near.data, near.is_lost) == (b"last words", True)

    def test_a_new_process_has_nothing_to_do_with_old_connections(self) -> None:
        pair = Pair()
        pair.rules.block([BACK])
        task = pair.dial()
        pair.pass_time(1)
        pair.end_process("b")
        pair.restart("b")
        pair.listen()
        pair.rules.unblock([BACK])
        pair.pass_time(2)
        assert len(pair.accepted) == 1
        assert task.result().is_lost
        near, far = pair.connected()
        pair.do("a", near.transport.write, b"new")
        pair.pass_time(1)
        assert (far.data, len(pair.accepted)) == (b"new", 2)


class TestPowerLoss:
    """A host that is gone without a word."""

    @pytest.mark.parametrize("seed", SEEDS)
    def test_silence_until_it_is_back_and_then_a_reset(self, seed: int) -> None:
        pair = Pair(seed)
        near, far = pair.connected()
        pair.do("b", far.transport.write, b"received")
        pair.pass_time(1)
        pair.lose_power("b")
        pair.do("a", near.transport.write, b"into the void")
        pair.pass_time(60)
        assert near.events == ["made", "data"]
        began = pair.scheduler.now
        pair.restart("b")
        pair.pass_time(5)
        assert near.events == ["made", "data", "lost"]
        assert isinstance(near.error, ConnectionResetError)
        assert near.times[-1] - began <= RESET_S + 0.05
        assert far.events == ["made"]

    def test_what_was_on_its_way_arrives_in_some_runs(self) -> None:
        received = set()
        for seed in SEEDS:
            pair = Pair(seed)
            near, far = pair.connected()
            pair.do("b", far.transport.write, b"last words")
            pair.pass_time(0.0001)
            pair.lose_power("b")
            pair.pass_time(1)
            received.add(near.data)
            assert not near.is_lost
        assert received == {b"", b"last words"}

    def test_the_reset_waits_for_a_blocked_link(self) -> None:
        pair = Pair()
        near, _ = pair.connected()
        pair.lose_power("b")
        pair.rules.block([BACK])
        pair.restart("b")
        pair.pass_time(10)
        assert not near.is_lost
        pair.rules.unblock([BACK])
        pair.pass_time(1)
        assert near.is_lost

    def test_new_connections_outlive_the_reset_of_old_ones(self) -> None:
        pair = Pair()
        old, _ = pair.connected()
        pair.lose_power("b")
        pair.restart("b")
        pair.listen()
        near, far = pair.connected()
        pair.pass_time(5)
        assert (old.is_lost, near.is_lost, far.is_lost) == (True, False, False)


class TestReset:
    """A connection that breaks."""

    def test_both_ends_learn_of_it_and_all_of_them_break(self) -> None:
        pair = Pair()
        connections = [pair.connected() for _ in range(3)]
        pair.do("a", connections[0][0].transport.write, b"lost")
        pair.pass_time(0.0001)
        pair.network.reset("a", "b")
        pair.do("a", connections[0][0].transport.write, b"too late")
        pair.pass_time(1)
        for end in (end for connection in connections for end in connection):
            assert end.events == ["made", "lost"]
            assert isinstance(end.error, ConnectionResetError)

    def test_other_hosts_keep_theirs(self) -> None:
        pair = Pair()
        near, far = pair.connected()
        pair.network.reset("a", "c")
        pair.network.reset("c", "b")
        pair.pass_time(1)
        assert not near.is_lost
        assert not far.is_lost

    def test_a_paused_process_learns_of_it_when_it_goes_on(self) -> None:
        pair = Pair()
        _, far = pair.connected()
        pair.processes["b"].pause()
        pair.network.reset("a", "b")
        pair.pass_time(1)
        assert far.events == ["made"]
        pair.processes["b"].resume()
        pair.pass_time(1)
        assert far.is_lost


class TestBackPressure:
    """A reader who does not keep up."""

    def _fill(self, pair: Pair, writer: Recorder) -> int:
        """Write until told to pause; return how much was taken."""
        count = 0
        while "pause" not in writer.events and count < 1000:
            pair.do(writer.process.name, writer.transport.write, CHUNK)
            count += 1
            pair.pass_time(0.001)
        return count * len(CHUNK)

    @pytest.mark.parametrize("obstacle", ["reader pauses", "process is paused", "link is blocked"])
    def test_the_writer_pauses_and_goes_on(self, obstacle: str) -> None:
        pair = Pair()
        near, far = pair.connected()
        if obstacle == "reader pauses":
            pair.do("b", far.transport.pause_reading)
        elif obstacle == "process is paused":
            pair.processes["b"].pause()
        else:
            pair.rules.block([FORTH])
        pair.pass_time(0.1)
        written = self._fill(pair, near)
        assert 192 * 1024 <= written <= 256 * 1024
        assert near.transport.get_write_buffer_size() > 64 * 1024
        pair.pass_time(10)
        assert (near.events, far.data) == (["made", "pause"], b"")
        if obstacle == "reader pauses":
            pair.do("b", far.transport.resume_reading)
        elif obstacle == "process is paused":
            pair.processes["b"].resume()
        else:
            pair.rules.unblock([FORTH])
        pair.pass_time(1)
        assert near.events == ["made", "pause", "resume"]
        assert len(far.data) == written
        assert near.transport.get_write_buffer_size() == 0

    def test_the_mark_can_be_moved(self) -> None:
        pair = Pair()
        near, far = pair.connected()
        near.transport.set_write_buffer_limits(high=0)
        pair.do("b", far.transport.pause_reading)
        assert self._fill(pair, near) <= 140 * 1024
        pair.do("b", far.transport.resume_reading)
        pair.pass_time(1)
        assert near.events == ["made", "pause", "resume"]

    def test_one_who_closed_is_not_told_to_go_on(self) -> None:
        pair = Pair()
        near, far = pair.connected()
        pair.do("b", far.transport.pause_reading)
        written = self._fill(pair, near)
        pair.do("a", near.transport.close)
        pair.do("b", far.transport.resume_reading)
        pair.pass_time(1)
        assert near.events == ["made", "pause", "lost"]
        assert len(far.data) == written

    def test_reading_stops_at_once_and_loses_nothing(self) -> None:
        pair = Pair()
        near, far = pair.connected()

        def pause_after_the_first(data: bytes) -> None:
            Recorder.data_received(far, data)
            if len(far.parts) == 1:
                far.transport.pause_reading()

        far.data_received = pause_after_the_first  # type: ignore[method-assign]
        pair.processes["b"].pause()
        for number in range(5):
            pair.do("a", near.transport.write, b"%d" % number)
        pair.pass_time(1)
        pair.processes["b"].resume()
        pair.pass_time(1)
        assert far.data == b"0"
        assert not far.transport.is_reading()
        pair.do("a", near.transport.write, b"5")
        pair.do("b", far.transport.resume_reading)
        pair.pass_time(1)
        assert far.data == b"012345"
        assert far.transport.is_reading()

    def test_pausing_and_resuming_at_once_changes_nothing(self) -> None:
        pair = Pair()
        near, far = pair.connected()

        def blink() -> None:
            far.transport.pause_reading()
            far.transport.resume_reading()

        for number in range(100):
            pair.do("a", near.transport.write, b"%d," % number)
            pair.do("b", blink)
            pair.pass_time(LATENCY_S / 3)
        pair.do("a", near.transport.close)
        pair.pass_time(1)
        assert far.data == b"".join(b"%d," % number for number in range(100))
        assert far.events[-2:] == ["end", "lost"]
