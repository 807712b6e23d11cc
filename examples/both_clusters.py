"""What all examples share: a Dask cluster, a raftcoord cluster, and the leader to kill.

Without addresses each example starts both on this machine: worker processes of Dask, and three replicas of
raftcoord. It ends them when it is done.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator

import dask
from distributed import Client
from distributed import LocalCluster as DaskCluster

from raftcoord.dask import RaftcoordPlugin
from raftcoord.testing import LocalCluster

Halfway = Callable[[], object]


def nothing() -> None:
    """What happens halfway when nobody wants a leader killed."""


@contextlib.contextmanager
def connected(dask_address: object, raftcoord_address: str) -> Iterator[Client]:
    """Connect to Dask, and tell this process and all workers where raftcoord is."""
    with dask.config.set({"raftcoord.addresses": raftcoord_address}), Client(dask_address) as client:
        client.register_plugin(RaftcoordPlugin(raftcoord_address))
        yield client


@contextlib.contextmanager
def workers(count: int = 2, threads: int = 2) -> Iterator[DaskCluster]:
    """Run a Dask cluster of worker processes on this machine."""
    with DaskCluster(
        n_workers=count, threads_per_worker=threads, processes=True, dashboard_address=":0"
    ) as cluster:
        yield cluster


def main(show: Callable[[Client, Halfway], None], description: str | None) -> None:
    """Run an example from the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler (default: a new one here)")
    parser.add_argument(
        "--raftcoord", metavar="HOST:PORT,…", help="the replicas (default: three new ones here)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="Dask worker processes to start (default %(default)s)"
    )
    parser.add_argument(
        "--kill-leader", action="store_true", help="kill the leader of the new replicas halfway (SIGKILL)"
    )
    options = parser.parse_args()
    if options.kill_leader and options.raftcoord:
        parser.error("--kill-leader kills a replica that this program started, not one of --raftcoord")
    with contextlib.ExitStack() as stack:
        replicas = None if options.raftcoord else stack.enter_context(LocalCluster())
        scheduler = options.scheduler or stack.enter_context(workers(options.workers))
        client = stack.enter_context(connected(scheduler, options.raftcoord or _address(replicas)))
        show(client, _killer(replicas) if options.kill_leader and replicas else nothing)


def _address(replicas: LocalCluster | None) -> str:
    assert replicas is not None
    return replicas.address


def _killer(replicas: LocalCluster) -> Halfway:
    def kill() -> None:
        leader = replicas.leader()
        replicas.kill(leader)
        print(f"(killed replica {leader}, the leader)")

    return kill
