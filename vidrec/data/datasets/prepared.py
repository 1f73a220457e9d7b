"""Data sets that tensorflow-datasets prepared, as `tfds:NAME`: its TFRecord and ArrayRecord files, without TensorFlow.

Those that are TFRecords need no conversion: they open as they are (`vidrec.data.records.open_records`). Converting them
makes frames smaller or stores them in another codec. ArrayRecord is what the builders of tensorflow-datasets can write
where TensorFlow is not installed.
"""

import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from vidrec.data import foreign, images
from vidrec.data.datasets.entries import Annotations, Entry
from vidrec.data.example import BadExample
from vidrec.data.openfiles import reading
from vidrec.data.records import open_records
from vidrec.data.schema import VideoRecord
from vidrec.data.video import VideoFrames
from vidrec.errors import VidrecError

PREFIX = "tfds:"


class Records(Protocol):
    """The records of one split."""

    def __len__(self) -> int:
        """Number of videos."""
        ...

    def describe(self, number: int) -> tuple[int, str]:
        """Label and name of a video."""
        ...

    def frames(self, number: int) -> list[bytes]:
        """The encoded frames of a video."""
        ...


class TFRecords:
    """A split stored as TFRecord files."""

    def __init__(self, directory: Path, split: str) -> None:
        self._source = open_records(directory, split)

    def __len__(self) -> int:
        return len(self._source)

    def describe(self, number: int) -> tuple[int, str]:
        """Label and name of a video."""
        return int(self._source.labels[number]), self._source.video_id(number)

    def frames(self, number: int) -> list[bytes]:
        """The encoded frames of a video; a damaged one is a `BadRecord`."""
        return self._source.read_frames(number, range(self._source.num_frames[number]))


class ArrayRecords:
    """A split stored as ArrayRecord files."""

    def __init__(self, directory: Path, split: str) -> None:
        from grain.sources import ArrayRecordDataSource

        data = foreign.load(directory, "array_record")
        self._keys = data.keys
        self._names = [f"{file}__{number}" for file, count in data.splits[split] for number in range(count)]
        files = [directory / file for file, _ in data.splits[split]]
        for file in files:
            if not file.is_file():
                raise VidrecError(f"shard {file} is missing; prepare the data set again with tensorflow-datasets")
        self._source: Any = ArrayRecordDataSource([str(file) for file in files])
        if len(self._source) != len(self._names):
            raise VidrecError(
                f"split '{split}' in {directory} holds {len(self._source)} records, but {foreign.FILE_NAME} says "
                f"{len(self._names)}; prepare the data set again with tensorflow-datasets"
            )

    def __len__(self) -> int:
        return len(self._names)

    def _read(self, number: int) -> tuple[bytes, VideoRecord]:
        payload = bytes(self._source[number])
        try:
            return payload, self._keys.read(payload, self._names[number])
        except BadExample as error:
            raise VidrecError(f"record {self._names[number]} is damaged: {error}") from None

    def describe(self, number: int) -> tuple[int, str]:
        """Label and name of a video."""
        _, record = self._read(number)
        return record.label, record.video_id

    def frames(self, number: int) -> list[bytes]:
        """The encoded frames of a video; a damaged record is a `VidrecError`."""
        payload, record = self._read(number)
        return [payload[slice(*span)] for span in record.frames]


def find_prepared(dataset: str, root: Path) -> Path:
    """Finds the folder of a data set that tensorflow-datasets prepared.

    Args:
      dataset: `tfds:NAME`, `tfds:NAME/CONFIG` or with a version, `tfds:NAME:1.0.0`.
      root: the data folder of tensorflow-datasets (its `data_dir`), or the folder of the data set itself.

    Raises:
      VidrecError: it is not there, or there are several configurations.
    """
    name = dataset.removeprefix(PREFIX)
    below = root.joinpath(*name.replace(":", "/").split("/"))
    folders = sorted(file.parent for file in below.rglob(foreign.FILE_NAME))
    if _metadata(root).get("name") == re.split("[/:]", name)[0]:
        folders = [root]
    configs = {folder if folder == root else folder.parent for folder in folders if folder != below}
    if not folders:
        raise VidrecError(
            f"there is no {name} below {root}, and preparing a data set is up to tensorflow-datasets: "
            f"tfds.builder('{name}', data_dir='{root}', file_format='array_record').download_and_prepare() where its "
            "builder works without TensorFlow (those with a feature Video, such as ucf101, do not), else 'tfds build "
            f"{name} --data_dir {root}' where TensorFlow is installed"
        )
    if len(configs) > 1:
        found = ", ".join(str(config.relative_to(root)) for config in sorted(configs))
        raise VidrecError(f"{root} has several configurations of {name} ({found}); name one, as {PREFIX}{name}/CONFIG")
    return max(folders, key=lambda folder: [int(part) for part in folder.name.split(".") if part.isdigit()])


def read_prepared(directory: Path) -> Annotations:
    """Lists the videos of a prepared data set.

    Raises:
      VidrecError: its files are missing or damaged, or hold no labelled videos.
    """
    data = foreign.load(directory, "array_record" if _is_array_record(directory) else "tfrecord")
    entries = []
    for split in data.splits:
        records = _open(directory, split)
        for number in range(len(records)):
            label, video_id = records.describe(number)
            entries.append(Entry(f"{split}/{number}", label, split, video_id))
    return Annotations(data.classes, entries)


def read_video(directory: Path, entry: Entry) -> VideoFrames:
    """Opens a video of a prepared data set.

    Raises:
      VidrecError: it is damaged; Unreadable: the system does not let it be read.
    """
    split, number = entry.path.split("/")
    path = directory / entry.path
    with reading(path):
        stored = _open(directory, split).frames(int(number))
    if not stored:
        raise VidrecError(f"video {path} has no frame")
    return VideoFrames(path, _decode(path, stored), 0.0, len(stored))


def _decode(path: Path, stored: Iterable[bytes]) -> Iterator[images.Frame]:
    for number, data in enumerate(stored):
        try:
            yield images.decode(data)
        except images.BadFrame as error:
            raise VidrecError(f"video {path}, frame {number}: {error}") from None


def _metadata(directory: Path) -> dict[str, Any]:
    """What dataset_info.json says; where that is wrong, `foreign.load` tells it."""
    try:
        content = json.loads((directory / foreign.FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_array_record(directory: Path) -> bool:
    return _metadata(directory).get("fileFormat") == "array_record"


@functools.lru_cache(maxsize=16)
def _open(directory: Path, split: str) -> Records:
    return (ArrayRecords if _is_array_record(directory) else TFRecords)(directory, split)
