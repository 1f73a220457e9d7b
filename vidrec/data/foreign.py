"""Video records that tensorflow-datasets wrote (ucf101, say), read without TensorFlow.

What `dataset_info.json` and `features.json` say is mapped to a `VideoRecord`. Its frames are the feature of kind
`Video` or else the sequence of encoded images; its label is the `ClassLabel`, with the names of its `.labels.txt`. The
shards get index files like ours, by reading each once; where the folder cannot be written, these stay in memory.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from vidrec.data import example, schema
from vidrec.data.example import BadExample, Span
from vidrec.data.index import ShardIndex, open_index
from vidrec.data.schema import VideoRecord
from vidrec.errors import VidrecError
from vidrec.labels import ClassList

FILE_NAME = "dataset_info.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_IDS = ("video_id", "filename", "id")  # text features that name a video


class Feature(NamedTuple):
    """A feature of features.json: its name in the records, the class it is of, and what more is said of it."""

    name: str
    kind: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class KeyMap:
    """Names of the features that hold frames, label and, where there is one (else ""), the name of the video."""

    frames: str
    label: str
    video_id: str

    def read(self, payload: bytes, name: str) -> VideoRecord[Span]:
        """Reads a record; `name` is the video's where the record has none.

        Raises:
          BadExample: it lacks frames or label.
        """
        features = example.parse(payload)
        label, names = features.get(self.label), features.get(self.video_id)
        if not label or len(label) != 1 or not isinstance(label[0], int):
            raise BadExample(f"feature '{self.label}' should be one integer")
        frames = [span for span in features.get(self.frames, []) if isinstance(span, Span)]
        height, width = _size(payload, frames[0]) if frames else (0, 0)
        if names and isinstance(names[0], Span):
            name = payload[slice(*names[0])].decode(errors="replace")
        record = VideoRecord(
            frames=frames,
            codec="jpeg",
            label=label[0],
            label_text="",
            video_id=name,
            source="",
            height=height,
            width=width,
            fps=0.0,
        )
        schema.check(record, len(frames))
        return record


def _size(payload: bytes, span: Span) -> tuple[int, int]:
    """Height and width by an image's header."""
    try:
        with Image.open(io.BytesIO(payload[slice(*span)])) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 0, 0  # told where it is decoded


@dataclass(frozen=True)
class ForeignData:
    """A folder of tensorflow-datasets: its name, class names, key map, and file and number of records of each shard."""

    directory: Path
    name: str
    classes: ClassList
    keys: KeyMap
    splits: dict[str, list[tuple[str, int]]]

    def open_split(self, split: str) -> list[ShardIndex]:
        """Opens the shards of a split; the first time that takes reading them.

        Raises:
          VidrecError: a shard is missing, damaged, or holds another number of records; BadRecord: a damaged one.
        """
        indexes = []
        for file, records in self.splits[split]:
            index = open_index(self.directory / file, _reader(self.keys, file))
            if len(index) != records:
                raise VidrecError(
                    f"shard {file} in {self.directory} holds {len(index)} records, but {FILE_NAME} says {records}; "
                    "prepare the data set again with tensorflow-datasets"
                )
            indexes.append(index)
        return indexes


def _reader(keys: KeyMap, file: str) -> Callable[[bytes, int], VideoRecord[Span]]:
    # The name that tensorflow-datasets itself gives a record (tfds_id).
    return lambda payload, record: keys.read(payload, f"{file}__{record}")


def load(directory: Path, file_format: str = "tfrecord") -> ForeignData:
    """Reads the metadata of a folder that tensorflow-datasets prepared.

    Args:
      directory: the folder.
      file_format: what its records should be, as tensorflow-datasets calls it.

    Raises:
      VidrecError: they are damaged, of records of another format, or without videos or labels.
    """
    try:
        info = json.loads((directory / FILE_NAME).read_bytes())
        features = list(_features(json.loads((directory / "features.json").read_bytes()), ""))
        name, splits = info["name"], {split["name"]: _shards(info, split) for split in info["splits"]}
        kind = info.get("fileFormat", "tfrecord")
    except FileNotFoundError as error:
        raise VidrecError(f"{error.filename} is missing; prepare the data set again with tensorflow-datasets") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise VidrecError(
            f"{FILE_NAME} or features.json in {directory} is damaged ({why}); prepare the data set again with "
            "tensorflow-datasets"
        ) from None
    if kind != file_format:
        raise VidrecError(
            f"{directory} holds records of format {kind}, not {file_format}; convert it with 'vidrec convert --dataset "
            f"tfds:{name}' or prepare it again with file_format='{file_format}'"
        )
    label = _choose(directory, [one for one in features if one.kind == "ClassLabel"], "label", "label (ClassLabel)")
    frames = _choose(directory, _videos(directory, features), "video", "video (Video, or Sequence of Image)")
    names = [one.name for one in features if one.kind == "Text" and one.name in _IDS]
    keys = KeyMap(frames.name, label.name, min(names, key=_IDS.index, default=""))
    return ForeignData(directory, name, _classes(directory, label), keys, splits)


def _features(node: Mapping[str, Any], name: str) -> Iterator[Feature]:
    """Yields the features below a node of features.json; a sequence of images as one of kind "Images"."""
    kind = str(node["pythonClassName"]).rsplit(".", 1)[1]
    if "featuresDict" in node:
        for key, inner in node["featuresDict"]["features"].items():
            yield from _features(inner, f"{name}/{key}" if name else key)
    elif kind == "Sequence":
        for inner in _features(node["sequence"]["feature"], name):
            yield inner._replace(kind="Images" if inner.kind == "Image" else f"Sequence of {inner.kind}")
    else:
        yield Feature(name, kind, node)


def _videos(directory: Path, features: list[Feature]) -> list[Feature]:
    videos = [one for one in features if one.kind in ("Video", "Images")]
    if not videos and any(one.name == "video" for one in features):
        raise VidrecError(
            f"the feature 'video' of {directory} is no sequence of images, so single frames cannot be read; write the "
            "videos to files and convert them with 'vidrec convert'"
        )
    return videos


def _choose(directory: Path, candidates: list[Feature], name: str, what: str) -> Feature:
    if len(candidates) == 1:
        return candidates[0]
    named = [one for one in candidates if one.name == name]
    if not named:
        found = f"{len(candidates)} ({', '.join(one.name for one in candidates)})" if candidates else "none"
        raise VidrecError(
            f"features.json in {directory} should have one {what}, but has {found}; choose another data set"
        )
    return named[0]


def _classes(directory: Path, label: Feature) -> ClassList:
    file = directory / f"{label.name.replace('/', '.')}.labels.txt"
    if file.is_file():
        return ClassList(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    return ClassList(str(number) for number in range(int(label.content["classLabel"]["numClasses"])))


def _shards(info: Mapping[str, Any], split: Mapping[str, Any]) -> list[tuple[str, int]]:
    """File name and number of records of each shard of a split."""
    lengths = [int(length) for length in split["shardLengths"]]
    files = []
    for number in range(len(lengths)):
        fields = {
            "DATASET": info["name"],
            "SPLIT": split["name"],
            "FILEFORMAT": info.get("fileFormat", "tfrecord"),
            "SHARD_INDEX": f"{number:05d}",
            "NUM_SHARDS": f"{len(lengths):05d}",
            "SHARD_X_OF_Y": f"{number:05d}-of-{len(lengths):05d}",
        }
        files.append(split.get("filepathTemplate", _TEMPLATE).format(**fields))
    return list(zip(files, lengths, strict=True))
