"""Just enough of the protobuf wire format for etcd's messages: varint and bytes fields.

Written by hand because the messages are so small: this is less work per call than generated classes would
need, and what is compared is etcd, not a Python protobuf library.
"""

from __future__ import annotations

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def encode(fields: dict[int, int | bytes]) -> bytes:
    """Return a protobuf message of varint and bytes fields, given by field number."""
    parts = []
    for number, value in fields.items():
        if isinstance(value, int):
            parts += [_varint(number << 3 | _VARINT), _varint(value)]
        else:
            parts += [_varint(number << 3 | _BYTES), _varint(len(value)), value]
    return b"".join(parts)


def decode(message: bytes) -> dict[int, int | bytes]:
    """Return the fields of a protobuf message; of a repeated field the last one.

    Raises:
        ValueError: the message uses a wire type that etcd's answers do not have.
    """
    fields: dict[int, int | bytes] = {}
    position = 0

    def varint() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = message[position]
            position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    while position < len(message):
        tag = varint()
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            fields[number] = varint()
            continue
        if wire not in (_BYTES, _FIXED64, _FIXED32):
            raise ValueError(f"unexpected wire type {wire}")
        length = varint() if wire == _BYTES else {_FIXED64: 8, _FIXED32: 4}[wire]
        fields[number] = message[position : position + length]
        position += length
    return fields
