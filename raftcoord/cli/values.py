"""Values between the command line and the store: JSON on both sides, or plain text with --raw."""

from __future__ import annotations

import base64
import datetime
import json
import sys
from typing import Any, NoReturn


def parse_value(text: str, *, raw: bool) -> Any:
    """Return the value that a command-line argument stands for: JSON if it is that, else the text itself."""
    if raw:
        return text
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def shown(value: Any, *, raw: bool) -> str | bytes:
    """Return a value as JSON; with `raw`, text without quotes and bytes as they are."""
    if raw and isinstance(value, str | bytes):
        return value
    return json.dumps(jsonable(value), ensure_ascii=False)


def print_value(value: Any, *, raw: bool) -> None:
    """Print a value as `shown`: text as one line, bytes as they are."""
    content = shown(value, raw=raw)
    if isinstance(content, bytes):
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        print(content, flush=True)


def jsonable(value: Any) -> Any:
    """Return a stored value in terms of JSON.

    Tuples become lists, datetimes ISO text, timedeltas seconds, bytes {"base64": text}, and keys text.
    """
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, dict):
        return {_json_key(key): jsonable(item) for key, item in value.items()}
    return value


def _json_key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(jsonable(key))
