"""Three etcd members on loopback with their defaults: fsync on, data on disk."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

MEMBERS = 3
START_TIMEOUT_S = 30.0


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


class EtcdCluster:
    """A context manager that starts the members, and leaves no process and no file behind.

    `address` is that of the member that led when the cluster was ready: its clients are spared the hop
    through a follower, as raftcoord's are.
    """

    def __init__(self, folder: Path) -> None:
        self.address = ""
        self._folder = Path(tempfile.mkdtemp(prefix="etcd-", dir=folder))
        self._processes: list[subprocess.Popen[bytes]] = []

    def __repr__(self) -> str:
        return f"<EtcdCluster leader={self.address!r} members={len(self._processes)}>"

    @staticmethod
    def version() -> str | None:
        """Return the version of the installed etcd, None when there is none."""
        binary = shutil.which("etcd")
        if binary is None:
            return None
        output = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
        return output.partition("\n")[0].rpartition(" ")[2]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def __enter__(self) -> EtcdCluster:
        try:
            ports = free_ports(2 * MEMBERS)
            peers = [f"http://127.0.0.1:{port}" for port in ports[:MEMBERS]]
            clients = [f"http://127.0.0.1:{port}" for port in ports[MEMBERS:]]
            initial = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
            for number, (peer, client) in enumerate(zip(peers, clients, strict=True)):
                self._processes.append(self._start_member(f"m{number}", peer, client, initial))
            self.address = asyncio.run(self._leader([url.removeprefix("http://") for url in clients]))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_member(self, name: str, peer: str, client: str, initial: str) -> subprocess.Popen[bytes]:
        flags = {
            "name": name,
            "data-dir": str(self._folder / name),
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "initial-cluster": initial,
            "log-level": "error",
        }
        command = ["etcd", *(f"--{flag}={value}" for flag, value in flags.items())]
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    async def _leader(self, addresses: list[str]) -> str:
        from benchmarks.etcd_wire import EtcdConnection

        connections = [EtcdConnection(address) for address in addresses]
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + START_TIMEOUT_S):
                for connection in connections:
                    await connection.connect()
                while time.monotonic() < deadline:
                    for connection in connections:
                        if await connection.leads():
                            return connection.address
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pass
        finally:
            for connection in connections:
                await connection.close()
        logs = "".join(log.read_text(errors="replace")[-500:] for log in self._folder.glob("*.log"))
        raise RuntimeError(f"etcd has no leader after {START_TIMEOUT_S:.0f} s: {logs or 'no message'}")

    def close(self) -> None:
        """Stop all members and remove their data; does nothing the second time."""
        for process in self._processes:
            process.kill()  # its data goes as well, and an orderly end takes seconds
        for process in self._processes:
            process.wait()
        self._processes.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
