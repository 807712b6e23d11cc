"""The settings of one replica: their names, types, defaults and what must hold between them.

Where the values come from (file, environment, flags) is `config_sources.py`; nothing here reads the world.

Invariants:
  1. A `ServerConfig` that `checked` returned is consistent: nothing after it validates a setting again.
  2. Every refusal is one line that names the setting and what would be right.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from raftcoord.consensus.interface import EngineConfig
from raftcoord.protocol.frames import FRAME_BYTES_MAX
from raftcoord.protocol.operations import SESSION_TTL_MS_MAX, SESSION_TTL_MS_MIN

DEFAULT_PEER_ADDRESS: Final = "127.0.0.1:7401"
NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
NAME_LENGTH_MAX: Final = 64
MEMBERS_MAX: Final = 9
ELECTION_HEARTBEATS_MIN: Final = 4
_WILDCARD_HOSTS: Final = frozenset({"0.0.0.0", "::", ""})

_MIB: Final = 1024 * 1024
TtlMs = Annotated[int, msgspec.Meta(ge=SESSION_TTL_MS_MIN, le=SESSION_TTL_MS_MAX)]


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line for the operator."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of what clients can make one replica hold.

    `frame_bytes_max` is at least 2 MiB, so that a value of the largest size still fits into a frame.
    """

    connections_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    session_ttl_ms_min: TtlMs = SESSION_TTL_MS_MIN
    session_ttl_ms_max: TtlMs = SESSION_TTL_MS_MAX
    session_ttl_ms_default: TtlMs = 10_000
    frame_bytes_max: Annotated[int, msgspec.Meta(ge=2 * _MIB, le=FRAME_BYTES_MAX)] = FRAME_BYTES_MAX
    in_flight_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 4096
    pending_bytes_max: Annotated[int, msgspec.Meta(ge=16 * _MIB, le=4096 * _MIB)] = 64 * _MIB


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one replica. Addresses are "host:port", times milliseconds, sizes bytes."""

    name: str
    data_dir: str
    listen: str = "127.0.0.1:7400"
    advertise: str = ""  # told to clients; the same as `listen` when empty
    peers: dict[str, str] = {}
    peer_listen: str = ""  # where to accept peers; the own entry in `peers` when empty
    ops_listen: str = "127.0.0.1:7402"  # "" for no HTTP at all
    secret: str = ""
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=5, le=60_000)] = 75
    election_timeout_ms: Annotated[int, msgspec.Meta(ge=20, le=600_000)] = 400
    snapshot_log_bytes: Annotated[int, msgspec.Meta(ge=64 * 1024)] = 64 * _MIB
    snapshot_log_entries: Annotated[int, msgspec.Meta(ge=100)] = 500_000
    segment_bytes: Annotated[int, msgspec.Meta(ge=64 * 1024, le=1024 * _MIB)] = 16 * _MIB
    limits: Limits = Limits()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    def __repr__(self) -> str:
        # The generated one would put the shared secret into logs and tracebacks.
        return f"<ServerConfig name={self.name!r} listen={self.listen!r} members={sorted(self.members)}>"

    @property
    def members(self) -> dict[str, str]:
        """Name and peer address of every member; a replica without `peers` is a cluster of its own."""
        return self.peers or {self.name: self.peer_listen or DEFAULT_PEER_ADDRESS}

    @property
    def client_address(self) -> str:
        """What clients are told to connect to."""
        return self.advertise or self.listen

    def engine_config(self) -> EngineConfig:
        """Return what the consensus engine needs to know."""
        return EngineConfig(
            name=self.name,
            data_dir=self.data_dir,
            peers=dict(self.members),
            client_address=self.client_address,
            secret=self.secret,
            listen=self.peer_listen or None,
            heartbeat_ms=self.heartbeat_ms,
            election_timeout_ms=self.election_timeout_ms,
            segment_bytes=self.segment_bytes,
            snapshot_log_bytes=self.snapshot_log_bytes,
            snapshot_log_entries=self.snapshot_log_entries,
        )


def parse_address(text: str, setting: str) -> tuple[str, int]:
    """Return host and port of "host:port" or "[host]:port".

    Raises:
        ConfigError: the text is no such address; the message names `setting`.
    """
    host, colon, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if not colon or not host or (":" in host and not bracketed) or any(c.isspace() for c in text):
        raise ConfigError(f"{setting}: {text!r} is not an address; write host:port, e.g. 127.0.0.1:7400")
    if not (port_text.isascii() and port_text.isdigit()) or not 0 < int(port_text) <= 65_535:
        raise ConfigError(f"{setting}: {port_text!r} is not a port; it is a number from 1 to 65535")
    return host, int(port_text)


def _check_name(name: str, setting: str) -> None:
    if not 0 < len(name) <= NAME_LENGTH_MAX or not NAME_CHARACTERS.issuperset(name):
        raise ConfigError(
            f"{setting}: {name!r} is not a name; use 1 to {NAME_LENGTH_MAX} letters, digits, '.', '_', '-'"
        )


def _check_members(config: ServerConfig) -> None:
    if not config.peers:
        parse_address(config.members[config.name], "peer_listen")
        return
    if config.name not in config.peers:
        known = ", ".join(sorted(config.peers))
        raise ConfigError(f"peers: the replica's own name {config.name!r} is missing; it has {known}")
    if len(config.peers) > MEMBERS_MAX:
        raise ConfigError(f"peers: {len(config.peers)} members are more than the {MEMBERS_MAX} allowed")
    seen: dict[tuple[str, int], str] = {}
    for member, address in config.peers.items():
        _check_name(member, "peers")
        other = seen.setdefault(parse_address(address, f"peers.{member}"), member)
        if other != member:
            raise ConfigError(f"peers: {other!r} and {member!r} have the same address {address}")


def _check_addresses(config: ServerConfig) -> None:
    host, _ = parse_address(config.listen, "listen")
    if config.advertise:
        parse_address(config.advertise, "advertise")
    elif host in _WILDCARD_HOSTS:
        raise ConfigError(f"advertise: must be set, because clients cannot connect to {config.listen}")
    peer_listen = config.peer_listen or config.members[config.name]
    listeners = {"listen": config.listen, "peer_listen": peer_listen}
    if config.ops_listen:
        listeners["ops_listen"] = config.ops_listen
    seen: dict[tuple[str, int], str] = {}
    for setting, text in listeners.items():
        other = seen.setdefault(parse_address(text, setting), setting)
        if other != setting:
            raise ConfigError(f"{other} and {setting} are the same address {text}")


def _check_numbers(config: ServerConfig) -> None:
    if config.election_timeout_ms < ELECTION_HEARTBEATS_MIN * config.heartbeat_ms:
        raise ConfigError(
            f"election_timeout_ms: {config.election_timeout_ms} is too short for heartbeat_ms "
            f"{config.heartbeat_ms}; it must be at least {ELECTION_HEARTBEATS_MIN} times as long"
        )
    limits = config.limits
    shortest, default, longest = (
        limits.session_ttl_ms_min,
        limits.session_ttl_ms_default,
        limits.session_ttl_ms_max,
    )
    if not shortest <= default <= longest:
        raise ConfigError(
            f"limits.session_ttl_ms_default: {default} is not between session_ttl_ms_min {shortest} "
            f"and session_ttl_ms_max {longest}"
        )


def checked(config: ServerConfig) -> ServerConfig:
    """Return `config` if its settings fit together.

    Raises:
        ConfigError: they do not.
    """
    _check_name(config.name, "name")
    if not config.data_dir:
        raise ConfigError("data_dir: must not be empty")
    _check_members(config)
    _check_addresses(config)
    _check_numbers(config)
    return config


def warnings_of(config: ServerConfig) -> list[str]:
    """Return what is allowed but probably not meant, one line each."""
    warnings = []
    count = len(config.members)
    if count % 2 == 0:
        warnings.append(f"peers: {count} members survive no more failures than {count - 1} would")
    loopback = all(
        parse_address(address, "peers")[0] in ("127.0.0.1", "localhost", "::1")
        for address in config.members.values()
    )
    if not config.secret and not loopback:
        warnings.append("secret: is not set, so anyone who reaches the peer port can join as a member")
    return warnings
