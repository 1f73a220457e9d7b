"""What can still be read of a damaged shard, by what its index says."""

import struct
from collections.abc import Iterator
from pathlib import Path

from vidrec.data import example, manifest, schema, tfrecord
from vidrec.data.example import Span
from vidrec.data.index import IndexBuilder, ShardIndex, StaleIndex, map_index
from vidrec.data.schema import VideoRecord
from vidrec.data.shards import describe
from vidrec.data.tfrecord import BadRecord, crc32c
from vidrec.labels import ClassList


def sound_index(shard: Path, said: manifest.Shard, classes: ClassList) -> ShardIndex | None:
    """Returns the index of a damaged shard where it is the one that the manifest's entry was made of, else None."""
    try:
        index = map_index(shard)
    except (StaleIndex, OSError):
        return None
    return index if describe(index, classes) == said else None


def read_by_index(shard: Path, index: ShardIndex) -> Iterator[tuple[int, VideoRecord[Span] | str, bytes]]:
    """Reads every record of a damaged shard where its index says it lies.

    Yields:
      Number, fields and payload of each record; in place of the fields of a damaged one, what is wrong with it.
    """
    with open(shard, "rb") as file:
        for number, row in enumerate(index.records):
            file.seek(int(row["offset"]) - tfrecord.HEADER_BYTES)
            length = int(row["length"])
            header, payload, footer = (
                file.read(size) for size in (tfrecord.HEADER_BYTES, length, tfrecord.FOOTER_BYTES)
            )
            if len(footer) < tfrecord.FOOTER_BYTES:
                yield number, "the shard is cut off before its end", payload
            elif (header, crc32c(payload), footer) != (_header(length), row["crc"], _masked(int(row["crc"]))):
                yield number, "it is damaged (its CRC does not match)", payload
            else:
                yield number, _fields(index, number, payload), payload


def _fields(index: ShardIndex, number: int, payload: bytes) -> VideoRecord[Span] | str:
    try:
        index.frame_table(number)
        return schema.read(payload)
    except BadRecord:
        return "its frames in the index are damaged"
    except example.BadExample as error:
        return f"it is not a vidrec video record: {error}"


def _header(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + _masked(crc32c(packed))


def _masked(crc: int) -> bytes:
    return struct.pack("<I", tfrecord.mask(crc))


def index_beginning(shard: Path, records: int) -> ShardIndex:
    """Builds an index of the first so many records of a shard, which are sound."""
    builder, end = IndexBuilder(shard.name), 0
    scan = tfrecord.scan(shard)
    for _ in range(records):
        location, payload = next(scan)
        builder.add(location, payload)
        end = location.offset + location.length + tfrecord.FOOTER_BYTES
    return ShardIndex(shard, builder.finish(end))
