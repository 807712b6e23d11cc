"""Addresses of replicas as users write them: "host:port,host:port".

Pure but for one look at the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, TypeAlias

Addresses: TypeAlias = tuple[str, ...]

ADDRESS_ENVIRONMENT: Final = "RAFTCOORD_ADDRESS"
PORT_DEFAULT: Final = 7400
ADDRESSES_MAX: Final = 100


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of one address ("host", "host:port" or "[ipv6]:port").

    Raises:
        ValueError: it is not an address.
    """
    text = address.strip()
    host, port_text = text, str(PORT_DEFAULT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"cannot read the address {address!r}")
        port_text = rest[1:] or port_text
    elif ":" in text:
        host, _, port_text = text.rpartition(":")
    valid_port = port_text.isascii() and port_text.isdigit() and 0 < int(port_text) <= 65535
    if not host or not valid_port or any(character in host for character in " /,"):
        raise ValueError(f"cannot read the address {address!r}; write host:port")
    return host, int(port_text)


def parse_addresses(address: str | Iterable[str]) -> Addresses:
    """Return the distinct addresses in a text or an iterable of texts, in order, as "host:port".

    Raises:
        TypeError: it is neither.
        ValueError: there is none, there are too many, or one of them is not an address.
    """
    parts = address.split(",") if isinstance(address, str) else list(address)
    if not all(isinstance(part, str) for part in parts):
        raise TypeError("addresses are texts such as 'host:7400,host:7400'")
    found: dict[str, None] = {}
    for part in parts:
        if part.strip():
            host, port = split_address(part)
            found[f"[{host}]:{port}" if ":" in host else f"{host}:{port}"] = None
    if not found:
        raise ValueError("no address given; write for example 'host:7400,host:7400,host:7400'")
    if len(found) > ADDRESSES_MAX:
        raise ValueError(f"{len(found)} addresses are over the limit of {ADDRESSES_MAX}")
    return tuple(found)


def address_from_environment() -> str | None:
    """Return what RAFTCOORD_ADDRESS says, or None when it is unset or blank."""
    return os.environ.get(ADDRESS_ENVIRONMENT, "").strip() or None
