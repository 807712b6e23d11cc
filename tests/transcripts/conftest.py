"""The `--rewrite` flag: write down what the machine answers now, instead of comparing.

It is known when pytest is given this folder: `pytest tests/transcripts --rewrite`. Read the diff afterwards.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="rewrite the transcripts from what happens now")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rewrite", default=False))
