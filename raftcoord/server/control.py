"""Connection-level requests `[id, name, *arguments]`, id < 0: they concern this replica, not the store.

Invariants:
  1. A keep-alive is answered OK only behind a read barrier asked for after it arrived, and only while the
     session's expiry was not proposed: the client believes in its locks on the strength of that answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from raftcoord.consensus.interface import ConsensusError, NotLeaderError
from raftcoord.protocol.errors import Code
from raftcoord.protocol.operations import SEQUENCE_MAX, Operation, validate
from raftcoord.server.connection import Connection, ConnectionState, ProtocolViolation, shown

if TYPE_CHECKING:
    from raftcoord.server.gateway import Gateway

logger = logging.getLogger(__name__)

CONTROL_TASKS_MAX: Final = 16  # transfers and snapshots of all connections that are under way
TRANSFER_TARGET_LENGTH_MAX: Final = 256


class ControlTasks:
    """Connection-level requests that take a while."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], None] = {}

    def __repr__(self) -> str:
        return f"<ControlTasks running={len(self._tasks)}>"

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Run `work()` beside everything else; False when too many run already."""
        if len(self._tasks) >= CONTROL_TASKS_MAX:
            return False
        task = asyncio.get_running_loop().create_task(work())
        self._tasks[task] = None
        task.add_done_callback(lambda task: self._tasks.pop(task, None))
        return True

    async def cancel(self) -> None:
        """End all of them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def handle_control(gateway: Gateway, connection: Connection, message: list[Any]) -> None:
    """Handle a connection-level request."""
    identifier, name = message[0], message[1]
    if not -SEQUENCE_MAX <= identifier < 0:
        raise ProtocolViolation("request", "the id of a request is out of range")
    row = _TABLE.get(name) if type(name) is str else None
    if row is None:
        connection.answer(identifier, Code.UNKNOWN_OPERATION, f"unknown request {shown(name)}")
        return
    function, argument_count = row
    arguments = message[2:]
    if len(arguments) != argument_count:
        connection.answer(identifier, Code.MALFORMED, f"{name} takes {argument_count} arguments")
    elif not connection.accept(identifier):
        connection.send((identifier, Code.BUSY, "too many requests in flight"))
    else:
        function(gateway, connection, identifier, arguments)


def _keep_alive(gateway: Gateway, connection: Connection, identifier: int, arguments: list[Any]) -> None:
    if connection.state is not ConnectionState.SESSION:
        connection.answer(identifier, Code.MALFORMED, "an observer has no session")
    elif not gateway.reads.add(gateway.answer_keep_alive, connection, identifier):
        connection.answer(identifier, Code.BUSY, "too much work is waiting")


def answer_keep_alive(gateway: Gateway, connection: Connection, identifier: int) -> None:
    """Answer a keep-alive; behind a barrier only."""
    entry = connection.entry
    if entry is None or connection.state is not ConnectionState.SESSION:
        return
    if gateway.session_clock.alive(entry.identifier) is entry:
        connection.answer(identifier, Code.OK, None)
    else:
        connection.answer(identifier, Code.SESSION_LOST, "the session is expiring")


def _status(gateway: Gateway, connection: Connection, identifier: int, arguments: list[Any]) -> None:
    connection.answer(identifier, Code.OK, gateway.status())


def _follow(gateway: Gateway, connection: Connection, identifier: int, arguments: list[Any]) -> None:
    error = validate(int(Operation.TOPIC_READ), [*arguments, True])
    if error is None and not arguments[1]:
        error = "only a leader knows where a topic begins: the offset is above 0"
    if error is not None:
        connection.answer(identifier, Code.MALFORMED, error)
    elif connection.is_congested:
        connection.answer(identifier, Code.BUSY, "answers are not being read")
    else:
        gateway.followers.add(connection, identifier, *arguments)


def _transfer(gateway: Gateway, connection: Connection, identifier: int, arguments: list[Any]) -> None:
    target = arguments[0]
    if target is not None and (type(target) is not str or len(target) > TRANSFER_TARGET_LENGTH_MAX):
        connection.answer(identifier, Code.MALFORMED, "the target is the name of a member, or None")
        return

    async def transfer() -> Any:
        logger.info("transfer_requested target=%r peer=%s", target, connection.peer)
        return await gateway.engine.transfer_leadership(target)

    _start(gateway, connection, identifier, transfer)


def _snapshot(gateway: Gateway, connection: Connection, identifier: int, arguments: list[Any]) -> None:
    _start(gateway, connection, identifier, gateway.engine.snapshot)


def _start(
    gateway: Gateway,
    connection: Connection,
    identifier: int,
    function: Callable[[], Coroutine[Any, Any, Any]],
) -> None:
    async def work() -> None:
        try:
            connection.answer(identifier, Code.OK, await function())
        except NotLeaderError:
            connection.answer(identifier, Code.NOT_LEADER, gateway.leader_hint())
        except ValueError as error:
            connection.answer(identifier, Code.MALFORMED, str(error))
        except ConsensusError as error:
            logger.warning("control_request_failed error=%r", str(error))
            connection.answer(identifier, Code.BUSY, str(error))

    if not gateway.control_tasks.start(work):
        connection.answer(identifier, Code.BUSY, "too many such requests are under way")


_TABLE: Final[dict[str, tuple[Callable[[Gateway, Connection, int, list[Any]], None], int]]] = {
    "keep_alive": (_keep_alive, 0),
    "status": (_status, 0),
    "follow": (_follow, 3),
    "transfer": (_transfer, 1),
    "snapshot": (_snapshot, 0),
}
