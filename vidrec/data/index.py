"""One index file beside each shard: where every record and every frame lies, and what it takes to check them.

Layout: a 64-byte header, one `RECORD` row per record, one `FRAME` row per frame, the video ids. It is
memory-mapped, so opening a data set costs little whatever its size, and workers share the pages. Every byte is
covered by a CRC: header, records and ids are checked on opening, the frame rows of a record when it is read.
"""

import logging
import mmap
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Int64, UInt32

from vidrec.data import example, schema, tfrecord
from vidrec.data.example import Span
from vidrec.data.remote import Place, RemotePath, read_ranges
from vidrec.data.schema import VideoRecord
from vidrec.data.tfrecord import BadRecord, Location, crc32c
from vidrec.errors import VidrecError
from vidrec.files import atomic_write

log = logging.getLogger(__name__)

RECORD = np.dtype(
    [
        ("offset", "<u8"),  # of the payload in the shard
        ("length", "<u8"),  # of the payload
        ("first_row", "<u8"),  # of its frames in the frame table
        ("id_at", "<u8"),  # of its id in the ids
        ("crc", "<u4"),  # of the payload, unmasked
        ("label", "<i4"),
        ("num_frames", "<u4"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("frames_at", "<u4"),  # of the first frame's bytes in the payload
        ("rows_crc", "<u4"),  # of its rows of the frame table
        ("id_length", "<u4"),
        ("fps", "<f4"),
        ("codec", "<u4"),  # position in schema.CODECS
    ]
)
FRAME = np.dtype([("length", "<u4"), ("crc", "<u4")])

REPAIR = "'vidrec verify --repair' builds it again"
_MAGIC = b"VIDRECIX"
_VERSION = 1
# magic, version, CRCs of records and ids, reserved; shard bytes, number of records, of frames, bytes of ids
_HEADER = struct.Struct("<8sIIII QQQQ")
_HEADER_BYTES = 64  # the above and its own CRC


class StaleIndex(Exception):
    """The index file is damaged, of another version, or does not belong to its shard; it can be rebuilt."""


class ShardIndex:
    """The index of one shard, over the bytes of an index file.

    These are a memory map (pickled as the path, so that a worker maps the file again), or bytes in memory where the
    file could not be written or is a remote one (pickled as they are, so that workers start without asking for it).

    Attributes:
      shard: path or address of the shard.
      records: structured array `[n]` of `RECORD`.
      frames: structured array `[all frames]` of `FRAME`.
    """

    def __init__(self, shard: Place, data: bytes | mmap.mmap) -> None:
        self.shard, self._data = shard, data
        self.shard_bytes, records, frames, ids = _check(data)
        self.records = np.frombuffer(data, RECORD, records, _HEADER_BYTES)
        at = _HEADER_BYTES + self.records.nbytes
        self.frames = np.frombuffer(data, FRAME, frames, at)
        self._ids_at = at + self.frames.nbytes
        self._ids_bytes = ids

    def __len__(self) -> int:
        return len(self.records)

    def __reduce__(self):
        if isinstance(self._data, mmap.mmap):
            return _map_again, (self.shard, self._data[:_HEADER_BYTES])
        return ShardIndex, (self.shard, self._data)

    def video_id(self, record: int) -> str:
        """Returns the id of a record's video."""
        row = self.records[record]
        at = self._ids_at + int(row["id_at"])
        return self._data[at : at + int(row["id_length"])].decode()

    def frame_table(
        self, record: int
    ) -> tuple[Int64[np.ndarray, " n"], UInt32[np.ndarray, " n"], UInt32[np.ndarray, " n"]]:
        """Returns offset in the shard, length in bytes and CRC of each frame of a record.

        Raises:
          BadRecord: the record's part of the index is damaged.
        """
        row = self.records[record]
        first = int(row["first_row"])
        rows = self.frames[first : first + int(row["num_frames"])]
        if crc32c(rows.tobytes()) != row["rows_crc"]:
            video_id, name = self.video_id(record), index_path(self.shard).name
            message = f"the frames of record {record} (video '{video_id}') in index {name} are damaged; {REPAIR}"
            raise BadRecord(message, shard=self.shard.name, record=record, video_id=video_id)
        start = int(row["offset"]) + int(row["frames_at"])
        codec = schema.CODECS[row["codec"]]
        return start + schema.frame_starts(codec, rows["length"]), rows["length"], rows["crc"]

    def tobytes(self) -> bytes:
        """Returns the content of the index file."""
        return bytes(self._data)


def index_path[P: Place](shard: P) -> P:
    """The index file of a shard."""
    return cast(P, shard.with_name(shard.name + ".index"))


Read = Callable[[bytes, int], VideoRecord[Span]]


def _read_ours(payload: bytes, _: int) -> VideoRecord[Span]:
    return schema.read(payload)


class IndexBuilder:
    """Collects the rows of an index while a shard is written or scanned: `add` each record, then `finish`.

    Args:
      shard_name: file name of the shard.
      read: function of a payload and its number in the shard -> its fields; raises BadExample.
    """

    def __init__(self, shard_name: str, read: Read = _read_ours) -> None:
        self._shard_name, self._read = shard_name, read
        self._records: list[tuple[float, ...]] = []
        self._frames: list[np.ndarray] = []
        self._ids: list[bytes] = []
        self._first_row = self._id_at = 0

    def add(self, location: Location, payload: bytes) -> VideoRecord[Span]:
        """Adds the next record and returns its fields; a payload that does not follow the schema is a `BadRecord`."""
        try:
            fields = self._read(payload, len(self._records))
        except example.BadExample as error:
            number = len(self._records)
            message = f"record {number} of shard {self._shard_name} is not a vidrec video record: {error}"
            raise BadRecord(message, shard=self._shard_name, record=number) from None
        view = memoryview(payload)
        rows = np.array([(stop - start, crc32c(view[start:stop])) for start, stop in fields.frames], FRAME)
        video_id = fields.video_id.encode()
        codec = schema.CODECS.index(fields.codec)
        frames_at = fields.frames[0].start if rows.size else 0
        place = (location.offset, location.length, self._first_row, self._id_at, location.crc)
        about = (fields.label, len(rows), fields.height, fields.width)
        check = (frames_at, crc32c(rows.tobytes()), len(video_id), fields.fps, codec)
        self._records.append(place + about + check)
        self._frames.append(rows)
        self._ids.append(video_id)
        self._first_row += len(rows)
        self._id_at += len(video_id)
        return fields

    def finish(self, shard_bytes: int) -> bytes:
        """Returns the content of the index file of a shard of that many bytes."""
        records = np.array(self._records, RECORD).tobytes()
        ids = b"".join(self._ids)
        counts = (shard_bytes, len(self._records), self._first_row, len(ids))
        header = _HEADER.pack(_MAGIC, _VERSION, crc32c(records), crc32c(ids), 0, *counts)
        header += b"\0" * (_HEADER_BYTES - 4 - len(header))
        header += struct.pack("<I", crc32c(header))
        return b"".join([header, records, *(rows.tobytes() for rows in self._frames), ids])


def build(
    shard: Path, look: Callable[[int, VideoRecord[Span], bytes], None] | None = None, read: Read = _read_ours
) -> bytes:
    """Reads a whole shard, checking every CRC, and returns the content of its index file.

    Args:
      shard: path of the shard.
      look: called with number, fields and payload of every record.
      read: of records other than ours, as of `IndexBuilder`.

    Raises:
      BadRecord: the shard is cut off or damaged, or holds something other than video records.
    """
    builder = IndexBuilder(shard.name, read)
    for number, (location, payload) in enumerate(tfrecord.scan(shard)):
        fields = builder.add(location, payload)
        if look is not None:
            look(number, fields, payload)
    return builder.finish(shard.stat().st_size)


def open_index(
    shard: Place, read: Read = _read_ours, right: Callable[[ShardIndex], bool] = lambda _: True
) -> ShardIndex:
    """Opens the index of a shard; an absent or damaged one, or another shard's, is built again, with a warning.

    That of a remote shard is read whole, and must be there and right, since nothing can be written beside it.

    Args:
      shard: path or address of the shard.
      read: of records other than ours, as of `IndexBuilder`.
      right: whether a newly built index is that of the wanted shard; one of another shard does not take the place of
        the file that is there, which tells what can be saved.

    Raises:
      VidrecError: the shard does not exist, a remote one has no right index; BadRecord: it is cut off or damaged.
    """
    if isinstance(shard, RemotePath):
        return _open_remote(shard, bound=True)
    _check_there(shard)
    try:
        index = map_index(shard)
        check_binding(index)
        return index
    except StaleIndex as error:
        log.warning("%s: %s; building it again from the whole shard", index_path(shard), error)
    data = build(shard, read=read)
    if not right(index := ShardIndex(shard, data)):
        return index
    try:
        with atomic_write(index_path(shard)) as file:
            file.write(data)
        return map_index(shard)
    except OSError as error:
        log.warning("cannot write %s (%s); it stays in memory for this run", index_path(shard), error.strerror)
        return index


def open_damaged(shard: Place) -> ShardIndex:
    """Opens the index of a shard that is known to be damaged, so that index and shard cannot be compared.

    Raises:
      VidrecError: there is no index, or it is damaged.
    """
    if isinstance(shard, RemotePath):
        return _open_remote(shard, bound=False)
    _check_there(shard)
    try:
        return map_index(shard)
    except StaleIndex as error:
        raise VidrecError(f"{index_path(shard)}: {error}; {REPAIR}") from None


def _check_there(shard: Path) -> None:
    if not shard.is_file():
        raise VidrecError(
            f"shard {shard} is missing; run the same 'vidrec convert' again, it makes only what is missing"
        )


def _open_remote(shard: RemotePath, *, bound: bool) -> ShardIndex:
    try:
        index = ShardIndex(shard, index_path(shard).read_bytes())
        if bound:
            check_binding(index)
    except FileNotFoundError as error:
        raise VidrecError(f"{error.filename} is missing; copy shards and their index files there again") from None
    except StaleIndex as error:
        raise VidrecError(
            f"{index_path(shard)}: {error}; check the local records with 'vidrec verify --repair' and copy both again"
        ) from None
    return index


def check_binding(index: ShardIndex) -> None:
    """Checks that an index belongs to its shard: the size, framing and CRC of the first and the last record.

    The size of a remote shard is not asked for; the place of its last record says almost as much.

    Raises:
      StaleIndex: it does not.
    """
    if isinstance(index.shard, Path) and (size := index.shard.stat().st_size) != index.shard_bytes:
        raise StaleIndex(f"it was made for a shard of {index.shard_bytes} bytes, but this one has {size}")
    ends = sorted({0, len(index) - 1}) if len(index) else []
    rows = [index.records[record] for record in ends]
    ranges = [(int(row["offset"]) - tfrecord.HEADER_BYTES, 8) for row in rows]
    ranges += [(int(row["offset"]) + int(row["length"]), 4) for row in rows]
    found = read_ranges(index.shard, ranges) if ranges else []
    expected = [struct.pack("<Q", row["length"]) for row in rows]
    expected += [struct.pack("<I", tfrecord.mask(int(row["crc"]))) for row in rows]
    for record, right, there in zip(ends * 2, expected, found, strict=True):
        if there != right:
            raise StaleIndex(f"its record {record} is not the one in the shard")


def map_index(shard: Path) -> ShardIndex:
    """Opens the index file of a shard as it is, whether or not it belongs to that shard.

    Raises:
      StaleIndex: there is none, or it is damaged. OSError: it cannot be read.
    """
    try:
        with open(index_path(shard), "rb") as file:
            # Without tracking, a map does not keep its file open (before Python 3.13 it always does).
            options: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, **options)
    except FileNotFoundError:
        raise StaleIndex("there is no index") from None
    except ValueError:
        raise StaleIndex("it is empty") from None
    return ShardIndex(shard, data)


def _map_again(shard: Path, header: bytes) -> ShardIndex:
    """Opens an index in another process; by its header, which has the CRCs of the rest, it is the same one."""
    try:
        index = map_index(shard)
    except StaleIndex as error:
        raise VidrecError(f"{index_path(shard)}: {error}; it was changed while in use, start again") from None
    if index._data[:_HEADER_BYTES] != header:
        raise VidrecError(f"{index_path(shard)} was changed while in use; start again")
    return index


def _check(data: bytes | mmap.mmap) -> tuple[int, int, int, int]:
    """Checks all but the frame rows; returns shard bytes, number of records and of frames, bytes of ids."""
    if len(data) < _HEADER_BYTES or data[:8] != _MAGIC:
        raise StaleIndex("it is not an index file")
    header = data[: _HEADER_BYTES - 4]
    if struct.pack("<I", crc32c(header)) != data[_HEADER_BYTES - 4 : _HEADER_BYTES]:
        raise StaleIndex("its header is damaged")
    _, version, records_crc, ids_crc, _, *counts = _HEADER.unpack(header[: _HEADER.size])
    if version != _VERSION:
        raise StaleIndex(f"it is of version {version}, this vidrec writes version {_VERSION}")
    shard_bytes, records, frames, ids = counts
    ids_at = _HEADER_BYTES + records * RECORD.itemsize + frames * FRAME.itemsize
    if len(data) != ids_at + ids:
        raise StaleIndex(f"it has {len(data)} bytes instead of {ids_at + ids}")
    record_bytes = data[_HEADER_BYTES : _HEADER_BYTES + records * RECORD.itemsize]
    if crc32c(record_bytes) != records_crc or crc32c(data[ids_at:]) != ids_crc:
        raise StaleIndex("its record table is damaged")
    return shard_bytes, records, frames, ids
