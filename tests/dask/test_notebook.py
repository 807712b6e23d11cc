"""The notebook in docs/ is valid, runs, and shows what it was saved with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
from run_notebook import code_cells, run, saved_text

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "dask-tutorial.ipynb"


def test_the_notebook_is_valid() -> None:
    nbformat.validate(json.loads(NOTEBOOK.read_text("utf-8")))


def test_the_cells_were_run_in_order_without_an_error() -> None:
    cells = code_cells(NOTEBOOK)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]


def test_the_notebook_shows_what_it_was_saved_with() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run_notebook.py")), str(NOTEBOOK)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    saved = [saved_text(cell) for cell in code_cells(NOTEBOOK)]
    assert len([text for text in saved if text]) > 5
    assert shown == saved


def test_a_cell_shows_what_it_prints_and_its_last_value() -> None:
    names: dict[str, object] = {}
    assert run("x = 1\nprint(x)\nx + 1", names) == "1\n2"
    assert run("y = x", names) == ""
    assert run("None", names) == ""
