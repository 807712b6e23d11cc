"""One value that carries the whole world into a replica."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftcoord.runtime.clock import Clock, MonotonicClock
from raftcoord.runtime.disk import Disk, RealDisk
from raftcoord.runtime.network import LoopNetwork, Network
from raftcoord.runtime.rng import Rng, SystemRng


@dataclass(frozen=True, slots=True)
class Runtime:
    """Time, randomness, network and disk; the real ones unless told otherwise."""

    clock: Clock = field(default_factory=MonotonicClock)
    rng: Rng = field(default_factory=SystemRng)
    network: Network = field(default_factory=LoopNetwork)
    disk: Disk = field(default_factory=RealDisk)
