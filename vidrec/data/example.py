"""tf.train.Example on the wire, written and read without protobuf.

An Example is a map from names to one list each: of bytes, of floats or of 64-bit integers. The encoder writes
the map sorted by name, as protobuf's deterministic serialisation does, so equal content means equal bytes. The
reader does not copy byte strings: it returns where they lie, so that single frames can later be read alone.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Int64, Integer

Value = Sequence[bytes] | Sequence[float] | Sequence[int]


class BadExample(ValueError):
    """The payload is not a tf.train.Example."""


class Span(NamedTuple):
    """A byte string inside a payload: `payload[start:stop]`."""

    start: int
    stop: int


def encode(features: Mapping[str, Value]) -> bytes:
    """Serialises an Example; each feature is a list of bytes, floats or ints of one type (bytes when empty)."""
    entries = []
    # protobuf's order: where one name is the beginning of another, the longer one comes first.
    for name in sorted(features, key=lambda name: name.encode() + b"\xff"):
        entry = _field(1, name.encode()) + _field(2, _feature(features[name]))
        entries.append(_field(1, entry))
    return _field(1, b"".join(entries)) if entries else b""


def _feature(values: Value) -> bytes:
    first = values[0] if len(values) else b""
    if isinstance(first, bytes):
        parts: list[bytes] = []
        for value in cast(Sequence[bytes], values):
            parts += (b"\x0a", varint(len(value)), value)
        return _field(1, b"".join(parts))
    if isinstance(first, float):
        return _field(2, _field(1, struct.pack(f"<{len(values)}f", *values)))
    return _field(3, _field(1, b"".join(varint(int(value) & (1 << 64) - 1) for value in values)))


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Encodes an unsigned integer in groups of seven bits, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def starts_in_list(lengths: Integer[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Where the byte strings of a bytes list start, relative to the first of them, from their lengths alone.

    Between two of them lie a tag byte and the varint of the next length.
    """
    lengths = lengths.astype(np.int64)
    prefix = 2 + np.searchsorted([1 << 7, 1 << 14, 1 << 21, 1 << 28], lengths, side="right")
    steps = lengths[:-1] + prefix[1:]
    return np.concatenate([np.zeros(min(1, len(lengths)), np.int64), np.cumsum(steps)])


def parse(payload: bytes) -> dict[str, list[Span] | list[float] | list[int]]:
    """Reads an Example; byte strings come back as spans of `payload`.

    Raises:
      BadExample: the payload is not a well-formed Example.
    """
    features: dict[str, list] = {}
    for number, span in _fields(payload, Span(0, len(payload))):
        if number != 1:
            continue
        for inner, entry in _fields(payload, span):
            if inner == 1:
                name, values = _entry(payload, entry)
                features[name] = values
    return features


def _entry(payload: bytes, span: Span) -> tuple[str, list]:
    name, values = "", []
    for number, field in _fields(payload, span):
        if number == 1:
            try:
                name = payload[field.start : field.stop].decode()
            except UnicodeDecodeError:
                raise BadExample(f"a feature name at byte {field.start} is not UTF-8") from None
        elif number == 2:
            for kind, content in _fields(payload, field):
                values = _values(payload, kind, content)
    return name, values


def _values(payload: bytes, kind: int, span: Span) -> list:
    if kind == 1:
        return [field for number, field in _fields(payload, span) if number == 1]
    out: list = []
    for number, field in _fields(payload, span):  # the packed form; the only one that writers use
        if number == 1 and kind == 2:
            if (field.stop - field.start) % 4:
                raise BadExample(f"a float list at byte {field.start} is not a whole number of floats")
            out += np.frombuffer(payload, "<f4", (field.stop - field.start) // 4, field.start).tolist()
        elif number == 1 and kind == 3:
            out += _integers(payload, field)
    return out


def _integers(payload: bytes, span: Span) -> list[int]:
    out, at = [], span.start
    while at < span.stop:
        value, at = _read_varint(payload, at, span.stop)
        out.append(value - (1 << 64) if value >> 63 else value)
    return out


def _fields(payload: bytes, span: Span):
    """Yields number and content span of each length-delimited field; these messages hold no other kind."""
    at, stop = span
    while at < stop:
        tag, at = _read_varint(payload, at, stop)
        if tag & 7 != 2:
            raise BadExample(f"unexpected field type {tag & 7} at byte {at}")
        length, at = _read_varint(payload, at, stop)
        if at + length > stop:
            raise BadExample(f"a field at byte {at} is longer than what holds it")
        yield tag >> 3, Span(at, at + length)
        at += length


def _read_varint(payload: bytes, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 64:
        byte = payload[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
    raise BadExample(f"a number at byte {at} does not end")
