"""Random access to the videos of a record folder: `open_records` gives a source, a source gives frames.

A source is what grain calls a random access data source: it has a length, items and a stable text form, and it
can be pickled. Files are opened when first read, in each process for itself.
"""

import logging
import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import index as index_of
from typing import NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Int32

from vidrec.data import manifest, schema
from vidrec.data.folder import Folder, open_folder
from vidrec.data.images import BadFrame, Frame
from vidrec.data.index import ShardIndex
from vidrec.data.openfiles import OpenFiles, reading
from vidrec.data.remote import Address, Place, RemotePath, place
from vidrec.data.splits import parse_split
from vidrec.data.tfrecord import WAY_OUT, BadRecord, crc32c
from vidrec.errors import VidrecError
from vidrec.labels import ClassList

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipHandle:
    """One video of a source, without its frames.

    Attributes:
      record: its number in the source.
      label: its class.
      num_frames: how many frames are stored.
    """

    source: "TFRecordSource" = field(repr=False)
    record: int
    label: int
    num_frames: int

    @property
    def video_id(self) -> str:
        """The unique name of the video."""
        return self.source.video_id(self.record)

    def read_frames(self, frame_numbers: Iterable[SupportsIndex]) -> list[bytes]:
        """As `TFRecordSource.read_frames`."""
        return self.source.read_frames(self.record, frame_numbers)

    def decode_frames(self, frame_numbers: Iterable[SupportsIndex]) -> list[Frame]:
        """As `TFRecordSource.decode_frames`."""
        return self.source.decode_frames(self.record, frame_numbers)


class Part(NamedTuple):
    """Some records of a shard.

    Attributes:
      index: of the shard.
      start, stop: numbers of the first of them and of the one behind the last.
      classes: what its labels mean.
      member: number of the record folder it lies in.
      aside: numbers, in the shard, of the records that are set aside.
    """

    index: ShardIndex
    start: int
    stop: int
    classes: ClassList
    member: int = 0
    aside: frozenset[int] = frozenset()


class TFRecordSource:
    """The videos of one split (or of any list of shards), in a fixed order.

    Attributes:
      name: name of the data set; of several ones the names, with "+" between them.
      split: the split expression it was opened with.
      classes: class names in label order, a `ClassList`.
      labels: class of each video, int32 `[N]`.
      num_frames: stored frames of each video, int32 `[N]`.
      member: number of the record folder each video lies in, int32 `[N]`; all 0 where only one was opened.
      aside: numbers of the videos that `vidrec verify --repair` has set aside, because they cannot be read.
      digest: of classes, labels and content of all records; the same wherever the files lie.
    """

    def __init__(self, parts: Sequence[Part], classes: Sequence[str], *, name: str, split: str = "") -> None:
        """Joins parts of shards; `open_records` is the usual way to one.

        Raises:
          VidrecError: there is no video, a label is outside the classes, or a video has no frame.
        """
        self.name, self.split, self.classes = name, split, ClassList(classes)
        self._parts = parts
        rows = [part.index.records[part.start : part.stop] for part in parts]
        self._ends = list(accumulate(map(len, rows)))
        labels = [_renumber(of["label"], part.classes, self.classes) for part, of in zip(parts, rows, strict=True)]
        self.labels: Int32[np.ndarray, " n"] = np.concatenate([np.zeros(0, np.int32), *labels])
        self.num_frames: Int32[np.ndarray, " n"] = _column(rows, "num_frames", np.int32)
        self.member: Int32[np.ndarray, " n"] = np.repeat(
            np.array([part.member for part in parts], np.int32), [len(of) for of in rows]
        )
        self.aside = frozenset(
            end - part.stop + record
            for part, end in zip(parts, self._ends, strict=True)
            for record in part.aside
            if part.start <= record < part.stop
        )
        self.digest: str = manifest.rows_digest(self.classes, _column(rows, "crc", np.uint32), self.labels)
        self._files = OpenFiles()
        self._check()
        if self.aside:
            log.warning(
                "%d of %d videos are set aside and not read: %s", len(self.aside), len(self), self._some_aside()
            )

    def _check(self) -> None:
        where = f"split '{self.split}' of {self.name}"
        if not len(self):
            raise VidrecError(f"{where} holds no video; choose another split or convert again")
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))
        if len(wrong) and (self.labels[wrong] == -1).all():
            raise VidrecError(
                f"{where}: {len(wrong)} of {len(self)} videos have no label (as in test splits whose labels are not "
                "published), so it is no use for training or evaluation; choose another split"
            )
        if len(wrong):
            raise VidrecError(
                f"{where}: {len(wrong)} labels are outside 0..{len(self.classes) - 1}, the first is "
                f"{self.labels[wrong[0]]} of video '{self.video_id(wrong[0])}'; convert again with the right class list"
            )
        empty = np.flatnonzero(self.num_frames == 0)
        if len(empty):
            raise VidrecError(
                f"{where}: {len(empty)} videos have no frame, the first is '{self.video_id(empty[0])}'; convert again"
            )

    def _some_aside(self) -> str:
        first = sorted(self.aside)[:3]
        return ", ".join(repr(self.video_id(i)) for i in first) + (", ..." if len(self.aside) > len(first) else "")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, i: SupportsIndex) -> ClipHandle:
        i = self._position(i)
        return ClipHandle(self, i, int(self.labels[i]), int(self.num_frames[i]))

    def __repr__(self) -> str:
        return f"TFRecordSource({self.name!r}, split={self.split!r}, videos={len(self)}, digest={self.digest!r})"

    def video_id(self, i: SupportsIndex) -> str:
        """Returns the unique name of video `i`."""
        index, record = self._locate(i)
        return index.video_id(record)

    def describe(self, i: SupportsIndex) -> str:
        """Says where video `i` lies: shard, number of the record in it, and the video's name."""
        index, record = self._locate(i)
        return f"record {record} of shard {index.shard.name} (video '{index.video_id(record)}')"

    def read_frames(self, i: SupportsIndex, frame_numbers: Iterable[SupportsIndex]) -> list[bytes]:
        """Reads the stored bytes of some frames of video `i` (numbers from 0, in any order, repeats allowed).

        Only those bytes are read from the file, and each frame's CRC is checked.

        Raises:
          BadRecord: a frame or its row of the index is damaged or missing; the sentence names shard, record and video.
          Unreadable: the system does not let the shard be read.
          IndexError: the video has no such frame.
        """
        index, record = self._locate(i)
        offsets, lengths, crcs = index.frame_table(record)
        numbers = [index_of(number) for number in frame_numbers]
        distinct = list(dict.fromkeys(numbers))
        for number in distinct:
            if not 0 <= number < len(offsets):
                raise IndexError(f"video '{index.video_id(record)}' has {len(offsets)} frames, not one number {number}")
        ranges = [(int(offsets[number]), int(lengths[number])) for number in distinct]
        frames = dict(zip(distinct, self._read(index.shard, ranges), strict=True))
        for number, frame in frames.items():
            if len(frame) != lengths[number]:
                raise self._bad(index, record, "the shard was cut off while in use")
            if crc32c(frame) != crcs[number]:
                raise self._bad(index, record, f"frame {number} is damaged (its CRC does not match)")
        return [frames[number] for number in numbers]

    def decode_frames(self, i: SupportsIndex, frame_numbers: Iterable[SupportsIndex]) -> list[Frame]:
        """Reads and decodes some frames of video `i`, as `read_frames`; each is uint8 RGB `[H, W, 3]`.

        A frame asked for several times is decoded once and is the same array each time.
        """
        numbers = [index_of(number) for number in frame_numbers]
        distinct = list(dict.fromkeys(numbers))
        frames = dict(zip(distinct, self.decode(i, self.read_frames(i, distinct)), strict=True))
        return [frames[number] for number in numbers]

    def decode(self, i: SupportsIndex, stored: Iterable[bytes]) -> Iterator[Frame]:
        """Decodes what `read_frames` returned for video `i`, frame by frame; each is uint8 RGB `[H, W, 3]`.

        Raises:
          BadRecord: one is not a whole frame.
        """
        index, record = self._locate(i)
        row = index.records[record]
        codec, height, width = schema.CODECS[row["codec"]], int(row["height"]), int(row["width"])
        for data in stored:
            try:
                yield schema.decode_frame(data, codec, height, width)
            except BadFrame as error:
                raise self._bad(index, record, str(error)) from None

    def _read(self, shard: Place, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        with reading(shard):
            if isinstance(shard, RemotePath):
                return shard.read_ranges(ranges)
            return [self._files.read(shard, offset, length) for offset, length in ranges]

    def _bad(self, index: ShardIndex, record: int, why: str) -> BadRecord:
        video_id = index.video_id(record)
        message = f"record {record} of shard {index.shard.name} (video '{video_id}'): {why}; {WAY_OUT}"
        return BadRecord(message, shard=index.shard.name, record=record, video_id=video_id)

    def _position(self, i: SupportsIndex) -> int:
        i = index_of(i)
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self!r} has no video {i}")
        return i % len(self)

    def _locate(self, i: SupportsIndex) -> tuple[ShardIndex, int]:
        """Returns the shard's index and the record's number in it."""
        i = self._position(i)
        number = bisect_right(self._ends, i)
        part = self._parts[number]
        return part.index, i - self._ends[number] + part.stop


def open_records(directory: Address | Sequence[Address], split: str) -> TFRecordSource:
    """Opens a split of a record folder, or a part of it: "train", "train[:90%]", "train[100:200]+validation".

    Of several folders it opens that split of each; their videos follow one another, and their classes are united by
    name, in the order in which they first occur.

    Everything is checked from manifest and index alone; no video is read.

    Args:
      directory: a record folder or several, each a local path (of a folder of ours, or of one that
        tensorflow-datasets prepared, see `vidrec.data.foreign`) or an address that fsspec knows (`gs://`, `https://`,
        `memory://`). Of remote ones the index files are read whole and kept in memory, eight bytes per frame; frames
        are read one by one.
      split: as above.

    Raises:
      VidrecError: a folder is not there or not finished, there is no such split or it is empty, a shard is missing,
        cut off, unreadable or not the one the manifest names, a label is outside the classes, a video has no frame.
    """
    places = [place(one) for one in ([directory] if isinstance(directory, str | os.PathLike) else directory)]
    folders: list[Folder] = []
    parts: list[Part] = []
    for member, where in enumerate(places):
        with reading(where):
            folders.append(open_folder(where))
            parts += _parts(folders[-1], split, member)
    classes = dict.fromkeys(name for folder in folders for name in folder.classes)
    return TFRecordSource(parts, tuple(classes), name="+".join(folder.name for folder in folders), split=split)


def _parts(folder: Folder, split: str, member: int) -> Iterator[Part]:
    """Yields what a split expression means in a folder."""
    indexes: dict[str, list[ShardIndex]] = {}
    for name, start, stop in parse_split(split, folder.sizes):
        indexes[name] = indexes.get(name) or folder.open_split(name)
        at = 0
        for index in indexes[name]:
            first, last = max(start - at, 0), min(stop - at, len(index))
            if first < last:
                yield Part(index, first, last, folder.classes, member, folder.aside.of(index.shard.name))
            at += len(index)


def _renumber(labels: np.ndarray, own: ClassList, united: ClassList) -> Int32[np.ndarray, " n"]:
    """Turns labels of `own` classes into those of `united`; -1 stays, another that `own` lacks is outside."""
    labels = labels.astype(np.int32)
    if own == united:
        return labels
    table = np.array([united.label(name) for name in own], np.int32)
    known = (labels >= 0) & (labels < len(own))
    return np.where(known, table[np.where(known, labels, 0)], np.where(labels == -1, -1, len(united))).astype(np.int32)


def _column(rows: list[np.ndarray], name: str, dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate([part[name] for part in rows]).astype(dtype) if rows else np.zeros(0, dtype)
