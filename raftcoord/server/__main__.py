"""`python -m raftcoord.server`: one replica as a process.

Exit codes: 0 after a graceful stop, 1 when the replica cannot go on, 2 for wrong settings, 3 when an
address cannot be listened on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec
import uvloop

from raftcoord.consensus.interface import FatalError
from raftcoord.server.config import ConfigError, ServerConfig
from raftcoord.server.config_sources import add_arguments, load_config
from raftcoord.server.logs import configure_logging
from raftcoord.server.replica import ListenError, ReplicaServer

logger = logging.getLogger("raftcoord.server")

FILES_BESIDE_CONNECTIONS: Final = 512  # listeners, peers, segments, ops HTTP, connections over the limit
LIFELINE_EXIT_CODE: Final = 0
# What a replica holds lives long. Python's defaults would walk all of it again and again, and stop the
# loop for that; young objects are nearly all freed by reference counting anyway.
GC_THRESHOLDS: Final = (20_000, 50, 1000)


class ExitCode(IntEnum):
    """How the process ends."""

    STOPPED = 0
    FATAL = 1
    CONFIG = 2
    LISTEN = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a replica until it is told to stop or cannot go on; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="raftcoord serve", description="Run one replica.", allow_abbrev=False
    )
    add_arguments(parser)
    parser.add_argument(
        "--lifeline", type=int, metavar="FD", help="exit at once when this inherited pipe is closed"
    )
    parsed = parser.parse_args(arguments)
    try:
        loaded = load_config(parsed)
    except ConfigError as error:
        return _fail(f"configuration: {error}", ExitCode.CONFIG)
    config = loaded.config
    configure_logging(config.log_level, config.log_format)
    for warning in loaded.warnings:
        logger.warning("config_warning text=%r", warning)
    if parsed.lifeline is not None:
        _hold_lifeline(parsed.lifeline)
    config = _fit_file_limit(config)
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(config))


async def _run(config: ServerConfig) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stopping, number)
    server = ReplicaServer(config)
    try:
        await server.start()
    except FatalError as error:
        return _fail(str(error), ExitCode.FATAL)
    except ListenError as error:
        return _fail(str(error), ExitCode.LISTEN)
    gc.collect()
    gc.freeze()  # what was just recovered is not walked by later collections
    _print_ready(config, has_ops=server.has_ops)
    fatal = asyncio.ensure_future(server.wait_fatal())
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((fatal, stop), return_when=asyncio.FIRST_COMPLETED)
    failed = fatal.done()
    fatal.cancel()
    stop.cancel()
    await server.stop(graceful=not failed)
    # The error may also have come while it was stopping; what was not acknowledged is then still unknown.
    if server.fatal_error is not None:
        return _fail(str(server.fatal_error), ExitCode.FATAL)
    logger.info("stopped name=%s", config.name)
    return ExitCode.STOPPED


def _on_signal(stopping: asyncio.Event, number: int) -> None:
    if stopping.is_set():
        os._exit(128 + number)  # asked twice: whoever asks does not want to wait
    logger.info("stopping signal=%s", signal.Signals(number).name)
    stopping.set()


def _print_ready(config: ServerConfig, *, has_ops: bool) -> None:
    peer = config.peer_listen or config.members[config.name]
    ops = config.ops_listen if has_ops else "off"
    with contextlib.suppress(OSError):  # nobody has to listen
        print(f"ready name={config.name} client={config.client_address} peer={peer} ops={ops}", flush=True)


def _hold_lifeline(descriptor: int) -> None:
    """End this process when the other end of an inherited pipe is closed, however busy the loop is."""
    os.set_inheritable(descriptor, False)

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 1):
                pass
        # Everything that was acknowledged is synced, so there is nothing to save.
        os._exit(LIFELINE_EXIT_CODE)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def _fit_file_limit(config: ServerConfig) -> ServerConfig:
    """Allow as many open files as the connection limit needs; lower that limit where the system refuses.

    Clients must not be able to use up the descriptors that the log needs for its next segment.
    """
    wanted = config.limits.connections_max
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted + FILES_BESIDE_CONNECTIONS:
        return config
    needed = wanted + FILES_BESIDE_CONNECTIONS
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft >= needed:
        return config
    possible = max(1, soft - FILES_BESIDE_CONNECTIONS)
    logger.warning("file_limit_low files=%d connections_max=%d wanted=%d", soft, possible, wanted)
    limits = msgspec.structs.replace(config.limits, connections_max=possible)
    return msgspec.structs.replace(config, limits=limits)


def _fail(text: str, code: ExitCode) -> int:
    with contextlib.suppress(OSError):
        print(f"raftcoord: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
