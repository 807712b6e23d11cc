"""Variants of the code that are broken on purpose: the simulation must see it.

Here are those that few seeds show; `find_broken.py` runs all of them, which takes a while.
"""

from __future__ import annotations

import pytest
from broken import VARIANTS

from raftcoord.testing.simulation.simulation import simulate

SEEDS = range(1, 31)
SOON = (
    "acknowledge_before_fsync",
    "vote_twice",
    "no_dedupe",
    "expiry_by_local_clock",
    "stamped_by_local_clock",
    "floor_raised_early",
    "items_of_cancelled_get_kept",
    "released_under_wrong_fence",
    "semaphore_overbooked",
    "multilocks_of_the_dead_kept",
    "readers_overtake_writers",
    "claims_of_the_dead_lost",
    "ephemeral_kept",
    "ttl_by_local_clock",
    "missed_messages_not_told",
    "rlock_given_up_by_inner_release",
)


@pytest.mark.parametrize("name", SOON)
def test_a_broken_variant_is_caught(name: str) -> None:
    for seed in SEEDS:
        with VARIANTS[name].apply():
            violation = simulate(seed).violation
        if violation is not None:
            assert simulate(seed).violation is None, "it is the variant that is caught, not the code"
            return
    pytest.fail(f"{name} is not caught by seeds {SEEDS.start} to {SEEDS.stop - 1}")


def test_there_are_many_and_each_says_what_it_breaks() -> None:
    assert len(VARIANTS) >= 25
    assert all(variant.what for variant in VARIANTS.values())
