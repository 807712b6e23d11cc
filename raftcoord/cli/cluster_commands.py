"""`raftcoord up`, `raftcoord serve` and `raftcoord demo`: commands that run replicas."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import NoReturn

import click

from raftcoord.cli.exits import CommandError, Exit
from raftcoord.client.addresses import ADDRESS_ENVIRONMENT
from raftcoord.testing.local_cluster import LocalCluster
from raftcoord.testing.replica_process import ProcessState

_WATCH_INTERVAL_S = 0.5


@click.command(
    epilog="\b\nExamples:\n  raftcoord up\n  raftcoord up --replicas 5 --data-dir ./data --port 7400"
)
@click.option("--replicas", type=click.IntRange(1, 9), default=3, show_default=True, help="How many.")
@click.option("--data-dir", type=click.Path(file_okay=False), help="Keep the data here; else it is lost.")
@click.option("--port", type=click.IntRange(0, 65_526), default=0, help="First client port; 0 for any.")
def up(replicas: int, data_dir: str | None, port: int) -> int:
    """Run a cluster on this machine until Ctrl-C.

    Prints the address to use, and says when a replica ends. With --data-dir the next run continues where
    this one stopped.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with LocalCluster(replicas, data_dir, port=port) as cluster:
            print(f"{replicas} replicas are up. Ctrl-C stops them.", flush=True)
            print(f"export {ADDRESS_ENVIRONMENT}={cluster.address}", flush=True)
            _watch(cluster)
    except KeyboardInterrupt:
        return Exit.OK
    raise CommandError("all replicas have ended")


def _watch(cluster: LocalCluster) -> None:
    """Say which replicas end by themselves; return when none is left."""
    down: set[int] = set()
    while len(down) < cluster.replicas:
        time.sleep(_WATCH_INTERVAL_S)
        for index in range(cluster.replicas):
            if index not in down and cluster.state(index) is ProcessState.DOWN:
                down.add(index)
                print(
                    f"replica {index} at {cluster.addresses[index]} ended: {cluster.logs(index, 1)}",
                    flush=True,
                )


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
    epilog="\b\nExample:\n  raftcoord serve --config replica.toml",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> int:
    """Run one replica of a cluster in the foreground. Its flags: raftcoord serve --help."""
    from raftcoord.server.__main__ import main  # the only command that needs the whole server

    try:
        return main(list(arguments))
    except SystemExit as end:  # its own parser ends so, for --help and for wrong flags
        return end.code if isinstance(end.code, int) else Exit.USAGE


@click.command(epilog="\b\nExample:\n  raftcoord demo")
def demo() -> int:
    """Ten workers share a variable, a queue and a lock while leaders are killed.

    Starts three replicas, kills the leader (SIGKILL) in the middle of every part, and prints what the
    workers got. Exit code 0 when nothing was lost, doubled or stuck.
    """
    from raftcoord.demo.main import run_demo

    return Exit.OK if run_demo() else Exit.NO
