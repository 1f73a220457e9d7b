"""A record folder of small synthetic videos, written once per session, and a way to write others."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vidrec.data import schema
from vidrec.data.convert import convert
from vidrec.data.manifest import Manifest
from vidrec.data.schema import VideoRecord
from vidrec.data.shards import describe_split, shard_name, write_shard
from vidrec.data.toy import make_toy
from vidrec.labels import ClassList

CLASSES = ClassList(["move left", "move right", "stay"])


def make_record(
    number: int, *, label: int | None = None, frames: int | None = None, codec: str = "raw", split: str = "train"
) -> VideoRecord[bytes]:
    """A video of 3 + number % 5 frames of random pixels, 6x8, of class `number % 3`."""
    rng = np.random.default_rng(number + (0 if split == "train" else 1000))
    count = 3 + number % 5 if frames is None else frames
    pixels = rng.integers(0, 256, (count, 6, 8, 3), np.uint8)
    label = number % 3 if label is None else label
    return VideoRecord(
        frames=schema.encode_video(pixels, codec, 95, 12.5),
        codec=codec,
        label=label,
        label_text=CLASSES[label] if 0 <= label < len(CLASSES) else "",
        video_id=f"{split}/vidéo {number:03d}",
        source=f"{split}/vidéo {number:03d}.mp4",
        height=6,
        width=8,
        fps=12.5,
    )


def write_folder(
    folder: Path,
    splits: dict[str, Sequence[Sequence[VideoRecord[bytes]]]],
    name: str = "tiny",
    classes: ClassList = CLASSES,
) -> Path:
    """Writes a record folder: of each split the records of each shard."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {}
    for split, shards in splits.items():
        indexes = [
            write_shard(folder / shard_name(name, split, number, len(shards)), map(schema.write, records))
            for number, records in enumerate(shards)
        ]
        described[split] = describe_split(indexes, classes)
    Manifest(name, "raw", classes, described, {"seed": 0}, "0" * 16).save(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_splits() -> dict[str, list[list[VideoRecord[bytes]]]]:
    """Records of the tiny set: 14 training videos in 3 shards, 4 test videos in one."""
    train = [make_record(number) for number in range(14)]
    test = [make_record(number, split="test") for number in range(4)]
    return {"train": [train[:5], train[5:10], train[10:]], "test": [test]}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, tiny_splits) -> Path:
    """The tiny set as a record folder; read only."""
    return write_folder(tmp_path_factory.mktemp("tiny") / "records", tiny_splits)


@pytest.fixture
def tiny_copy(tmp_path: Path, tiny_splits) -> Path:
    """The tiny set as a record folder of this test's own, to be damaged."""
    return write_folder(tmp_path / "records", tiny_splits)


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy set of every family: 4 training videos and 2 evaluation clips (in both orders) of each."""
    folder = tmp_path_factory.mktemp("toy") / "videos"
    make_toy(folder, level="benchmark", seed=3, train_per_family=4, eval_per_family=2, size=32, workers=1)
    return folder


@pytest.fixture(scope="session")
def toy_records(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy set as a record folder; read only."""
    folder = tmp_path_factory.mktemp("toy") / "records"
    convert("list", toy_folder, toy_folder / "annotations.csv", folder, workers=1, videos_per_shard=20)
    return folder


@pytest.fixture(scope="session")
def write_records() -> Callable[..., Path]:
    """`write_folder`."""
    return write_folder


@pytest.fixture(scope="session")
def record() -> Callable[..., VideoRecord[bytes]]:
    """`make_record`."""
    return make_record
