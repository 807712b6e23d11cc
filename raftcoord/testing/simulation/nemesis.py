"""What goes wrong: every kind of fault, how it begins and how it ends.

Invariants:
  1. A fault changes hosts, links and disks only; no code of replicas or clients is touched.
  2. After `heal` nothing is wrong any more, whatever was under way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from raftcoord.consensus.interface import NotLeaderError
from raftcoord.consensus.messages import Envelope
from raftcoord.testing.simulation.bit_rot import find_rot
from raftcoord.testing.simulation.disk import MOMENTS
from raftcoord.testing.simulation.hosts import ReplicaHost
from raftcoord.testing.simulation.link_rules import Direction
from raftcoord.testing.simulation.scenario import Fault
from raftcoord.testing.simulation.violation import Violation

if TYPE_CHECKING:
    from raftcoord.testing.simulation.world import World

MESSAGE_MOMENTS: Final = tuple(
    f"send:{kind}"
    for kind in (
        "pre_vote",
        "pre_vote_reply",
        "request_vote",
        "response_vote",
        "append_entries",
        "next_node_idx",
        "snapshot_chunk",
        "snapshot_reply",
        "timeout_now",
    )
)
EXCUSED_S: Final = 5.0  # a replica may still be busy with stopping when its disk is well again
ALL_MOMENTS: Final = (*MOMENTS, *MESSAGE_MOMENTS)


class Nemesis:
    """Brings the faults of a scenario over a world."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world, self._rng = world, rng
        self._undo: dict[int, Callable[[], None]] = {}
        self._count = 0
        self._is_healed = False
        self._message_traps: list[
            tuple[str, str, int, Callable[[], None]]
        ] = []  # moment, sender, nth, action
        self.happened: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Nemesis under_way={len(self._undo)} happened={sum(self.happened.values())}>"

    def begin(self, fault: Fault) -> None:
        """Let one fault happen now."""
        self._world.trace("fault", fault)
        self.happened[fault.kind] = self.happened.get(fault.kind, 0) + 1
        FAULTS[fault.kind](self, fault)

    def heal(self) -> None:
        """End everything that is wrong."""
        self._is_healed = True
        self._message_traps.clear()
        for number in list(self._undo):
            self._end(number)
        for host in self._world.replicas.values():
            host.disk.disarm()
            host.start_soon()
        self._world.scheduler.after(EXCUSED_S, self._excuse_nobody)

    def _excuse_nobody(self) -> None:
        for host in self._world.replicas.values():
            host.excuse = None

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Let the next part of a fault happen, unless everything was healed meanwhile."""
        self._world.scheduler.after(delay_s, lambda: None if self._is_healed else action())

    def _until(self, last_ms: int, undo: Callable[[], None]) -> None:
        self._count += 1
        number = self._count
        self._undo[number] = undo
        self._world.scheduler.after(last_ms / 1000, self._end, number)

    def _end(self, number: int) -> None:
        undo = self._undo.pop(number, None)
        if undo is not None:
            undo()

    # Choosing.

    def _replica(self, target: str) -> ReplicaHost:
        replicas = self._world.replicas
        if target in replicas:
            return replicas[target]
        leaders = [host for host in replicas.values() if host.view is not None and host.view.is_leader]
        if target == "leader" and leaders:
            return self._rng.choice(leaders)
        others = [host for host in replicas.values() if host not in leaders]
        return self._rng.choice(others or list(replicas.values()))

    def _some_replicas(self, count: int) -> list[ReplicaHost]:
        return self._rng.sample(list(self._world.replicas.values()), count)

    def on_message(self, sender: str, _receiver: str, envelope: Envelope) -> None:
        """A replica is about to send a message; may end it."""
        if not self._message_traps:
            return
        moment = f"send:{envelope['body']['type']}"
        for position, (wanted, host, nth, action) in enumerate(self._message_traps):
            if wanted == moment and host == sender:
                if nth > 1:
                    self._message_traps[position] = (wanted, host, nth - 1, action)
                    continue
                del self._message_traps[position]
                action()
                return

    # Replicas that end or stop.

    def crash(self, fault: Fault) -> None:
        power = bool(fault.options.get("power"))
        self._replica(fault.target).crash(power=power, down_s=fault.last_ms / 1000)

    def crash_many(self, fault: Fault) -> None:
        total = len(self._world.replicas)
        count = {"minority": (total - 1) // 2, "majority": total // 2 + 1, "all": total}[fault.target]
        for host in self._some_replicas(count):
            down_ms = fault.last_ms * (0.5 + self._rng.random())
            host.crash(power=bool(fault.options.get("power")), down_s=down_ms / 1000)

    def crash_at(self, fault: Fault) -> None:
        moment, nth = str(fault.options["moment"]), int(fault.options.get("nth", 1))
        power = bool(fault.options.get("power"))
        anyone = fault.target == "anyone"
        hosts = list(self._world.replicas.values()) if anyone else [self._replica(fault.target)]
        is_sprung = False

        def spring(host: ReplicaHost) -> None:
            nonlocal is_sprung
            if is_sprung:
                return
            is_sprung = True
            self._world.trace("crash_at", (host.name, moment))
            self.happened[f"crash_at {moment}"] = self.happened.get(f"crash_at {moment}", 0) + 1
            if fault.options.get("twice"):  # and again when the restarted process comes to that point
                again = partial(host.crash_now, power=True, down_s=fault.last_ms / 1000)
                self._set_trap(host, fault, moment, 1, again)
            host.crash_now(power=power, down_s=fault.last_ms / 1000)

        for host in hosts:
            self._set_trap(host, fault, moment, nth, partial(spring, host))

    def _set_trap(
        self, host: ReplicaHost, fault: Fault, moment: str, nth: int, action: Callable[[], None]
    ) -> None:
        if moment in MOMENTS:
            host.disk.arm(moment, nth, action, after=bool(fault.options.get("after")))
        else:
            self._message_traps.append((moment, host.name, nth, action))

    def stop(self, fault: Fault) -> None:
        self._replica(fault.target).stop()

    def pause(self, fault: Fault) -> None:
        host = self._replica(fault.target)
        if host.process is not None:
            host.process.pause()
            self._until(fault.last_ms, host.process.resume)
        leave = self._cut_off_clients(str(fault.options.get("clients", "none")))
        for client in leave:  # the others stay, and wait for it
            self._world.network.reset(client, host.name)
        self._block(_both_ways([host.name], leave), fault.last_ms)

    # Links.

    def _block(self, directions: list[Direction], last_ms: int) -> None:
        rules = self._world.network.rules
        rules.block(directions)
        self._until(last_ms, lambda: rules.unblock(directions))

    def partition(self, fault: Fault) -> None:
        names = list(self._world.replicas)
        target = self._replica(fault.target).name
        others = [name for name in names if name != target]
        shape = fault.options.get("shape", "isolate")
        if shape == "halves":
            self._rng.shuffle(names)
            half = len(names) // 2
            cut = _both_ways(names[:half], names[half:])
        elif shape == "bridge":  # the target sees both sides, which do not see each other
            self._rng.shuffle(others)
            half = len(others) // 2
            cut = _both_ways(others[:half], others[half:])
        elif shape == "ring":  # everybody sees its two neighbours only
            far = {(a, b) for a in range(len(names)) for b in range(len(names)) if _is_far(a, b, len(names))}
            cut = [(names[a], names[b]) for a, b in sorted(far)]
        elif shape == "deaf":
            cut = [(other, target) for other in others]
        elif shape == "mute":
            cut = [(target, other) for other in others]
        else:
            cut = _both_ways([target], others)
        cut += _both_ways([target], self._cut_off_clients(str(fault.options.get("clients", "none"))))
        if fault.options.get("reset"):
            for one, other in cut:
                self._world.network.reset(one, other)
        self._block(cut, fault.last_ms)

    def _cut_off_clients(self, which: str) -> list[str]:
        """Choose the clients that a partition keeps from its target; the others stay with it."""
        clients = list(self._world.clients)
        if which == "some":
            return [client for client in clients if self._rng.random() < 0.5]
        return clients if which == "all" else []

    def cut_client(self, fault: Fault) -> None:
        self._block(_both_ways([fault.target], list(self._world.replicas)), fault.last_ms)

    def lure(self, fault: Fault) -> None:
        """A replica stands still while clients reach nobody else; it runs again, and then they reach nobody.

        If it was the leader it is deposed by then, hears of that late, and first of all answers the clients.
        """
        host = self._replica(fault.target)
        pause_s, cut_ms = fault.last_ms / 1000, int(fault.options.get("cut_ms", 1000))
        clients = list(self._world.clients)
        others = [name for name in self._world.replicas if name != host.name]
        self.pause(fault)
        self._block(_both_ways([host.name], others), fault.last_ms + 50)
        self._block(_both_ways(clients, others), fault.last_ms + cut_ms)
        for client in clients:
            for replica in self._world.replicas:
                self._world.network.reset(client, replica)
        cut_off = partial(self._block, _both_ways(clients, [host.name]), cut_ms)
        self._later(pause_s + float(fault.options.get("after_ms", 5)) / 1000, cut_off)

    def stall(self, fault: Fault) -> None:
        target = self._replica(fault.target).name
        other = self._rng.choice([name for name in self._world.replicas if name != target] or [target])
        self._block([(target, other)], fault.last_ms)
        if fault.options.get("reset"):  # its sender cannot know how much of what was under way arrived
            self._later(fault.last_ms / 1000 * 0.99, lambda: self._world.network.reset(target, other))

    def fade_client(self, fault: Fault) -> None:
        """A client hears late, and then nothing: what it was told last is old by then."""
        directions = [(replica, fault.target) for replica in self._world.replicas]
        self._slow_down(directions, float(fault.options.get("factor", 100)), fault.last_ms)
        self._later(fault.last_ms / 2000, lambda: self.cut_client(fault))

    def slow_links(self, fault: Fault) -> None:
        hosts = [*self._world.replicas, *self._world.clients]
        target = self._replica(fault.target).name
        directions = _both_ways([target], [host for host in hosts if host != target])
        self._slow_down(directions, float(fault.options.get("factor", 20)), fault.last_ms)

    def _slow_down(self, directions: list[Direction], factor: float, last_ms: int) -> None:
        rules = self._world.network.rules
        rules.slow_down(directions, factor)
        self._until(last_ms, lambda: rules.slow_down(directions, 1))

    def reset(self, fault: Fault) -> None:
        hosts = [*self._world.replicas, *self._world.clients]
        target = self._replica(fault.target).name
        for other in hosts:
            if other != target and self._rng.random() < 0.6:
                self._world.network.reset(target, other)

    # Disks.

    def slow_disk(self, fault: Fault) -> None:
        disk = self._replica(fault.target).disk
        disk.slow_factor = float(fault.options.get("factor", 50))
        self._until(fault.last_ms, lambda: setattr(disk, "slow_factor", 1.0))

    def fail_disk(self, fault: Fault) -> None:
        host = self._replica(fault.target)
        number = int(fault.options.get("errno", errno.EIO))
        power_ms = fault.options.get("then_power_ms")  # its host goes down with it: a disk rarely dies alone

        def action() -> None:
            host.excuse = "its disk failed"
            if power_ms is not None:
                self._later(power_ms / 1000, partial(host.crash, power=True, down_s=fault.last_ms / 1000))
            raise OSError(number, os.strerror(number))

        host.disk.arm(fault.options["moment"], int(fault.options.get("nth", 1)), action)

    def fill_disk(self, fault: Fault) -> None:
        host = self._replica(fault.target)
        store = host.disk.store
        used = sum(len(inode.current) for inode in store.files.values())
        store.capacity_bytes = used + int(fault.options.get("left_bytes", 0))
        host.excuse = "its disk is full"

        def free() -> None:
            store.capacity_bytes = None

        self._until(fault.last_ms, free)

    def rot(self, fault: Fault) -> None:
        host = self._replica(fault.target)
        if host.rotten is not None:
            return
        host.crash(power=False, down_s=0.05)
        if host.is_up:
            raise Violation("simulation", f"{host.name} is up after a crash")
        rot = find_rot(host.disk.store, str(fault.options.get("what", "journal")), self._rng)
        if rot is None:
            return
        rot.begin(host.disk.store)
        host.rotten = rot
        host.excuse = "a bit flipped on its disk"

        def repair() -> None:
            host.rotten = None
            rot.repair(host.disk.store)

        self._until(fault.last_ms, repair)

    # Clocks and commands.

    def jump_clock(self, fault: Fault) -> None:
        hosts: dict[str, Any] = {**self._world.replicas, **self._world.clients}
        host = hosts.get(fault.target) or self._replica(fault.target)
        host.clock.jump(fault.last_ms / 1000)
        if host.process is not None:
            host.process.clock_jumped()

    def transfer(self, fault: Fault) -> None:
        host = self._replica("leader")
        if host.view is not None and host.process is not None:
            host.process.spawn(self._transfer(host))

    async def _transfer(self, host: ReplicaHost) -> None:
        assert host.view is not None
        others = [name for name in self._world.replicas if name != host.name]
        target = self._rng.choice([None, *others])
        with contextlib.suppress(NotLeaderError):  # it lost the lead in the meantime
            await host.view.engine.transfer_leadership(target)

    def snapshot(self, fault: Fault) -> None:
        host = self._replica(fault.target)
        if host.view is not None and host.process is not None:
            host.process.spawn(_quietly(host.view.engine.snapshot()))

    # Clients.

    # (When a scenario is cut down, a client may be gone before the faults that are about it.)

    def kill_client(self, fault: Fault) -> None:
        client = self._world.clients.get(fault.target)
        if client is not None:
            client.kill()

    def pause_client(self, fault: Fault) -> None:
        client = self._world.clients.get(fault.target)
        if client is not None and client.process is not None:
            client.process.pause()
            self._until(fault.last_ms, client.process.resume)


async def _quietly(work: Any) -> None:
    try:
        await work
    except Exception:
        return  # the replica's own way of failing is watched elsewhere


def _both_ways(some: list[str], others: list[str]) -> list[Direction]:
    return [pair for one in some for other in others for pair in ((one, other), (other, one))]


def _is_far(one: int, other: int, count: int) -> bool:
    return one != other and (one - other) % count not in (1, count - 1)


FAULTS: Final[dict[str, Callable[[Nemesis, Fault], None]]] = {
    "crash": Nemesis.crash,
    "crash_many": Nemesis.crash_many,
    "crash_at": Nemesis.crash_at,
    "stop": Nemesis.stop,
    "pause": Nemesis.pause,
    "partition": Nemesis.partition,
    "lure": Nemesis.lure,
    "stall": Nemesis.stall,
    "slow_links": Nemesis.slow_links,
    "fade_client": Nemesis.fade_client,
    "reset": Nemesis.reset,
    "slow_disk": Nemesis.slow_disk,
    "fail_disk": Nemesis.fail_disk,
    "fill_disk": Nemesis.fill_disk,
    "rot": Nemesis.rot,
    "jump_clock": Nemesis.jump_clock,
    "transfer": Nemesis.transfer,
    "snapshot": Nemesis.snapshot,
    "cut_client": Nemesis.cut_client,
    "kill_client": Nemesis.kill_client,
    "pause_client": Nemesis.pause_client,
}
