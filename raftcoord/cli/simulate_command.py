"""`raftcoord-sim`: whole clusters under a seed; the printing side of `raftcoord.testing.simulation`."""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raftcoord.cli.exits import EXPECTED_ERRORS, Exit, report
from raftcoord.testing.simulation.batch import load_patch, run_batch
from raftcoord.testing.simulation.generate import generate
from raftcoord.testing.simulation.scenario import Scenario, decode, encode
from raftcoord.testing.simulation.shrink import Shrinker
from raftcoord.testing.simulation.simulation import Result, simulate
from raftcoord.testing.simulation.trace import Trace

FRESH_SEED_BITS: Final = 40
LINES_SHOWN: Final = 60

EPILOG = """\b
Examples:
  raftcoord-sim --seeds 1000                    fresh seeds on all cores; stops at the first failure
  raftcoord-sim --seeds 500 --first-seed 7000   seeds 7000 to 7499
  raftcoord-sim --seed 7042 --trace             one seed, every event printed
  raftcoord-sim --seed 7042 --shrink            the smallest scenario that still fails, as JSON
  raftcoord-sim --scenario failing.json --trace

\b
Exit codes:
  0  every promise held
  1  a promise was broken
  2  wrong usage
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", type=click.IntRange(1), metavar="COUNT", help="Run so many seeds.")
@click.option("--first-seed", type=click.IntRange(0), help="The first of them; a fresh one by default.")
@click.option(
    "--also", type=click.Path(exists=True, dir_okay=False), help="A file of further seeds, one in a line."
)
@click.option("--jobs", type=click.IntRange(1), help="Processes; as many as there are cores by default.")
@click.option("--seed", type=click.IntRange(0), help="Run one seed.")
@click.option(
    "--scenario",
    "scenario_path",
    type=click.Path(exists=True, dir_okay=False),
    help="Run the scenario in a JSON file.",
)
@click.option("--trace", is_flag=True, help="Print every event of the one run.")
@click.option("--shrink", is_flag=True, help="Cut a failing run down, and print what is left as JSON.")
@click.option("--patch", metavar="FILE:NAME", help="Put a context manager over the code, e.g. to break it.")
def simulate_command(
    seeds: int | None,
    first_seed: int | None,
    also: str | None,
    jobs: int | None,
    seed: int | None,
    scenario_path: str | None,
    trace: bool,
    shrink: bool,
    patch: str | None,
) -> int:
    """Run whole clusters with their clients on simulated time, network and disks.

    Replicas and clients are the real ones. A seed decides everything that happens, faults included, and
    replays it exactly.
    """
    if (seeds is not None) + (seed is not None) + (scenario_path is not None) != 1:
        raise click.UsageError("choose one of --seeds, --seed and --scenario")
    if seeds is None and (first_seed, also, jobs) != (None, None, None):
        raise click.UsageError("--first-seed, --also and --jobs go with --seeds")
    if seeds is not None and (trace or shrink):
        raise click.UsageError("--trace and --shrink go with --seed or --scenario")
    if seeds is not None:
        first = secrets.randbits(FRESH_SEED_BITS) if first_seed is None else first_seed
        print(f"seeds {first} … {first + seeds - 1}", flush=True)
        return run_seeds([*seeds_in(also), *range(first, first + seeds)], jobs, patch)
    if scenario_path is None:
        scenario, source = generate(seed or 0), f"--seed {seed}"
    else:
        scenario, source = decode(Path(scenario_path).read_bytes()), f"--scenario {scenario_path}"
    if patch is not None:
        source += f" --patch {patch}"
    with _patched(patch):
        return run_one(scenario, source, trace=trace, shrink=shrink)


def seeds_in(path: str | None) -> list[int]:
    """Return the seeds of a file: the first word of every line that does not begin with "#"."""
    if path is None:
        return []
    lines = [line.partition("#")[0].split() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [int(words[0]) for words in lines if words]


def _patched(patch: str | None) -> AbstractContextManager[object]:
    return contextlib.nullcontext() if patch is None else load_patch(patch)()


def run_seeds(seeds: list[int], jobs: int | None, patch: str | None) -> int:
    """Run seeds on all cores with a progress bar; stop at the first failure and show it."""
    began = time.perf_counter()
    simulated_s = cpu_s = 0.0
    calls = 0
    with (
        _progress(len(seeds)) as advance,
        contextlib.closing(run_batch(seeds, jobs=jobs, patch=patch)) as results,
    ):
        failed = None
        for result in results:
            simulated_s, cpu_s = simulated_s + result.simulated_s, cpu_s + result.cpu_s
            calls += result.calls
            if result.violation is not None:
                failed = result
                break
            next(advance)
    took_s = time.perf_counter() - began
    if failed is not None:
        with _patched(patch):
            source = f"--seed {failed.seed}" + ("" if patch is None else f" --patch {patch}")
            _show_failure(generate(failed.seed), source, failed)
        return Exit.NO
    print(
        f"{len(seeds)} seeds, no promise broken: {simulated_s:,.0f} simulated seconds, {calls:,} calls, "
        f"in {took_s:,.0f} s ({simulated_s / cpu_s:.0f} simulated seconds per second of a core, "
        f"{3600 * len(seeds) / took_s:,.0f} seeds per hour)"
    )
    return Exit.OK


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Iterator[None]]:
    console = Console(stderr=True)
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("simulating", total=total)

        def advance() -> Iterator[None]:
            while True:
                progress.advance(task)
                yield

        yield advance()


def run_one(scenario: Scenario, source: str, *, trace: bool, shrink: bool) -> int:
    """Run one scenario and say what came of it; `source` are the options that name it."""
    say = partial(
        print, file=sys.stderr if shrink else sys.stdout
    )  # the smallest scenario stands alone there
    say(scenario.summary())
    result = simulate(scenario, Trace(say).tell if trace else None)
    say(
        f"hash {result.hash}, {result.steps} steps, {result.entries} entries, {result.simulated_s:.1f} s "
        f"simulated in {result.real_s:.2f} s"
    )
    if result.violation is None:
        say("no promise broken")
        return Exit.OK
    if shrink:
        scenario, source = _shrink(scenario), "--scenario FILE"
        print(encode(scenario).decode())
    _show_failure(scenario, source, result, with_trace=not trace, say=say)
    return Exit.NO


def _shrink(scenario: Scenario) -> Scenario:
    def tell(smaller: Scenario, result: Result) -> None:
        print(f"still fails: {smaller.summary()}: {result.violation}"[:200], file=sys.stderr)

    return Shrinker(scenario, tell=tell).run()


def _show_failure(
    scenario: Scenario,
    source: str,
    result: Result,
    *,
    with_trace: bool = True,
    say: Callable[[str], object] = print,
) -> None:
    """Run it once more, now writing down what happens, and print the end of that."""
    trace = Trace()
    again = simulate(scenario, trace.tell)
    if with_trace:
        for line in trace.lines(LINES_SHOWN):
            say(line[:240])
    violation = again.violation or result.violation
    assert violation is not None
    say(f"\nbroken: {violation.invariant}\n  {violation.text}")
    say(f"at step {again.steps}, {again.simulated_s:.6f} s; {scenario.summary()}")
    say(f"replay: raftcoord-sim {source} --trace")


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        return int(simulate_command.main(arguments, prog_name="raftcoord-sim", standalone_mode=False) or 0)
    except EXPECTED_ERRORS as error:
        return report(error)
