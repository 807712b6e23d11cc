"""A whole cluster on this machine: real replica processes on loopback, for users, demos and tests.

Nothing here takes part in the consensus: it starts processes, sends them signals and asks them how they
are. How one process is run is `replica_process.py`; what cleans up after a killed owner is `lifeline.py`.

Invariants:
  1. After `close`, and after the owner's death of whatever kind, no process, port or temporary folder is
     left behind.
  2. A replica keeps its ports and its data over `kill`, `stop` and `restart`.
  3. A process forked from the owner has no power over the cluster: `close` there does nothing.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from raftcoord.testing.cluster_folder import ClusterFolder, ClusterSettings, FolderError
from raftcoord.testing.lifeline import Lifeline
from raftcoord.testing.observer import ObserveError, observe
from raftcoord.testing.ports import ReservedPort, reserve
from raftcoord.testing.replica_process import STOP_WAIT_S, ProcessState, ReplicaProcess
from raftcoord.testing.toml_text import toml_text

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

REPLICAS_MAX: Final = 9
READY_WAIT_S: Final = 30.0
POLL_INTERVAL_S: Final = 0.02
OBSERVE_TIMEOUT_S: Final = 0.5
LOG_TAIL_LINES: Final = 15
_OWN_SETTINGS: Final = frozenset(
    {"name", "data_dir", "listen", "advertise", "peers", "peer_listen", "secret"}
)

_clusters: set[LocalCluster] = set()


class LocalClusterError(RuntimeError):
    """A replica did not start or ended by itself, or the cluster cannot do what was asked."""


class LocalCluster:
    """Replica processes on 127.0.0.1 that form one cluster; returns when it serves.

    Args:
        replicas: how many; an odd number from 1 to 9 makes sense.
        data_dir: the folder that keeps the data over runs; None for a temporary one.
        port: the client port of the first replica, the others follow; 0 for any.
        options: settings of the server for every replica, e.g. `heartbeat_ms=50`.

    Raises:
        LocalClusterError: the cluster did not come up; the message ends with what the replica wrote.
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self,
        replicas: int = 3,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        port: int = 0,
        **options: Any,
    ) -> None:
        if not 1 <= replicas <= REPLICAS_MAX:
            raise ValueError(f"replicas must be from 1 to {REPLICAS_MAX}, not {replicas}")
        if reserved := _OWN_SETTINGS & options.keys():
            raise TypeError(f"LocalCluster sets {', '.join(sorted(reserved))} itself")
        self._count = replicas
        self._closed = False
        self._lock = threading.RLock()
        self._client_ports: list[ReservedPort] = []
        self._peer_ports: list[ReservedPort] = []
        self._processes: list[ReplicaProcess] = []
        self._lifeline: Lifeline | None = None
        self._folder = ClusterFolder(data_dir)
        _clusters.add(self)
        try:
            self._start(port, options)
            self.wait_ready()
        except BaseException as error:
            self.close()
            if isinstance(error, FolderError | OSError):
                raise LocalClusterError(str(error)) from error
            raise

    def __repr__(self) -> str:
        states = ",".join(process.state.value for process in self._processes)
        return f"<LocalCluster {'closed' if self._closed else self.address} replicas={states}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def replicas(self) -> int:
        """The number of replicas, running or not."""
        return self._count

    @property
    def addresses(self) -> list[str]:
        """The client address "host:port" of every replica, by index."""
        return [port.address for port in self._client_ports]

    @property
    def address(self) -> str:
        """All client addresses, separated by commas: what `Client` takes."""
        return ",".join(self.addresses)

    def state(self, index: int) -> ProcessState:
        """Tell whether the process of a replica is running, paused or down."""
        return self._process(index).state

    def pid(self, index: int) -> int | None:
        """Return the process id of a replica, None while it is down."""
        return self._process(index).pid

    def logs(self, index: int, lines: int = 50) -> str:
        """Return the last lines that a replica wrote."""
        return self._process(index).log_tail(lines)

    def status(self, index: int, timeout: float = OBSERVE_TIMEOUT_S) -> dict[str, Any]:
        """Ask one replica how it is. Raises ObserveError (an OSError) when it does not answer in time."""
        self._process(index)
        return observe(self.addresses[index], timeout)

    def statuses(self) -> dict[int, dict[str, Any]]:
        """Ask all running replicas; those that do not answer are left out."""
        return dict(self._answers())

    def leader(self, timeout: float = 10.0) -> int:
        """Return the index of the replica that leads and serves; wait up to `timeout` seconds for one.

        Raises:
            LocalClusterError: there was none in that time.
        """
        return self._poll(lambda: _leader_of(self.statuses()), timeout, "no leader")

    def wait_ready(self, timeout: float = READY_WAIT_S) -> None:
        """Wait until one replica leads and every running one follows it.

        Raises:
            LocalClusterError: that took longer than `timeout` seconds, or a replica ended by itself.
        """
        self._poll(self._all_follow, timeout, "not ready")

    def kill(self, index: int) -> None:
        """Kill a replica (SIGKILL), and return when it has ended. Its data stays."""
        with self._lock:
            self._process(index).kill()

    def stop(self, index: int, timeout: float = STOP_WAIT_S) -> None:
        """Ask a replica to stop (SIGTERM), and return when it has ended; killed after `timeout` seconds."""
        with self._lock:
            process = self._process(index)
            process.terminate()
            if not process.wait_stopped(timeout):
                _LOG.warning("replica_killed name=%s stop_timeout_s=%g", process.name, timeout)

    def pause(self, index: int) -> None:
        """Freeze a replica (SIGSTOP) until `resume`; its connections stay open and silent."""
        with self._lock:
            self._process(index).pause()

    def resume(self, index: int) -> None:
        """Let a paused replica go on (SIGCONT)."""
        with self._lock:
            self._process(index).resume()

    def restart(self, index: int, *, wait: bool = True) -> None:
        """Start a replica again on its data and ports, stopping it first when it runs.

        Args:
            wait: return when it answers; otherwise at once.

        Raises:
            LocalClusterError: it ended by itself or does not answer.
        """
        with self._lock:
            self.stop(index)
            self._process(index).start()
        if wait:
            self._poll(lambda: self._answers_of(index), READY_WAIT_S, f"replica {index} does not answer")

    def heal(self) -> None:
        """Resume what is paused, restart what is down, and wait until all replicas follow one leader.

        Raises:
            LocalClusterError: that did not happen in time.
        """
        with self._lock:
            for index in range(self._count):
                self.resume(index)
                if self.state(index) is ProcessState.DOWN:
                    self._process(index).start()
        self.wait_ready()

    def close(self) -> None:
        """End all replicas and give back ports and temporary folder. May be called more than once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            _clusters.discard(self)
            self._end_processes()
            self._folder.remove()
            if self._lifeline is not None:
                self._lifeline.close()
            for port in (*self._client_ports, *self._peer_ports):
                port.close()
            self._folder.close()

    def _start(self, first_port: int, options: dict[str, Any]) -> None:
        self._folder.claim()
        self._lifeline = Lifeline(
            self._folder.path if self._folder.temporary else None, share=self._folder.lock_descriptor
        )
        self._folder.create()
        known = None if self._folder.temporary else self._folder.load()
        if known and len(known.client_ports) != self._count:
            raise FolderError(
                f"{self._folder.path} holds {len(known.client_ports)} replicas, not {self._count}"
            )
        secret = known.secret if known else secrets.token_hex(16)
        wished = [first_port + i if first_port else 0 for i in range(self._count)]
        self._client_ports = self._reserve(wished, known.client_ports if known else [])
        self._peer_ports = self._reserve([0] * self._count, known.peer_ports if known else [])
        self._folder.save(
            ClusterSettings(
                secret=secret,
                client_ports=[port.port for port in self._client_ports],
                peer_ports=[port.port for port in self._peer_ports],
            )
        )
        names = [f"replica-{index}" for index in range(self._count)]
        peers = dict(zip(names, (port.address for port in self._peer_ports), strict=True))
        for name, port in zip(names, self._client_ports, strict=True):
            folder = self._folder.path / name
            config: dict[str, Any] = {"name": name, "data_dir": str(folder / "data"), "listen": port.address}
            config |= {"ops_listen": "", "secret": secret, **options, "peers": peers}
            self._processes.append(ReplicaProcess(name, folder, toml_text(config), self._lifeline))
        for process in self._processes:
            process.start()

    def _reserve(self, wished: list[int], known: list[int]) -> list[ReservedPort]:
        """Reserve what was asked for, else what an earlier run used, else any ports."""
        if known and not any(wished):
            try:
                return reserve(known)
            except OSError:
                _LOG.info("ports_changed reason=%s", "in use by others")
        return reserve(wished)

    def _process(self, index: int) -> ReplicaProcess:
        if self._closed:
            raise LocalClusterError("this cluster is closed, or belongs to another process")
        if not 0 <= index < self._count:
            raise IndexError(f"replica {index} of {self._count}")
        return self._processes[index]

    def _answers(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(self._count):
            if self.state(index) is ProcessState.RUNNING:
                try:
                    yield index, self.status(index)
                except ObserveError:
                    continue

    def _answers_of(self, index: int) -> dict[str, Any] | None:
        self._raise_if_ended()
        try:
            return self.status(index)
        except ObserveError:
            return None

    def _all_follow(self) -> int | None:
        self._raise_if_ended()
        statuses = self.statuses()
        leader = _leader_of(statuses)
        running = sum(self.state(index) is ProcessState.RUNNING for index in range(self._count))
        if leader is None or len(statuses) < running:
            return None
        name = statuses[leader]["name"]
        return leader if all(status["leader"] == name for status in statuses.values()) else None

    def _raise_if_ended(self) -> None:
        for index, process in enumerate(self._processes):
            if process.exit_code is not None:
                raise LocalClusterError(
                    f"replica {index} ended with exit code {process.exit_code}{self._tail(index)}"
                )

    def _poll(self, attempt: Callable[[], _T | None], timeout_s: float, failure: str) -> _T:
        deadline = time.monotonic() + timeout_s
        while (result := attempt()) is None:
            if time.monotonic() > deadline:
                tails = "".join(self._tail(index) for index in range(self._count))
                raise LocalClusterError(f"{failure} within {timeout_s:g} s: {self!r}{tails}")
            time.sleep(POLL_INTERVAL_S)
        return result

    def _tail(self, index: int) -> str:
        process = self._processes[index]
        text = process.log_tail(LOG_TAIL_LINES) or "(nothing)"
        return f"\n--- {process.name} is {process.state.value} and wrote last:\n{text}"

    def _end_processes(self) -> None:
        # What a temporary folder holds is lost anyway; only kept data deserves an orderly end.
        if not self._folder.temporary:
            for process in self._processes:
                process.terminate()
            deadline = time.monotonic() + STOP_WAIT_S
            for process in self._processes:
                process.wait_stopped(max(0.0, deadline - time.monotonic()))
        for process in self._processes:
            process.kill()

    def _abandon(self) -> None:
        """Let go of everything in a forked child, without touching what the parent owns."""
        self._closed = True
        self._lock = threading.RLock()
        for process in self._processes:
            process.abandon()
        for port in (*self._client_ports, *self._peer_ports):
            port.close()
        self._folder.close()


def _leader_of(statuses: dict[int, dict[str, Any]]) -> int | None:
    """Return the index of the ready leader of the newest term; a deposed one may still think it leads."""
    newest_term = max((status["term"] for status in statuses.values()), default=0)
    for index, status in statuses.items():
        if status["role"] == "leader" and status["ready"] and status["term"] == newest_term:
            return index
    return None


def _close_all() -> None:
    for cluster in list(_clusters):
        cluster.close()


def _abandon_all() -> None:
    for cluster in list(_clusters):
        cluster._abandon()
    _clusters.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_abandon_all)
