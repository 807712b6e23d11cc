"""Values on the command line, settings as TOML: pure text in, values out."""

from __future__ import annotations

import datetime
import json
import tomllib
from typing import Any

import pytest

from raftcoord.cli.values import jsonable, parse_value
from raftcoord.testing.toml_text import toml_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("4.5", 4.5),
        ('"42"', "42"),
        ("null", None),
        ('{"a": [1, true]}', {"a": [1, True]}),
        ("hello", "hello"),
        ("{broken", "{broken"),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_json_or_else_text(text: str, value: Any) -> None:
    parsed = parse_value(text, raw=False)
    assert parsed == value
    assert type(parsed) is type(value)
    assert parse_value(text, raw=True) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ((1, (2,)), [1, [2]]),
        (b"\x00\xff", {"base64": "AP8="}),
        (datetime.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
        (datetime.timedelta(minutes=1.5), 90.0),
        (
            {1: "a", None: "b", b"k": "c", "s": "d"},
            {"1": "a", "null": "b", '{"base64": "aw=="}': "c", "s": "d"},
        ),
    ],
)
def test_what_json_lacks_is_shown_as_its_nearest_relative(value: Any, shown: Any) -> None:
    assert jsonable(value) == shown
    json.dumps(jsonable(value), allow_nan=False)


def test_settings_come_back_from_toml() -> None:
    settings = {
        "text": 'quote " backslash \\ newline \n tab \t del \x7f snow ☃ 😀',
        "number": 7,
        "share": 0.5,
        "flag": True,
        "list": ["a", 1],
        "peers": {"replica-0": "127.0.0.1:1", "dotted.name": "x"},
    }
    assert tomllib.loads(toml_text(settings)) == settings
    with pytest.raises(TypeError, match="NoneType"):
        toml_text({"nothing": None})
