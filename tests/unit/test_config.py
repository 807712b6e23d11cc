"""Settings: where they come from, which wins, and that every mistake is told in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raftcoord.server.config import ConfigError, ServerConfig, parse_address
from raftcoord.server.config_sources import LoadedConfig, parse_config

THREE = {"a": "127.0.0.1:7001", "b": "127.0.0.1:7002", "c": "127.0.0.1:7003"}
MINIMAL = ["--name", "a", "--data-dir", "/data"]


def load(text: str, folder: Path, *flags: str, **environment: str) -> LoadedConfig:
    path = folder / "replica.toml"
    path.write_text(text)
    return parse_config(["--config", str(path), *flags], environment)


def refused(*flags: str, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config([*MINIMAL, *flags], environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused_file(text: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, folder, *MINIMAL)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_describe_a_cluster_of_one() -> None:
    config = parse_config(MINIMAL, {}).config
    assert config.listen == config.client_address == "127.0.0.1:7400"
    assert config.members == {"a": "127.0.0.1:7401"}
    assert config.limits.connections_max == 10_000
    assert parse_config(MINIMAL, {}).warnings == ()


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    text = 'name = "file"\ndata_dir = "/file"\nheartbeat_ms = 50\nlog_level = "error"\n'
    loaded = load(text, tmp_path, "--name", "flag", RAFTCOORD_NAME="env", RAFTCOORD_DATA_DIR="/env")
    assert (loaded.config.name, loaded.config.data_dir) == ("flag", "/env")
    assert (loaded.config.heartbeat_ms, loaded.config.log_level) == (50, "error")


def test_tables_are_merged_key_by_key_and_peers_are_replaced(tmp_path: Path) -> None:
    text = '[peers]\na = "h:1"\nold = "h:2"\n[limits]\nin_flight_max = 7\nconnections_max = 8\n'
    flags = [
        *MINIMAL,
        "--limits-connections-max",
        "9",
        "--peer",
        "a=h:1",
        "--peer",
        "b=h:2",
        "--peer",
        "c=h:3",
    ]
    config = load(text, tmp_path, *flags).config
    assert (config.limits.in_flight_max, config.limits.connections_max) == (7, 9)
    assert config.peers == {"a": "h:1", "b": "h:2", "c": "h:3"}


def test_environment_reaches_peers_and_limits() -> None:
    peers = ",".join(f"{name}={address}" for name, address in THREE.items())
    config = parse_config(
        MINIMAL, {"RAFTCOORD_PEERS": peers, "RAFTCOORD_LIMITS_IN_FLIGHT_MAX": "12", "PATH": "/bin"}
    ).config
    assert config.peers == THREE
    assert config.limits.in_flight_max == 12


def test_the_engine_is_told_what_was_configured() -> None:
    flags = ["--advertise", "example.org:9", "--peer-listen", "0.0.0.0:8", "--peer", "a=h:1", "--secret", "s"]
    engine = parse_config([*MINIMAL, *flags], {}).config.engine_config()
    assert (engine.client_address, engine.listen, engine.secret) == ("example.org:9", "0.0.0.0:8", "s")
    assert engine.peers == {"a": "h:1"}


def test_the_secret_is_not_shown() -> None:
    assert "hush" not in repr(parse_config([*MINIMAL, "--secret", "hush"], {}).config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("heart_beat_ms = 5", "unknown key 'heart_beat_ms'; did you mean 'heartbeat_ms'?"),
        ("[limits]\nnonsense = 5", "unknown key 'limits.nonsense'"),
        ('heartbeat_ms = "75"', "heartbeat_ms: expected int, got str"),
        ("limits = 5", "limits: expected object, got int"),
        ("peers = 5", "peers: expected object, got int"),
        ("[limits]\nconnections_max = 0", "limits.connections_max: expected int >= 1"),
        ('log_level = "loud"', "log_level: invalid enum value 'loud'"),
        ("= 5", "is not valid TOML"),
    ],
)
def test_file_mistakes(text: str, expected: str, tmp_path: Path) -> None:
    message = refused_file(text, tmp_path)
    assert expected in message
    assert "replica.toml" in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in refused("--config", str(tmp_path / "missing"))
    assert "directory" in refused("--config", str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "is not valid TOML" in refused("--config", str(tmp_path / "binary"))
    (tmp_path / "huge").write_bytes(b"#" * (1024 * 1024 + 1))
    assert "is larger than" in refused("--config", str(tmp_path / "huge"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--listen", "nowhere"], "listen: 'nowhere' is not an address; write host:port"),
        (["--listen", ":7400"], "listen: ':7400' is not an address"),
        (["--listen", "::1:7400"], "is not an address"),
        (["--listen", "h:70000"], "listen: '70000' is not a port"),
        (["--listen", "h:0"], "listen: '0' is not a port"),
        (["--listen", "h:x"], "listen: 'x' is not a port"),
        (["--listen", "0.0.0.0:7400"], "advertise: must be set"),
        (["--listen", "127.0.0.1:7401"], "listen and peer_listen are the same address"),
        (["--ops-listen", "127.0.0.1:7400"], "listen and ops_listen are the same address"),
        (["--peer", "b=h:1"], "the replica's own name 'a' is missing; it has b"),
        (["--peer", "a=h:1", "--peer", "b=h:1"], "'a' and 'b' have the same address h:1"),
        (["--peer", "a=h:1", "--peer", "a=h:2"], "--peer: 'a' is there twice"),
        (["--peer", "h:1"], "--peer: 'h:1' is not NAME=HOST:PORT"),
        (["--peer", "a=h"], "peers.a: 'h' is not an address"),
        (["--name", "no spaces"], "name: 'no spaces' is not a name"),
        (["--data-dir", ""], "data_dir: must not be empty"),
        (["--election-timeout-ms", "299"], "election_timeout_ms: 299 is too short for heartbeat_ms 75"),
        (["--heartbeat-ms", "fast"], "--heartbeat-ms: expected int, got str"),
        (
            ["--limits-session-ttl-ms-default", "5000", "--limits-session-ttl-ms-max", "4000"],
            "is not between",
        ),
        (["--limits-session-ttl-ms-min", "1"], "expected int >= 500"),
        (["--unknown-flag"], "unknown flag '--unknown-flag'"),
    ],
)
def test_flag_mistakes(flags: list[str], expected: str) -> None:
    assert expected in refused(*flags)


def test_environment_mistakes_name_the_variable() -> None:
    assert refused(RAFTCOORD_HEARTBEAT_MS="x").startswith("RAFTCOORD_HEARTBEAT_MS: expected int")
    assert refused(RAFTCOORD_PEERS="a").startswith("RAFTCOORD_PEERS: 'a' is not NAME=HOST:PORT")


@pytest.mark.parametrize(("missing", "flag"), [("name", "--data-dir"), ("data_dir", "--name")])
def test_what_has_no_default_must_be_given(missing: str, flag: str) -> None:
    with pytest.raises(ConfigError, match=f"{missing}: is not set"):
        parse_config([flag, "x"], {})


def test_warnings_for_what_is_allowed_but_odd() -> None:
    loaded = parse_config(
        [*MINIMAL, "--peer", "a=10.0.0.1:1", "--peer", "b=10.0.0.2:1"], {"RAFTCOORD_TYPO": "1"}
    )
    texts = " | ".join(loaded.warnings)
    assert "RAFTCOORD_TYPO: is set in the environment, but there is no such setting" in texts
    assert "2 members survive no more failures than 1 would" in texts
    assert "secret: is not set" in texts


def test_other_programs_variables_are_left_alone() -> None:
    environment = {
        "RAFTCOORD_ADDRESS": "h:1",
        "RAFTCOORD_LOCK_FENCE": "3",
        "RAFTCOORD_QUEUE_ITEM": "3",
        "OTHER": "x",
    }
    assert parse_config(MINIMAL, environment).warnings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("h:1", ("h", 1)), ("[::1]:65535", ("::1", 65535)), ("a.b-c:7400", ("a.b-c", 7400))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text, "here") == expected


def test_every_setting_has_a_flag_and_a_variable() -> None:
    changed: dict[str, Any] = {
        "heartbeat_ms": 10,
        "segment_bytes": 1 << 20,
        "log_format": "json",
        "secret": "s",
    }
    flags = [part for key, value in changed.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    environment = {f"RAFTCOORD_{key.upper()}": str(value) for key, value in changed.items()}
    by_flag: ServerConfig = parse_config([*MINIMAL, *flags], {}).config
    assert by_flag == parse_config(MINIMAL, environment).config
    assert by_flag != parse_config(MINIMAL, {}).config
