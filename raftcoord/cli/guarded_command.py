"""A command that runs only while something is held: what `lock`, `semaphore run`, `queue claim` … share.

Invariants:
  1. The command starts after the grant, and is told to end as soon as that is lost.
  2. The command does not outlive this process, however that ends: what its session held is handed on.
  3. A signal from the terminal reaches the command once.
  4. What is held is given back after the command has ended, and with its status.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO, Any, Final, NamedTuple, TypeAlias, TypedDict, TypeVar

import click

from raftcoord import Client, Lock, MultiLock, RWLock, Semaphore
from raftcoord.cli.exits import CommandError, Exit
from raftcoord.cli.options import Duration, connected_client
from raftcoord.protocol.errors import LockLost, SessionLost
from raftcoord.testing.lifeline import Lifeline

_FORWARDED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SIGNAL_EXIT_BASE: Final = 128
_F = TypeVar("_F", bound=Callable[..., Any])

EXIT_CODES: Final = """\b
Exit codes:
  the command's own, or 128 + N when signal N ended it
    3  no cluster can be reached
  124  it was not to be had in time; the command was not started
  125  it was lost, and the command was ended
  126  the command cannot be executed
  127  there is no such command
"""


class Holding(TypedDict):
    """What `holding_options` and `address_option` hand to a command: durations in seconds."""

    timeout: float | None
    ttl: float
    kill_after: float
    address: str | None


class Grant(NamedTuple):
    """What was acquired for a command.

    Attributes:
        environment: what the command is told, by the ends of the names of the variables.
        give_back: called with the status of the command. Raises LockLost when it was lost before.
        stdin: what the command reads; None leaves it that of this process.
    """

    environment: dict[str, str | bytes]
    give_back: Callable[[int], object]
    stdin: bytes | None = None


Take: TypeAlias = Callable[[Client, Callable[[], object], float | None], Grant | None]


class CommandAfterDashes(click.Command):
    """A command with names and options in any order before a `--`, and after it the COMMAND to run.

    The callback gets that one as `command`, empty when there is none.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:end])
        ctx.params["command"] = tuple(args[end + 1 :])
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "-- COMMAND..."]


class Terminated(BaseException):
    """A signal to end came before the command was started."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def holding_options(command: _F) -> _F:
    """Add --timeout, --ttl and --kill-after."""
    for option in (
        click.option(
            "--kill-after",
            type=Duration(),
            default="2s",
            show_default=True,
            help="From SIGTERM to SIGKILL on loss.",
        ),
        click.option(
            "--ttl", type=Duration(), default="10s", show_default=True, help="How long it outlives us."
        ),
        click.option("--timeout", type=Duration(), help="How long to wait for it.  [default: for ever]"),
    ):
        command = option(command)
    return command


def command_of(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command without the `--` before it. Raises UsageError when there is none."""
    command = arguments[1:] if arguments[:1] == ("--",) else arguments
    if not command:
        raise click.UsageError("there is no COMMAND to run: it follows after --")
    return command


def grant_of(held: Lock | MultiLock | RWLock | Semaphore, **environment: str) -> Grant:
    """Return what was just acquired; the command is told the fence besides `environment`."""
    return Grant({**environment, "FENCE": str(held.fence)}, lambda status: held.release())


def run_while_held(
    take: Take,
    command: tuple[str, ...],
    *,
    what: str,
    variables: str,
    timeout: float | None,
    ttl: float,
    kill_after: float,
    address: str | None,
) -> int:
    """Run a command while holding something, and return its exit status.

    Args:
        take: acquires it, given a client, what to call when it is lost, and the timeout; returns None when it
            is not to be had in time.
        what: how messages call it.
        variables: how the names of the environment variables begin.
    """
    lost = _Loss()
    with _ending_early(), connected_client(address, session_ttl=ttl) as client:
        try:
            grant = take(client, lost.set, timeout)
        except (SessionLost, TimeoutError) as error:
            raise CommandError(f"{what}: {error}", Exit.LOCK_TIMEOUT) from None
        if grant is None:
            raise CommandError(f"{what} was not to be had in time", Exit.LOCK_TIMEOUT)
        with _file_of(grant.stdin) as stdin:
            status = _Guarded(command, _environment(variables, grant), stdin).run(lost, kill_after)
        try:
            grant.give_back(status)
        except LockLost:
            lost.set()  # too late for the command to have noticed, but it may have run without it
    if lost.happened:
        raise CommandError(f"{what} was lost", Exit.LOCK_LOST)
    return status


def _environment(variables: str, grant: Grant) -> dict[str, str | bytes]:
    """Return our own environment with what is told of the grant, and nothing of another one of its kind."""
    prefix = f"{variables}_"
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(prefix)}
    return {**inherited, **{f"{prefix}{name}": text for name, text in grant.environment.items()}}


@contextlib.contextmanager
def _file_of(content: bytes | None) -> Iterator[IO[bytes] | None]:
    """Give a file in memory: unlike a pipe, it needs nobody to write while the command reads, or does not."""
    if content is None:
        yield None
        return
    with open(os.memfd_create("stdin"), "w+b") as file:
        file.write(content)
        file.seek(0)
        yield file


class _Loss:
    """Whether the lock was lost, and one place to wait for that or for the end of the command."""

    def __init__(self) -> None:
        self.happened = False
        self.changed = threading.Event()

    def set(self) -> None:
        self.happened = True
        self.changed.set()


class _Guarded:
    """The command as a process, in a group of its own unless it needs the terminal."""

    def __init__(
        self, command: tuple[str, ...], environment: dict[str, str | bytes], stdin: IO[bytes] | None
    ) -> None:
        self._command = command
        self._environment = environment
        self._stdin = stdin
        # A group of its own lets a signal reach everything that the command started. But only the
        # foreground group may read the terminal, and that group gets Ctrl-C from it anyway.
        self._own_group = not _is_foreground()
        self._process: subprocess.Popen[bytes] | None = None
        self._early_signals: list[int] = []

    def run(self, lost: _Loss, kill_after_s: float) -> int:
        """Run the command to its end and return its exit status; end it when the lock is lost."""
        lifeline = Lifeline(None)
        try:
            with _handling(self._forward):
                process = self._start(lifeline)
                threading.Thread(target=self._await_end, args=(process, lost.changed), daemon=True).start()
                lost.changed.wait()
                if process.poll() is None:
                    self._end(process, kill_after_s)
            lifeline.forget(process.pid)
        finally:
            lifeline.close()
        code = process.returncode
        return code if code >= 0 else _SIGNAL_EXIT_BASE - code

    def _start(self, lifeline: Lifeline) -> subprocess.Popen[bytes]:
        process = lifeline.start(
            self._command,
            env=self._environment,
            stdin=self._stdin,
            process_group=0 if self._own_group else None,
        )
        self._process = process
        for number in self._early_signals:
            self._forward(number)
        return process

    @staticmethod
    def _await_end(process: subprocess.Popen[bytes], changed: threading.Event) -> None:
        process.wait()
        changed.set()

    def _end(self, process: subprocess.Popen[bytes], kill_after_s: float) -> None:
        self._send(signal.SIGTERM)
        try:
            process.wait(kill_after_s)
        except subprocess.TimeoutExpired:
            self._send(signal.SIGKILL)
            process.wait()

    def _forward(self, number: int, frame: FrameType | None = None) -> None:
        if self._process is None:
            self._early_signals.append(number)
        elif number != signal.SIGINT or self._own_group:
            self._send(number)

    def _send(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            if self._own_group:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)


def _is_foreground() -> bool:
    try:
        with open("/dev/tty", "rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def _ending_early() -> Iterator[None]:
    """End in an orderly way on a signal while the lock is waited for, so that the wait ends as well."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    try:
        with _handling(on_signal):
            yield
    except Terminated as end:
        raise click.exceptions.Exit(_SIGNAL_EXIT_BASE + end.number) from None
