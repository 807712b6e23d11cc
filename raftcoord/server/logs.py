"""Log lines for operators: one line per record, as text or as JSON.

Modules log `event key=value key=value`; here only time, level and place are put before it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Any, Final, TextIO

_PAIR: Final = re.compile(r"(\w+)=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+)")
_UNPRINTABLE: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127) if code not in (9, 10)}


def _timestamp(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """`time LEVEL logger message`; a traceback follows indented."""

    def format(self, record: logging.LogRecord) -> str:
        message = _safe(record.getMessage()).replace("\n", "\\n")
        line = f"{_timestamp(record)} {record.levelname} {record.name} {message}"
        if record.exc_info:
            trace = _safe(self.formatException(record.exc_info))
            line += "\n    " + trace.replace("\n", "\n    ")
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object per line; the pairs of the message become its `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        entry: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": message.split(" ", 1)[0],
            "message": message,
        }
        fields = {key: value.strip("'\"") for key, value in _PAIR.findall(message)}
        if fields:
            entry["fields"] = fields
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=True)


def configure_logging(level: str, style: str, stream: TextIO | None = None) -> None:
    """Send the records of this process to `stream` (stderr), from `level` on, as "text" or "json"."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # A failure to write a log line must neither raise nor print: stderr may be gone.
    logging.raiseExceptions = False


def _safe(text: str) -> str:
    """Make control characters visible: what clients send must not reach a terminal as it is."""
    return text.translate(_UNPRINTABLE)
