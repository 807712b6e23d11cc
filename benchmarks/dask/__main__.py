"""`python -m benchmarks.dask [SECTION…]`: raftcoord's Dask objects side by side with Dask's own.

Invariants:
  1. The systems take turns, round by round, each with new processes and empty data; the other does not run.
  2. Both are asked by the same lines of code (`objects`, `topics`, `handles`), from a client process and
     from tasks on workers. Dask's scheduler is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.clusters import raftcoord_cluster
from benchmarks.dask import comparison
from benchmarks.dask.comparison import Comparison
from benchmarks.dask.processes import DaskProcesses
from benchmarks.dask.sections import SECTIONS, Samples, Section
from benchmarks.host import busy_s, describe
from benchmarks.side_by_side import OTHERS_CPU_MAX
from raftcoord.version import __version__

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "benchmarks" / "results"
OLD_DASK: Final = "2025.3.0"  # Pub and Sub were removed in 2025.4
SYSTEMS: Final = ("dask", "raftcoord")
TURN_TIMEOUT_S: Final = 300.0
ADDRESSES_VARIABLE: Final = "DASK_RAFTCOORD__ADDRESSES"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dask",
        description="Measure raftcoord's Dask objects (three replicas, fsync on) next to Dask's own.",
        epilog="sections: " + "; ".join(f"{name}: {section.text}" for name, section in SECTIONS.items()),
    )
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help="what to measure (default: everything)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each system (default %(default)s)")
    parser.add_argument("--count", type=int, help="calls, messages or handles of one turn")
    parser.add_argument(
        "--old-dask",
        metavar="PYTHON",
        help=f"an interpreter with Dask {OLD_DASK}, for topics (default: a new environment is made)",
    )
    parser.add_argument("--data-dir", type=Path, default=RESULTS, help="folder for the replicas' data")
    parser.add_argument(
        "--json", type=Path, help="file to write (default: benchmarks/results/dask-TIME.json)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    if unknown := sorted(set(options.sections) - set(SECTIONS)):
        parser.error(f"unknown section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if options.rounds < 1 or (options.count is not None and options.count < 1):
        parser.error("--rounds and --count must be positive")
    return options


def _old_dask(folder: Path) -> str:
    """Make an environment with the last but one release that has Pub and Sub; return its interpreter."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*command, f"dask=={OLD_DASK}", f"distributed=={OLD_DASK}"], check=True)
    return python


def _turn(
    system: str, name: str, section: Section, *, count: int, python: str, folder: Path
) -> tuple[Samples, float]:
    """Start everything, let one client process measure, and return its numbers, and the CPU others used."""
    began, busy_before_s, own_before_s = time.monotonic(), busy_s(), _own_cpu_s()
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dask-", dir=folder)))
        environment = {}
        if system == "raftcoord":
            environment[ADDRESSES_VARIABLE] = stack.enter_context(raftcoord_cluster(folder)).address
        processes = DaskProcesses(
            logs,
            workers=section.workers,
            threads=section.threads,
            python=python,
            path=[ROOT],
            environment=environment,
        )
        stack.enter_context(processes)
        printed = processes.call(
            *("-m", "benchmarks.dask.turn", system, processes.address, name, str(count)),
            str(len(section.workers)),
            timeout_s=TURN_TIMEOUT_S,
        )
    found: dict[str, list[float]] = json.loads(printed)
    others_s = busy_s() - busy_before_s - (_own_cpu_s() - own_before_s)
    return found, max(0.0, others_s / (time.monotonic() - began))


def _own_cpu_s() -> float:
    """Return the CPU seconds of this process, and of all those that it started and that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _measure(
    options: argparse.Namespace, folder: Path, say: Callable[[str], None]
) -> tuple[list[Comparison], list[float]]:
    """Return the figures, and the CPU that others used in each turn."""
    chosen = {name: SECTIONS[name] for name in options.sections or SECTIONS}
    old_python = options.old_dask
    if old_python is None and any(section.on_old_dask for section in chosen.values()):
        say(f"installing Dask {OLD_DASK}")
        old_python = _old_dask(folder / "old-dask")
    figures: list[Comparison] = []
    all_others_cpu: list[float] = []
    for name, section in chosen.items():
        turns: dict[str, list[Samples]] = {system: [] for system in SYSTEMS}
        for number in range(options.rounds):
            for system in SYSTEMS:
                python = old_python if section.on_old_dask and system == "dask" else sys.executable
                count = options.count or section.count
                turn, others_cpu = _turn(system, name, section, count=count, python=python, folder=folder)
                turns[system].append(turn)
                all_others_cpu.append(others_cpu)
                say(f"round {number + 1}/{options.rounds} {name} {system}, CPU of others: {others_cpu:.2f}")
        figures += section.compared(turns["raftcoord"], turns["dask"])
    if (others_cpu := statistics.median(all_others_cpu)) > OTHERS_CPU_MAX:
        say(f"other programs used {others_cpu:.2f} cores meanwhile: repeat this on an idle machine")
    return figures, all_others_cpu


def main() -> int:
    # Without this a SIGTERM would leave the clusters' processes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _arguments()
    options.data_dir.mkdir(parents=True, exist_ok=True)
    dask = importlib.metadata.version("distributed")
    about: dict[str, Any] = describe(options.data_dir) | {"raftcoord": __version__, "dask": dask}
    if about["file_system"] == "tmpfs":
        print(f"{options.data_dir} is in memory, where fsync costs nothing: choose a disk with --data-dir")
        return 2
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="data-", dir=options.data_dir) as folder:
        figures, others_cpu = _measure(options, Path(folder).resolve(), say)
    now = datetime.datetime.now(datetime.UTC)
    path = options.json or RESULTS / f"dask-{now:%Y%m%dT%H%M%S}.json"
    about |= {
        "old_dask": OLD_DASK,
        "measured_at": now.isoformat(timespec="seconds"),
        "others_cpu": others_cpu,
    }
    comparison.save(figures, about, path)
    title = (
        f"Three replicas, fsync on ({about['file_system']}), against one scheduler of Dask {dask} "
        f"(topics: {OLD_DASK}), {about['cores']} cores for everything, Python {about['python']}"
    )
    if options.markdown:
        print(comparison.markdown(figures, title))
    else:
        comparison.print_table(figures, title)
    print(f"all numbers are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
