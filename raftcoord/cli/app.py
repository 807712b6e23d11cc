"""The command `raftcoord` and its subcommands put together; the one place where errors become exit codes."""

from __future__ import annotations

import logging

import click

from raftcoord.cli.cluster_commands import demo, serve, up
from raftcoord.cli.event_commands import event
from raftcoord.cli.exits import EXPECTED_ERRORS, report
from raftcoord.cli.lock_command import lock
from raftcoord.cli.multilock_command import multilock
from raftcoord.cli.queue_commands import queue
from raftcoord.cli.rwlock_commands import rwlock
from raftcoord.cli.semaphore_commands import semaphore
from raftcoord.cli.status_command import status
from raftcoord.cli.topic_commands import topic
from raftcoord.cli.variable_commands import variable
from raftcoord.client.addresses import ADDRESS_ENVIRONMENT
from raftcoord.version import __version__

EPILOG = """\b
Examples:
  raftcoord up --replicas 3
  export RAFTCOORD_ADDRESS=127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402
  raftcoord status
  raftcoord variable set answer 42
  raftcoord lock nightly-report -- ./report.sh
  raftcoord queue claim jobs -- ./work.sh

\b
Exit codes:
  0  done
  1  the answer is no: unset, clear, empty, full, not in time, no leader
  2  wrong usage
  3  no cluster can be reached
"""


@click.group(no_args_is_help=False, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--address", metavar="HOST:PORT,…", help=f"Where the replicas are.  [env: {ADDRESS_ENVIRONMENT}]"
)
@click.version_option(__version__, message="raftcoord %(version)s")
def cli(address: str | None) -> None:
    """Variables, queues, locks, events, semaphores and topics that survive the loss of a machine."""


for _command in (up, serve, status, variable, queue, lock, rwlock, multilock, event, semaphore, topic, demo):
    cli.add_command(_command)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    # Without any handler, Python prints warnings of the library between the lines that are meant for users.
    logging.getLogger("raftcoord").addHandler(logging.NullHandler())
    try:
        return int(cli.main(arguments, prog_name="raftcoord", standalone_mode=False) or 0)
    except EXPECTED_ERRORS as error:
        return report(error)
