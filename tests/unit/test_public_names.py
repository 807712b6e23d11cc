"""The package's front door: every public name is there, and importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import raftcoord


@pytest.mark.parametrize("name", raftcoord.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(raftcoord, name) is not None
    assert name in dir(raftcoord)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Semaphor"):
        raftcoord.Semaphor  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_or_its_pytest_plugin_brings_in_no_client() -> None:
    program = (
        "import sys, raftcoord, raftcoord.testing.pytest_plugin; "
        "print([name for name in ('uvloop', 'msgpack', 'msgspec', 'pysyncobj') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
