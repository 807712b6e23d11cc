"""Where settings come from: a TOML file, then the environment, then flags; the later wins.

Invariants:
  1. A key that is not a setting is refused in the file and in flags; in the environment, which other
     programs share, it is a warning.
  2. Text from the environment and from flags is converted by the setting's type; the file is not:
     `heartbeat_ms = "75"` is an error there.
"""

from __future__ import annotations

import argparse
import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from raftcoord.server.config import ConfigError, Limits, ServerConfig, checked, warnings_of

ENVIRONMENT_PREFIX: Final = "RAFTCOORD_"
_FOREIGN_ENVIRONMENT: Final = (  # of clients, and of what the command line tells the commands that it runs
    "RAFTCOORD_ADDRESS",
    *(f"RAFTCOORD_{kind}_" for kind in ("LOCK", "MULTILOCK", "QUEUE", "RWLOCK", "SEMAPHORE")),
)
CONFIG_FILE_BYTES_MAX: Final = 1024 * 1024

_TOP_TYPES: Final = {field.encode_name: field.type for field in msgspec.structs.fields(ServerConfig)}
_LIMIT_TYPES: Final = {field.encode_name: field.type for field in msgspec.structs.fields(Limits)}
# Every setting that one piece of text can carry: path of keys -> type.
_TEXT_SETTINGS: Final[dict[tuple[str, ...], Any]] = {
    **{(name,): kind for name, kind in _TOP_TYPES.items() if name not in ("peers", "limits")},
    **{("limits", name): kind for name, kind in _LIMIT_TYPES.items()},
}


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A checked configuration, and what the operator should be told about it."""

    config: ServerConfig
    warnings: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and one flag for each setting to a parser."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings as TOML; environment and flags go before it"
    )
    parser.add_argument(
        "--peer",
        action="append",
        metavar="NAME=HOST:PORT",
        help="a member, this one included; repeat for each",
    )
    for path in _TEXT_SETTINGS:
        flag = "--" + "-".join(path).replace("_", "-")
        parser.add_argument(flag, dest=".".join(path), metavar="VALUE", help=f"setting {'.'.join(path)}")


def load_config(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> LoadedConfig:
    """Return the configuration that parsed flags, environment and file give together.

    Raises:
        ConfigError: it cannot be used.
    """
    values: dict[str, Any] = {}
    source = "configuration"
    if arguments.config is not None:
        source = arguments.config
        values = read_file(arguments.config)
    warnings = _merge_environment(values, environment)
    _merge_flags(values, vars(arguments))
    for name in ("name", "data_dir"):
        if name not in values:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{name}: is not set (by {flag}, {ENVIRONMENT_PREFIX}{name.upper()} or the file)"
            )
    config = checked(convert(values, source))
    return LoadedConfig(config, (*warnings, *warnings_of(config)))


def parse_config(arguments: Sequence[str], environment: Mapping[str, str]) -> LoadedConfig:
    """Return the configuration for a command line of nothing but settings.

    Raises:
        ConfigError: it cannot be used.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False, add_help=False)
    add_arguments(parser)
    try:
        parsed, rest = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from None
    if rest:
        raise ConfigError(f"unknown flag {rest[0]!r}")
    return load_config(parsed, environment)


def read_file(path: str) -> dict[str, Any]:
    """Return the keys of a TOML file, checked for names but not for values.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has a key that is no setting.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(CONFIG_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > CONFIG_FILE_BYTES_MAX:
        raise ConfigError(f"{path}: is larger than {CONFIG_FILE_BYTES_MAX} bytes")
    try:
        values = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {_one_line(error)}") from None
    _refuse_unknown(values, _TOP_TYPES, path, "")
    limits = values.get("limits")
    if isinstance(limits, dict):
        _refuse_unknown(limits, _LIMIT_TYPES, path, "limits.")
    return values


def convert(values: Mapping[str, Any], source: str) -> ServerConfig:
    """Return the settings as values of their types.

    Raises:
        ConfigError: a value has the wrong type or is out of range.
    """
    try:
        return msgspec.convert(values, ServerConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_readable(error)}") from None


def _merge_environment(values: dict[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Put the settings of the environment over `values`; return warnings about unknown ones."""
    by_name = {ENVIRONMENT_PREFIX + "_".join(path).upper(): path for path in _TEXT_SETTINGS}
    warnings = []
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name.startswith(_FOREIGN_ENVIRONMENT):
            continue
        if name == ENVIRONMENT_PREFIX + "PEERS":
            values["peers"] = _parse_peers([part for part in text.split(",") if part.strip()], name)
        elif name in by_name:
            _put(values, by_name[name], text, name)
        else:
            warnings.append(f"{name}: is set in the environment, but there is no such setting")
    return warnings


def _merge_flags(values: dict[str, Any], flags: Mapping[str, Any]) -> None:
    for path in _TEXT_SETTINGS:
        text = flags.get(".".join(path))
        if text is not None:
            _put(values, path, text, "--" + "-".join(path).replace("_", "-"))
    if flags.get("peer"):
        values["peers"] = _parse_peers(flags["peer"], "--peer")


def _put(values: dict[str, Any], path: tuple[str, ...], text: str, source: str) -> None:
    try:
        value = msgspec.convert(text, _TEXT_SETTINGS[path], strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_readable(error)}") from None
    for key in path[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: is a table, not {inner!r:.40}")
        values = inner
    values[path[-1]] = value


def _parse_peers(parts: Sequence[str], source: str) -> dict[str, str]:
    peers: dict[str, str] = {}
    for part in parts:
        name, equals, address = part.strip().partition("=")
        if not equals or not name or not address:
            raise ConfigError(f"{source}: {part!r} is not NAME=HOST:PORT")
        if name in peers:
            raise ConfigError(f"{source}: {name!r} is there twice")
        peers[name] = address
    return peers


def _refuse_unknown(values: Mapping[str, Any], known: Mapping[str, Any], path: str, prefix: str) -> None:
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {prefix + close[0]!r}?" if close else ""
            raise ConfigError(f"{path}: unknown key {prefix + key!r}{hint}")


def _readable(error: msgspec.ValidationError) -> str:
    """Turn "Expected `int`, got `str` - at `$.a.b`" into "a.b: expected int, got str"."""
    text, _, place = _one_line(error).replace("`", "").partition(" - at ")
    text = text[:1].lower() + text[1:]
    place = place.removeprefix("$").removeprefix(".")
    return f"{place}: {text}" if place else text


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
