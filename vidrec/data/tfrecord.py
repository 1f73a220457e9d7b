"""The TFRecord file format: `length u64 | masked crc of it u32 | payload | masked crc of the payload u32`, ...

CRCs are CRC-32C, rotated and offset ("masked") as TensorFlow defines it, so that each can read the other's files.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import google_crc32c
import numpy as np

from vidrec.errors import VidrecError

HEADER_BYTES = 12
FOOTER_BYTES = 4
WAY_OUT = "look with 'vidrec verify', delete the shard and run the same 'vidrec convert' again"
_GZIP, _ZLIB = b"\x1f\x8b", (b"\x78\x01", b"\x78\x9c", b"\x78\xda")


class BadRecord(VidrecError):
    """A record cannot be read.

    Attributes:
      shard: name of the shard file.
      record: number of the record in the shard, from 0.
      video_id: id of the video, "" where it could not be learnt.
    """

    def __init__(self, message: str, *, shard: str, record: int, video_id: str = "") -> None:
        super().__init__(message)
        self.shard, self.record, self.video_id = shard, record, video_id

    def __reduce__(self):
        fields = {"shard": self.shard, "record": self.record, "video_id": self.video_id}
        return _revive, (str(self), fields)


def _revive(message: str, fields: dict) -> BadRecord:
    return BadRecord(message, **fields)


class Location(NamedTuple):
    """Where a payload lies in its shard: byte `offset`, `length` in bytes, plain (unmasked) CRC-32C."""

    offset: int
    length: int
    crc: int


def crc32c(data: bytes | memoryview) -> int:
    """Returns the CRC-32C of `data`, without copying it."""
    return google_crc32c.value(data if isinstance(data, bytes) else np.frombuffer(data, np.uint8))  # pyright: ignore


def mask(crc: int) -> int:
    """Masks a CRC as the file format stores it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """Undoes `mask`."""
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def write_record(file: IO[bytes], payload: bytes) -> Location:
    """Appends one record to `file` and returns where its payload lies."""
    length = struct.pack("<Q", len(payload))
    crc = crc32c(payload)
    file.write(length + struct.pack("<I", mask(crc32c(length))))
    offset = file.tell()
    file.write(payload)
    file.write(struct.pack("<I", mask(crc)))
    return Location(offset, len(payload), crc)


def scan(path: str | os.PathLike[str]) -> Iterator[tuple[Location, bytes]]:
    """Reads every record of a shard in order, checking both of its CRCs.

    Yields:
      The location and the payload of each record.

    Raises:
      BadRecord: the shard is compressed, cut off, or a CRC does not match; the sentence names shard and record.
    """
    path = Path(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        record = offset = 0
        while offset < size:
            header = file.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                raise _cut_off(path, record, offset)
            if crc32c(header[:8]) != unmask(struct.unpack("<I", header[8:])[0]):
                raise _bad_length(path, record, header)
            (length,) = struct.unpack("<Q", header[:8])
            if offset + HEADER_BYTES + length + FOOTER_BYTES > size:
                raise _cut_off(path, record, offset)
            payload, footer = file.read(length), file.read(FOOTER_BYTES)
            crc = crc32c(payload)
            if crc != unmask(struct.unpack("<I", footer)[0]):
                message = f"record {record} of shard {path.name} is damaged (its CRC does not match); {WAY_OUT}"
                raise BadRecord(message, shard=path.name, record=record)
            yield Location(offset + HEADER_BYTES, length, crc), payload
            offset += HEADER_BYTES + length + FOOTER_BYTES
            record += 1


def _cut_off(path: Path, record: int, offset: int) -> BadRecord:
    last = f"the last good record is {record - 1}" if record else "not one record is whole"
    message = f"shard {path.name} is cut off at byte {offset} ({last}); {WAY_OUT}"
    return BadRecord(message, shard=path.name, record=record)


def _bad_length(path: Path, record: int, header: bytes) -> BadRecord:
    if record == 0 and (header[:2] == _GZIP or header[:2] in _ZLIB):
        message = f"shard {path.name} is compressed, which rules out random access; decompress it or convert again"
    else:
        message = f"the length of record {record} of shard {path.name} is damaged; {WAY_OUT}"
    return BadRecord(message, shard=path.name, record=record)
