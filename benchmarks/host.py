"""What the machine tells about itself and about processes: CPU time, memory, file system."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds that these processes have used so far, system time included."""
    total = 0
    for pid in pids:
        # The name in parentheses may contain spaces; what follows it are numbers.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


def busy_s() -> float:
    """Return the CPU seconds that all programs have used so far, and those taken by the machine's host."""
    numbers = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    idle, waiting_for_disk = numbers[3:5]
    return (sum(numbers) - idle - waiting_for_disk) / _TICKS_PER_S


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is in RAM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has ended")


def file_system(folder: Path) -> str:
    """Return the type of the file system that holds a folder, e.g. "ext4" or "tmpfs"."""
    best, kind = Path("/"), "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split()
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(str(best)):
            best, kind = Path(mount), name
    return kind


def describe(folder: Path) -> dict[str, str | int]:
    """Return what a reader needs to judge absolute figures."""
    return {
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "file_system": file_system(folder),
    }
