"""One replica, composed: engine, machine, gateway and ops HTTP, and their order of starting and stopping.

Invariants:
  1. The client port is taken before the data folder is read, so that a port in use is told at once;
     sessions are refused until the engine reports a ready leader.
  2. A graceful stop hands leadership over while the client connections are still open: they learn who
     leads next, instead of finding out.
  3. After a fatal error nothing is served any more, and the process is expected to end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, Final

from raftcoord.consensus.engine import RaftEngine
from raftcoord.consensus.interface import ConsensusError, EngineStatus
from raftcoord.machine import Machine
from raftcoord.runtime import Runtime
from raftcoord.server.config import ServerConfig, parse_address
from raftcoord.server.gateway import Gateway
from raftcoord.server.metrics import Metrics
from raftcoord.server.ops_http import OpsServer, start_ops
from raftcoord.server.replicated_machine import ReplicatedMachine
from raftcoord.server.status import status_map

logger = logging.getLogger(__name__)

HAND_OVER_TIMEOUT_S: Final = 2.0
STOP_TIMEOUT_S: Final = 10.0


class ListenError(Exception):
    """An address cannot be listened on; the text names the setting, the address and the reason."""


class ReplicaServer:
    """A replica in this process.

    Args:
        config: checked settings.
        runtime: time, randomness, network and disk; the real ones when None.
    """

    def __init__(self, config: ServerConfig, runtime: Runtime | None = None) -> None:
        self.config = config
        self.metrics = Metrics()
        self._runtime = runtime if runtime is not None else Runtime()
        self._started_at = self._runtime.clock.now()
        self._fatal: BaseException | None = None
        self._has_failed = asyncio.Event()
        self._listener: asyncio.AbstractServer | None = None
        self._ops: OpsServer | None = None
        self._machine = Machine()
        replicated = ReplicatedMachine(self._machine)
        self._engine = RaftEngine(config.engine_config(), self._runtime, replicated, self)
        self._engine_started = False
        self.gateway = Gateway(
            engine=self._engine,
            machine=replicated,
            runtime=self._runtime,
            limits=config.limits,
            server_name=config.name,
            metrics=self.metrics,
            status=self.status,
        )

    def __repr__(self) -> str:
        return f"<ReplicaServer name={self.config.name!r} fatal={self._fatal!r} {self.gateway!r}>"

    async def start(self) -> None:
        """Listen, recover from disk, and take part. What was started is stopped again on failure.

        Raises:
            ListenError: an address cannot be listened on.
            FatalError: the data folder cannot be used.
        """
        try:
            self._listener = await self._listen("listen", self.config.listen)
            await self._start_engine()
            if self.config.ops_listen:
                self._ops = await self._start_ops()
        except BaseException:
            await self.stop(graceful=False)
            raise

    async def stop(self, *, graceful: bool = True) -> None:
        """Stop, within a bounded time; `graceful` hands leadership over first. May be called twice."""
        self.gateway.is_stopping = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._engine_started:
            self._engine_started = False
            if graceful:
                await self._hand_over()
            try:
                await asyncio.wait_for(self._engine.stop(hand_over=False), STOP_TIMEOUT_S)
            except TimeoutError:
                logger.error("engine_stop_timeout after_s=%g", STOP_TIMEOUT_S)
        await self.gateway.stop()
        if self._ops is not None:
            ops, self._ops = self._ops, None
            await ops.stop()

    async def wait_fatal(self) -> BaseException:
        """Return the error that stopped this replica, once there is one."""
        await self._has_failed.wait()
        assert self._fatal is not None
        return self._fatal

    def status(self) -> dict[str, Any]:
        """Describe this replica in plain values."""
        return status_map(
            engine_status=self._engine.status(),
            counts=self._machine.counts(),
            connections=len(self.gateway.connections),
            uptime_s=self._runtime.clock.now() - self._started_at,
            counters=self.metrics.as_counters(),
        )

    def engine_status(self) -> EngineStatus:
        """Return the engine's view of itself."""
        return self._engine.status()

    def counts(self) -> dict[str, int]:
        """Return the machine's counts of what it holds."""
        return self._machine.counts()

    @property
    def fatal_error(self) -> BaseException | None:
        """What stopped this replica, if anything did."""
        return self._fatal

    @property
    def has_ops(self) -> bool:
        """Whether HTTP for operators is served."""
        return self._ops is not None

    # --- what the engine calls

    def on_leader_ready(self, term: int) -> None:
        """See `EngineListener`."""
        logger.info("leader_ready term=%d", term)
        self.gateway.on_leader_ready()

    def on_leadership_lost(self) -> None:
        """See `EngineListener`."""
        self.gateway.on_leadership_lost()

    def after_turn(self) -> None:
        """Answer in the iteration of the loop in which the engine learned the answers (`EngineListener`)."""
        self.gateway.deliver_now()

    def on_fatal(self, error: BaseException) -> None:
        """See `EngineListener`."""
        logger.critical("fatal error=%r", str(error))
        if self._fatal is None:
            self._fatal = error
        self.gateway.on_leadership_lost()
        self._has_failed.set()

    # --- parts of starting and stopping

    async def _listen(self, setting: str, address: str) -> asyncio.AbstractServer:
        host, port = parse_address(address, setting)
        try:
            return await self._runtime.network.listen(self.gateway.new_connection, host, port)
        except OSError as error:
            raise _listen_error(setting, address, error) from None

    async def _start_engine(self) -> None:
        self._engine_started = True
        try:
            await self._engine.start()
        except OSError as error:
            address = self.config.peer_listen or self.config.members[self.config.name]
            raise _listen_error("peer_listen", address, error) from None
        self.gateway.is_started = True

    async def _start_ops(self) -> OpsServer | None:
        try:
            return await start_ops(self, *parse_address(self.config.ops_listen, "ops_listen"))
        except OSError as error:
            raise _listen_error("ops_listen", self.config.ops_listen, error) from None

    async def _hand_over(self) -> None:
        if not self._engine.is_ready_leader or len(self.config.members) == 1:
            return
        try:
            moved = await asyncio.wait_for(self._engine.transfer_leadership(), HAND_OVER_TIMEOUT_S)
        except (ConsensusError, TimeoutError) as error:
            logger.warning("hand_over_failed error=%r", f"{type(error).__name__}: {error}")
        else:
            logger.info("hand_over moved=%s leader=%s", moved, self._engine.leader_hint())


def _listen_error(setting: str, address: str, error: OSError) -> ListenError:
    # The event loop puts a sentence of its own, with the address once more, in place of the plain reason.
    if error.errno is not None and error.errno > 0:
        reason = os.strerror(error.errno).lower()
    else:
        reason = error.strerror or str(error)
    return ListenError(f"{setting}: cannot listen on {address}: {reason}")
