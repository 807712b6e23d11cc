"""Run the code cells of a notebook and print, as JSON, the text that each one shows.

    python run_notebook.py NOTEBOOK

As in Jupyter, a cell shows what it prints, and the value of its last line.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    """Return the code cells of a notebook, with their outputs."""
    cells: list[dict[str, Any]] = json.loads(notebook.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def saved_text(cell: dict[str, Any]) -> str:
    """Return what a cell showed when the notebook was saved."""
    texts = [output.get("text") or output["data"]["text/plain"] for output in cell["outputs"]]
    return "".join("".join(text) for text in texts)


def run(source: str, names: dict[str, Any]) -> str:
    """Run one cell and return what it shows."""
    *statements, last = ast.parse(source).body
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        if not isinstance(last, ast.Expr):
            statements.append(last)
        exec(compile(ast.Module(statements, []), "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
            shown.write("" if value is None else repr(value))
    return shown.getvalue()


def main() -> None:
    # As in a notebook, the functions belong to `__main__`, so Dask sends them by value.
    names: dict[str, Any] = {"__name__": "__main__"}
    print(json.dumps([run("".join(cell["source"]), names) for cell in code_cells(Path(sys.argv[1]))]))


if __name__ == "__main__":
    main()
