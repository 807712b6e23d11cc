"""Log lines: one per record, in both formats, with nothing in them that a terminal would obey."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from raftcoord.server.logs import configure_logging


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def logged(style: str, level: str, act: object) -> str:
    stream = io.StringIO()
    configure_logging(level, style, stream)
    assert callable(act)
    act(logging.getLogger("raftcoord.test"))
    return stream.getvalue()


@pytest.mark.usefixtures("root_logger")
def test_text_is_one_line_per_record() -> None:
    text = logged("text", "info", lambda log: log.info("client_rejected peer=%s text=%r", "h:1", "a\nb"))
    assert text.count("\n") == 1
    assert text.endswith("Z INFO raftcoord.test client_rejected peer=h:1 text='a\\nb'\n")


@pytest.mark.usefixtures("root_logger")
def test_control_characters_become_visible() -> None:
    text = logged("text", "info", lambda log: log.info("event name=%s", "\x1b[2J\x07\nnext"))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "name=\\x1b[2J\\x07\\nnext" in text


@pytest.mark.usefixtures("root_logger")
def test_json_carries_the_pairs() -> None:
    act = lambda log: log.warning("client_rejected peer=%s count=%d text=%r", "h:1", 3, "no hello")  # noqa: E731
    entry = json.loads(logged("json", "info", act))
    assert (entry["level"], entry["logger"], entry["event"]) == (
        "warning",
        "raftcoord.test",
        "client_rejected",
    )
    assert entry["fields"] == {"peer": "h:1", "count": "3", "text": "no hello"}


@pytest.mark.usefixtures("root_logger")
@pytest.mark.parametrize("style", ["text", "json"])
def test_a_traceback_belongs_to_its_record(style: str) -> None:
    def act(log: logging.Logger) -> None:
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("apply_failed index=7")

    text = logged(style, "info", act)
    assert "ValueError: broken" in text
    if style == "json":
        assert "broken" in json.loads(text)["traceback"]
    else:
        assert all(line.startswith("    ") for line in text.splitlines()[1:])


@pytest.mark.usefixtures("root_logger")
def test_the_level_is_obeyed() -> None:
    assert logged("text", "error", lambda log: log.warning("quiet")) == ""
    assert "loud" in logged("text", "error", lambda log: log.error("loud"))


@pytest.mark.usefixtures("root_logger")
def test_a_closed_stream_does_not_raise() -> None:
    stream = io.StringIO()
    configure_logging("info", "text", stream)
    stream.close()
    logging.getLogger("raftcoord.test").info("nobody listens")
