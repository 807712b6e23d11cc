"""The arithmetic behind the published figures, and the bytes that etcd is asked with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.failover import longest_pause_s
from benchmarks.figures import Figure, Load, percentile
from benchmarks.protobuf import decode, encode


def figure(*values: float, etcd: tuple[float, ...] = (), statistic: str = "median") -> Figure:
    return Figure(
        name="sets", unit="/s", section="sets", values=values, etcd_values=etcd, statistic=statistic
    )


def test_percentiles_are_values_that_were_seen() -> None:
    hundred = [float(number) for number in range(100)]
    assert [percentile(hundred, share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.0, 50.0, 99.0, 99.0]
    assert percentile([7.0], 0.99) == 7.0


def test_ratios_are_taken_round_by_round() -> None:
    # The machine slowed down after the first round; the ratio of the two medians would be 2.
    found = figure(400, 100, 90, etcd=(100, 50, 10))
    assert list(found.ratios) == [4, 2, 9]
    assert found.as_map()["ratio"] == 4
    assert (found.value, found.etcd_value) == (100, 50)


def test_without_etcd_there_is_no_ratio() -> None:
    assert figure(1, 2).as_map()["ratio"] is None
    assert figure(1, 2).etcd_value is None


def test_the_worst_is_the_longest() -> None:
    assert figure(1, 9, 3, statistic="worst").value == 9


def test_generators_side_by_side_add_up() -> None:
    parts = [
        Load(operations=100, seconds=2, median_ms=1, p99_ms=5, generator_cpu=0.5),
        Load(operations=300, seconds=2, median_ms=2, p99_ms=4, generator_cpu=0.25),
    ]
    joined = Load.joined(parts)
    assert joined == Load(operations=400, seconds=2, median_ms=2, p99_ms=5, generator_cpu=0.75)
    assert joined.per_second == 200


def test_the_longest_pause_counts_from_the_last_answer_before_the_signal() -> None:
    answers = [0.0, 5.0, 5.1, 9.9, 12.0, 12.1]
    assert longest_pause_s(answers, since=10.0) == pytest.approx(2.1)
    assert longest_pause_s(answers, since=0.0) == pytest.approx(5.0)
    assert longest_pause_s(answers, since=13.0) == 0.0


def test_messages_are_encoded_as_protobuf() -> None:
    assert encode({1: b"key", 2: b"v"}) == b"\x0a\x03key\x12\x01v"
    assert encode({1: 30, 2: 300}) == b"\x08\x1e\x10\xac\x02"
    assert encode({1: b"x" * 200})[:3] == b"\x0a\xc8\x01"


def test_messages_are_decoded_whatever_fields_they_have() -> None:
    message: dict[int, int | bytes] = {1: b"header", 2: 2**63, 16: b"", 3: 0}
    assert decode(encode(message)) == message
    assert decode(b"\x09" + b"12345678" + b"\x15" + b"1234" + b"\x18\x05") == {
        1: b"12345678",
        2: b"1234",
        3: 5,
    }
    with pytest.raises(ValueError, match="wire type 3"):
        decode(b"\x0b")


def test_the_report_shows_each_figure_with_its_command(tmp_path: Path) -> None:
    figures = [figure(31_000, 29_000, etcd=(6_000, 5_000)), figure(1.234)]
    text = report.markdown(figures, "Here.")
    assert "| sets | 30,000/s | 5,500/s | 5.48 | `make bench BENCH_ARGS=sets` |" in text
    assert "| sets | 1.23/s | – | – | `make bench BENCH_ARGS=sets` |" in text
    report.save(figures, {"cores": 2}, tmp_path / "deep" / "out.json")
    document = json.loads((tmp_path / "deep" / "out.json").read_text())
    assert document["about"] == {"cores": 2}
    assert document["figures"][0]["values"] == [31_000, 29_000]
