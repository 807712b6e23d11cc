"""`python -m benchmarks [SECTION…]`: choose what to measure, run it, print and save the figures."""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import big_state, failover, report, side_by_side
from benchmarks.etcd_cluster import EtcdCluster
from benchmarks.figures import Figure
from benchmarks.host import describe
from raftcoord.version import __version__

RESULTS: Final = Path(__file__).resolve().parent / "results"
SECTIONS: Final = {
    "sets": "throughput of sets of 256 B from 100 connections",
    "latency": "latency of sets of 256 B from one connection",
    "reads": "throughput of linearizable gets from 100 connections",
    "locks": "latency of lock acquire and release by one client",
    "failover": "pause of a writing client when the leader is killed",
    "handover": "pause of a writing client when the leader is asked to stop",
    "restart": "time to restart a replica with 200,000 variables",
    "memory": "memory of a small variable",
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure three replicas with fsync on, side by side with etcd where it is installed.",
        epilog="sections: " + "; ".join(f"{name}: {text}" for name, text in SECTIONS.items()),
    )
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help="what to measure (default: everything)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each system (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured window (default %(default)s)")
    parser.add_argument(
        "--repetitions",
        type=int,
        default=failover.REPETITIONS,
        help="changes of the leader (default %(default)s)",
    )
    parser.add_argument("--without-etcd", action="store_true", help="measure raftcoord alone")
    parser.add_argument("--data-dir", type=Path, default=RESULTS, help="folder for the replicas' data")
    parser.add_argument("--json", type=Path, help="file to write (default: benchmarks/results/TIME.json)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    if unknown := sorted(set(options.sections) - set(SECTIONS)):
        parser.error(f"unknown section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if options.rounds < 1 or options.repetitions < 1 or options.seconds <= 0:
        parser.error("--rounds, --repetitions and --seconds must be positive")
    return options


def _systems(options: argparse.Namespace) -> tuple[list[str], str | None]:
    """Return what can be compared, and the version of etcd."""
    if options.without_etcd:
        return ["raftcoord"], None
    version = EtcdCluster.version()
    if version is None:
        print("etcd is not installed (Debian: apt-get install etcd-server): raftcoord is measured alone")
        return ["raftcoord"], None
    return ["etcd", "raftcoord"], version


def _measure(options: argparse.Namespace, systems: list[str], folder: Path) -> list[Figure]:
    sections = set(options.sections or SECTIONS)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {text}", flush=True)

    figures = side_by_side.measure(
        sections, systems=systems, rounds=options.rounds, seconds=options.seconds, folder=folder, say=say
    )
    figures += failover.measure(sections, repetitions=options.repetitions, folder=folder, say=say)
    return figures + big_state.measure(sections, folder=folder, say=say)


def main() -> int:
    # Without this a SIGTERM would leave the clusters' processes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _arguments()
    options.data_dir.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = describe(options.data_dir) | {"raftcoord": __version__}
    if about["file_system"] == "tmpfs":
        print(f"{options.data_dir} is in memory, where fsync costs nothing: choose a disk with --data-dir")
        return 2
    systems, etcd_version = _systems(options)
    if etcd_version is not None:
        about["etcd"] = etcd_version
    with tempfile.TemporaryDirectory(prefix="data-", dir=options.data_dir) as folder:
        figures = _measure(options, systems, Path(folder))
    now = datetime.datetime.now(datetime.UTC)
    path = options.json or RESULTS / f"{now:%Y%m%dT%H%M%S}.json"
    report.save(figures, about | {"measured_at": now.isoformat(timespec="seconds")}, path)
    title = (
        f"Three replicas, fsync on ({about['file_system']}), {about['cores']} cores shared with the load "
        f"generator, Python {about['python']}" + (f", etcd {etcd_version}" if etcd_version else "")
    )
    if options.markdown:
        print(report.markdown(figures, title))
    else:
        report.print_table(figures, title)
    print(f"all numbers are in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
