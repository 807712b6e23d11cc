"""What the world gives a replica: time, randomness, network and disk.

Each is a small Protocol plus the real implementation. Everything else in the package asks the world only
through these, so that a whole cluster can run inside one process on simulated ones.
"""

from raftcoord.runtime.clock import Clock, MonotonicClock
from raftcoord.runtime.disk import Disk, File, RealDisk
from raftcoord.runtime.network import LoopNetwork, Network
from raftcoord.runtime.rng import Rng, SystemRng
from raftcoord.runtime.runtime import Runtime

__all__ = [
    "Clock",
    "Disk",
    "File",
    "LoopNetwork",
    "MonotonicClock",
    "Network",
    "RealDisk",
    "Rng",
    "Runtime",
    "SystemRng",
]
