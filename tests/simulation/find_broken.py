"""Run the broken variants until each is caught, and print by what and how soon."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from broken import VARIANTS, Variant

from raftcoord.testing.simulation.simulation import simulate

LIVENESS = frozenset({"liveness", "progress"})


@dataclass(frozen=True, slots=True)
class Found:
    """How a variant fared; `invariant` is None when no seed showed it."""

    variant: Variant
    seeds: int
    seed: int
    invariant: str | None
    text: str
    seconds: float


def find(variant: Variant, first_seed: int, seeds: int) -> Found:
    """Run a variant on one seed after the other until it is caught."""
    began = time.perf_counter()
    for seed in range(first_seed, first_seed + seeds):
        try:
            with variant.apply():
                violation = simulate(seed).violation
        except Exception as error:  # of a check that stumbled over what it saw, which is no verdict
            name, text = "(the simulator failed)", repr(error)
        else:
            if violation is None:
                continue
            name, text = violation.invariant, violation.text
        took_s = time.perf_counter() - began
        return Found(variant, seed - first_seed + 1, seed, name, text, took_s)
    return Found(variant, seeds, 0, None, "", time.perf_counter() - began)


def _line(found: Found) -> str:
    needed = str(found.seeds) if found.invariant else f">{found.seeds}"
    verdict = found.invariant or "NOT CAUGHT"
    if verdict in LIVENESS:
        verdict += " (only)"
    return f"{found.variant.name:36} {needed:>5} {found.seed or '-':>5}  {verdict:38} {found.seconds:7.1f}"


def main() -> int:
    """Return how many variants were not caught."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="variants to run; all when none is named")
    parser.add_argument("--seeds", type=int, default=300, help="how many to try at most (%(default)s)")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--texts", action="store_true", help="print what the violations say")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in VARIANTS]
    if unknown:
        parser.error(f"no such variant: {', '.join(unknown)}")
    variants = [VARIANTS[name] for name in options.names] or list(VARIANTS.values())
    if options.list:
        for variant in variants:
            print(f"{variant.name:36} {variant.what}")
        return 0
    print(f"{'variant':36} {'seeds':>5} {'seed':>5}  {'invariant':38} {'seconds':>7}", flush=True)
    missed = 0
    for variant in variants:
        found = find(variant, options.first_seed, options.seeds)
        missed += found.invariant is None
        print(_line(found), flush=True)
        if options.texts and found.text:
            print(f"    {found.text:.300}", flush=True)
    print(f"{len(variants) - missed} of {len(variants)} caught", flush=True)
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
