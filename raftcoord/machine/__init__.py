"""The replicated state machine: pure, deterministic, total.

No clock, no randomness, no I/O, no logging, no asyncio. Whatever it needs to know comes in the commands.
"""

from raftcoord.machine.machine import Machine, MachineError
from raftcoord.machine.outcome import Applied, Completed, SessionView

__all__ = ["Applied", "Completed", "Machine", "MachineError", "SessionView"]
