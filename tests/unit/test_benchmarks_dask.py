"""The arithmetic behind the figures next to Dask's, and that their numbers find their names and wishes."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from benchmarks.dask import comparison, handles
from benchmarks.dask.comparison import Comparison
from benchmarks.dask.sections import SECTIONS


def compared(values: tuple[float, ...], dask_values: tuple[float, ...], **wish: float) -> Comparison:
    return Comparison(name="set", unit="ms", values=values, dask_values=dask_values, **wish)


def test_ratios_are_taken_round_by_round() -> None:
    # The machine slowed down after the first round; the ratio of the two medians would be 2.
    found = compared((400, 100, 90), (100, 50, 10))
    assert list(found.ratios) == [4, 2, 9]
    assert found.ratio == 4
    assert (found.value, found.dask_value) == (100, 50)


def test_without_a_wish_there_is_no_verdict() -> None:
    assert compared((1.0,), (2.0,)).is_met is None
    assert compared((1.0,), (2.0,)).row() == ("set", "1 ms", "2 ms", "0.50", "")


@pytest.mark.parametrize(
    ("wish", "limit", "is_met"),
    [
        ("ratio_max", 0.5, True),
        ("ratio_max", 0.4, False),
        ("ratio_min", 0.5, True),
        ("ratio_min", 0.6, False),
        ("value_max", 1.0, True),
        ("value_max", 0.9, False),
    ],
)
def test_a_wish_is_met_or_not(wish: str, limit: float, is_met: bool) -> None:
    found = compared((1.0,), (2.0,), **{wish: limit})
    assert found.is_met is is_met
    assert found.row()[-1].endswith("yes" if is_met else "NO")


def test_nothing_is_divided_by_zero() -> None:
    found = compared((0.0,), (0.0,), value_max=0)
    assert (found.ratios, found.ratio, found.is_met) == ((), None, True)
    assert found.row() == ("set", "0 ms", "0 ms", "–", "≤ 0: yes")


def test_a_turn_becomes_its_median() -> None:
    own = [{"Variable.set, client": [1.0, 9.0, 2.0]}]
    other = [{"Variable.set, client": [4.0]}]
    (found,) = SECTIONS["calls"].compared(own, other)
    assert (found.values, found.dask_values, found.wanted) == ((2.0,), (4.0,), "ratio ≤ 1")


def test_handles_have_units_and_wishes_of_their_own() -> None:
    turn = {"handles, more threads": [0.0], "handles, memory of one": [1.5]}
    threads, memory = SECTIONS["handles"].compared([turn], [turn])
    assert (threads.unit, threads.wanted, threads.is_met) == ("", "≤ 0", True)
    assert (memory.unit, memory.wanted, memory.is_met) == ("KiB", "", None)


def test_connections_to_the_servers_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port = server.getsockname()[1]
        assert handles.connections({port}) == 0
        with (
            socket.create_connection(server.getsockname()),
            socket.create_connection(server.getsockname()),
            socket.create_connection(other.getsockname()),
        ):
            assert handles.connections({port}) == 2
        assert handles.connections({port}) == 0


def test_the_report_is_a_table_and_a_file(tmp_path: Path) -> None:
    figures = [compared((1.0, 2.0, 3.0), (2.0, 2.0, 2.0), ratio_max=1.0)]
    text = comparison.markdown(figures, "Here.")
    assert "| set | 2 ms | 2 ms | 1.00 | ratio ≤ 1: yes |" in text
    comparison.save(figures, {"cores": 2}, tmp_path / "deep" / "out.json")
    document = json.loads((tmp_path / "deep" / "out.json").read_text())
    assert document["about"] == {"cores": 2}
    assert document["figures"][0]["ratios"] == [0.5, 1.0, 1.5]
    assert document["figures"][0]["is_met"] is True
