"""The demo's probe measures the failover also when its own call is the last one to come through."""

from __future__ import annotations

import threading
import time

import pytest

from raftcoord import LocalCluster
from raftcoord.demo.probe import Probe


def test_the_call_under_way_at_the_question_counts() -> None:
    with LocalCluster(3) as cluster, Probe(cluster.address) as probe:
        for replica in range(3):
            cluster.pause(replica)
        asked_at = time.monotonic()

        def resume_all() -> None:
            for replica in range(3):
                cluster.resume(replica)

        resume = threading.Timer(0.3, resume_all)
        resume.start()
        # Nothing has ended since: the answer must wait for the call that is stuck now.
        assert 0.2 < probe.longest_call_s(asked_at) < 30
        resume.join()


def test_a_probe_that_failed_says_so() -> None:
    with LocalCluster(1) as cluster, Probe(cluster.address) as probe:
        assert probe.longest_call_s(time.monotonic()) < 30
        cluster.kill(0)
        assert probe.longest_call_s(time.monotonic()) == pytest.approx(float("inf"))
