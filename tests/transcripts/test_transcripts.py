"""Every transcript still happens as written, also when each command meets a freshly restored machine."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from notation import Player

from raftcoord.machine import Machine

_FOLDER = Path(__file__).parent
_TRANSCRIPTS = sorted(_FOLDER.glob("*.txt"))


def _difference(written: str, happened: str) -> str:
    lines = difflib.unified_diff(written.splitlines(), happened.splitlines(), "written", "happened", n=6)
    return "\n".join(lines)


def test_there_is_a_transcript_for_every_object() -> None:
    kinds = {kind.tag.removesuffix("s") for kind in Machine()._kinds}
    assert {path.stem for path in _TRANSCRIPTS} == kinds | {"session"}


@pytest.mark.parametrize("path", _TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, rewrite: bool) -> None:
    written = path.read_text()
    happened = Player(restore_always=False).play(written)
    if rewrite:
        path.write_text(happened)
        return
    assert happened == written, _difference(written, happened)


@pytest.mark.parametrize("path", _TRANSCRIPTS, ids=lambda path: path.stem)
def test_snapshots_do_not_show(path: Path) -> None:
    written = path.read_text()
    happened = Player(restore_always=True).play(written)
    assert happened == Player(restore_always=False).play(written), _difference(written, happened)


def test_a_wrong_answer_is_noticed() -> None:
    written = "s1 open\n    OK\ns1#1 variable set x 1\n    UNSET\n"
    happened = Player(restore_always=False).play(written)
    assert "-    UNSET" in _difference(written, happened)
