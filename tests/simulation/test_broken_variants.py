"""Variants of the code that are broken on purpose: the simulation must see it.

Here are those that few seeds show; `find_broken.py` runs all of them, which takes a while.
"""

from __future__ import annotations

import pytest
from broken import VARIANTS

from raftcoord.testing.simulation.simulation import simulate

SEEDS = range(1, 13)
SOON = (
    "acknowledge_before_fsync",
    "failed_fsync_tried_again",
    "vote_twice",
    "vote_forgotten_at_restart",
    "own_vote_counted_twice",
    "serve_before_own_entry",
    "reads_without_quorum_round",
    "reads_join_round_under_way",
    "attached_without_barrier",
    "torn_tail_not_cut",
    "session_believed_beyond_ttl",
    "expiry_by_local_clock",
    "stamped_by_local_clock",
    "no_dedupe",
    "floor_raised_early",
    "items_of_cancelled_get_kept",
    "taken_items_returned",
    "released_under_wrong_fence",
    "lock_released_twice",
    "waits_of_the_dead_served",
    "missed_messages_not_told",
    "rlock_given_up_by_inner_release",
    "update_without_condition",
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
