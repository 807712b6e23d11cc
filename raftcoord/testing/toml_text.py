"""Settings as TOML, for config files that a program writes. The standard library only reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(settings: Mapping[str, Any]) -> str:
    """Return settings as TOML text: scalars and lists first, then tables.

    Raises:
        TypeError: a value is of a type that settings do not have.
    """
    scalars = [item for item in settings.items() if not isinstance(item[1], Mapping)]
    tables = [item for item in settings.items() if isinstance(item[1], Mapping)]
    lines = [f"{_key(key)} = {_value(value)}" for key, value in scalars]
    for key, table in tables:
        lines += [
            "",
            f"[{_key(key)}]",
            *(f"{_key(name)} = {_value(value)}" for name, value in table.items()),
        ]
    return "\n".join(lines) + "\n"


def _key(text: str) -> str:
    return text if _BARE_KEY.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which JSON leaves alone and TOML does not allow.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"a setting cannot be of type {type(value).__name__}")
