"""What many commands share: the address, durations, and a client that is known to reach somebody."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import click

from raftcoord import Client
from raftcoord.client.addresses import ADDRESS_ENVIRONMENT, address_from_environment, parse_addresses
from raftcoord.client.timeouts import parse_timeout
from raftcoord.testing.observer import ObserveError, observe

REACH_WAIT_S: Final = 5.0
_OBSERVE_TIMEOUT_S: Final = 1.0
_F = TypeVar("_F", bound=Callable[..., Any])


class Duration(click.ParamType[float]):
    """Seconds, or text such as 200ms, 10s, 2m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = parse_timeout(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a duration; write seconds, or 200ms, 10s, 2m", param, ctx)
        if seconds is None:
            self.fail("use --wait to wait for ever", param, ctx)
        return seconds


def address_option(command: _F) -> _F:
    """Add --address, which wins over the one given before the command's name."""
    return click.option(
        "--address", metavar="HOST:PORT,…", help=f"Where the replicas are.  [env: {ADDRESS_ENVIRONMENT}]"
    )(command)


def wait_options(command: _F) -> _F:
    """Add --timeout and --wait; without either, a command does not wait."""
    for option in (
        click.option("--wait", is_flag=True, help="Wait for ever."),
        click.option("--timeout", type=Duration(), default=0.0, help="How long to wait (5, 200ms, 2m)."),
    ):
        command = option(command)
    return command


def effective_timeout(timeout: float, wait: bool) -> float | None:
    return None if wait else timeout


def addresses_of(given: str | None) -> list[str]:
    """Return the addresses to use: of the command, of the group before it, or of the environment.

    Raises:
        click.UsageError: there are none, or they are no addresses.
    """
    group_address = click.get_current_context().find_root().params.get("address")
    text = given or group_address or address_from_environment()
    if not text:
        raise click.UsageError(f"no address: use --address HOST:PORT,… or set {ADDRESS_ENVIRONMENT}")
    try:
        return list(parse_addresses(text))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def observe_all(addresses: list[str]) -> dict[str, dict[str, Any] | ObserveError]:
    """Ask all replicas at once; one that hangs does not hold up the others."""

    def attempt(address: str) -> dict[str, Any] | ObserveError:
        try:
            return observe(address, _OBSERVE_TIMEOUT_S)
        except ObserveError as error:
            return error

    with ThreadPoolExecutor(len(addresses)) as pool:
        return dict(zip(addresses, pool.map(attempt, addresses), strict=True))


@contextlib.contextmanager
def connected_client(given: str | None, **options: Any) -> Iterator[Client]:
    """Give a client that has a session.

    Raises:
        NotConnected: nobody who leads could be reached in `REACH_WAIT_S` seconds.
    """
    client = Client(addresses_of(given), **options)
    try:
        client.connect(timeout=REACH_WAIT_S)
        yield client
    finally:
        client.close()
