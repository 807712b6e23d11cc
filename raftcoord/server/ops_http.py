"""HTTP for operators on a port of its own: /healthz, /readyz and /metrics.

Optional: without aiohttp or prometheus_client a replica runs without it, and says so. Nothing here
changes anything; it must not be reachable by strangers, as it has no authentication.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from raftcoord.server.status import unready_reason

if TYPE_CHECKING:
    from aiohttp import web

    from raftcoord.server.replica import ReplicaServer

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 0.5
REQUEST_BYTES_MAX = 64 * 1024


class OpsServer:
    """The running HTTP listener."""

    __slots__ = ("_runner",)

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    def __repr__(self) -> str:
        return f"<OpsServer {self._runner.addresses}>"

    async def stop(self) -> None:
        """Close the listener and its connections."""
        await self._runner.cleanup()


async def start_ops(server: ReplicaServer, host: str, port: int) -> OpsServer | None:
    """Listen for HTTP; None when a package that it needs is not installed.

    Raises:
        OSError: the address cannot be listened on.
    """
    try:
        from aiohttp import web
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        from raftcoord.server.ops_metrics import make_registry
    except ImportError as error:
        logger.warning("ops_http_off missing=%s install=%s", error.name, "raftcoord[ops]")
        return None
    registry = make_registry(server)

    async def healthz(request: web.Request) -> web.Response:
        error = server.fatal_error
        body: dict[str, Any] = {"healthy": error is None}
        if error is not None:
            body["reason"] = str(error)
        return web.json_response(body, status=200 if error is None else 503)

    async def readyz(request: web.Request) -> web.Response:
        reason = str(server.fatal_error) if server.fatal_error else unready_reason(server.engine_status())
        body: dict[str, Any] = {"ready": reason is None}
        if reason is not None:
            body["reason"] = reason
        return web.json_response(body, status=200 if reason is None else 503)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application(client_max_size=REQUEST_BYTES_MAX)
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_TIMEOUT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return OpsServer(runner)
