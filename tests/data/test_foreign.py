"""Folders that tensorflow-datasets prepared: written here by its own builder, read by our reader."""

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidrec.data import index as index_module
from vidrec.data import tfrecord
from vidrec.data.index import index_path
from vidrec.data.records import open_records
from vidrec.data.verify import verify
from vidrec.errors import UsageError, VidrecError


def encoded(number: int, kind: str = "png") -> list[io.BytesIO]:
    """Frames of a video: 3 + number random pictures of 6x8."""
    rng, frames = np.random.default_rng(number), []
    for _ in range(3 + number):
        frames.append(io.BytesIO())
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(frames[-1], kind)
        frames[-1].seek(0)
    return frames


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """A data set of 5 and 2 videos, prepared by tensorflow-datasets through its hook for writers; read only."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.writer import ExampleWriter

    class Writer(ExampleWriter):
        def __init__(self):
            super().__init__(file_format="tfrecord")

        def write(self, path, examples):
            with open(os.fspath(path), "wb") as file:
                for _, example in examples:
                    tfrecord.write_record(file, example)

    class Squares(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("2.0.0")
        code_path = None  # there is nothing beside this file for it to look for

        def _info(self):
            frames = tfds.features.Sequence(tfds.features.Image(shape=(None, None, 3)))
            label = tfds.features.ClassLabel(names=["goes left", "goes right"])
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict({"video": frames, "label": label})
            )

        def _split_generators(self, _):
            return {"train": self._generate_examples(range(5)), "test": self._generate_examples(range(5, 7))}

        def _generate_examples(self, numbers):
            for number in numbers:
                yield number, {"video": encoded(number), "label": number % 2}

        def _example_writer(self):
            return Writer()

    folder = tmp_path_factory.mktemp("tfds")
    builder = Squares(data_dir=folder)
    builder.download_and_prepare()
    return Path(builder.data_dir)


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copy", ignore=shutil.ignore_patterns("*.index")))


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def as_video(content: dict) -> None:
    """Makes the sequence of images a feature of kind Video, as ucf101 has it; the records are the same."""
    content["featuresDict"]["features"]["video"] = {
        "pythonClassName": "tensorflow_datasets.core.features.video_feature.Video",
        "video": {"shape": {"dimensions": ["-1", "6", "8", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"},
    }


@pytest.mark.parametrize("kind", ["Sequence", "Video"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_videos_are_those_that_tensorflow_datasets_decodes(copy: Path, split: str, kind: str):
    import tensorflow_datasets as tfds

    features = tfds.builder_from_directory(copy).info.features
    if kind == "Video":
        edit(copy / "features.json", as_video)
    source = open_records(copy, split)
    assert (source.name, source.classes) == ("squares", ("goes left", "goes right"))
    (shard,) = copy.glob(f"*-{split}.tfrecord-*-of-00001")
    theirs = [features.deserialize_example_np(payload) for _, payload in tfrecord.scan(shard)]
    assert len(source) == len(theirs)
    for i, example in enumerate(theirs):
        assert source.labels[i] == example["label"]
        assert source.video_id(i) == f"{shard.name}__{i}"
        np.testing.assert_array_equal(source.decode_frames(i, range(source.num_frames[i])), list(example["video"]))


def test_the_index_is_kept_beside_the_shards(copy: Path, caplog):
    first = open_records(copy, "train[1:4]")
    assert "there is no index" in caplog.text
    caplog.clear()
    again = open_records(copy, "train[1:4]")
    assert (repr(again), len(again)) == (repr(first), 3)
    assert not caplog.text
    assert pickle.loads(pickle.dumps(again)).read_frames(2, [1]) == first.read_frames(2, [1])


def test_a_folder_that_cannot_be_written(copy: Path, monkeypatch, caplog):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(index_module, "atomic_write", refuse)
    source = open_records(copy, "train")
    assert "stays in memory" in caplog.text
    assert len(pickle.loads(pickle.dumps(source)).decode_frames(0, [0, 1])) == 2


def test_it_joins_our_own(copy: Path, tiny_folder: Path):
    both = open_records([tiny_folder, copy], "test")
    assert both.classes == ("move left", "move right", "stay", "goes left", "goes right")
    assert both.member.tolist() == [0] * 4 + [1] * 2
    assert sorted(both.labels[4:].tolist()) == [3, 4]


def test_other_names_of_features(copy: Path):
    from vidrec.data.foreign import KeyMap, load

    def rename(content: dict) -> None:
        features = content["featuresDict"]["features"]
        frames = features.pop("video")["sequence"]["feature"]
        features["clip"] = {
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "sequence": {
                "feature": {
                    "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
                    "featuresDict": {"features": {"image": frames}},
                }
            },
        }
        features["filename"] = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}

    edit(copy / "features.json", rename)
    (copy / "label.labels.txt").unlink()
    data = load(copy)
    assert data.keys == KeyMap("clip/image", "label", "filename")
    assert data.classes == ("0", "1")


def text_video(content: dict) -> None:
    kind = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}
    content["featuresDict"]["features"]["video"] = kind


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        (
            "dataset_info.json",
            lambda c: c.update(fileFormat="array_record"),
            "format array_record, not tfrecord; .* tfds:squares' .*file_format='tfrecord'",
        ),
        ("dataset_info.json", lambda c: c["splits"][0].update(shardLengths=["4"]), "holds 5 records, but .* says 4"),
        ("dataset_info.json", lambda c: c.pop("name"), "damaged .*KeyError.*prepare the data set again"),
        (
            "features.json",
            lambda c: c["featuresDict"]["features"].pop("label"),
            r"one label \(ClassLabel\), but has none",
        ),
        ("features.json", lambda c: c["featuresDict"]["features"].pop("video"), "one video .* but has none"),
        ("features.json", text_video, "'video' of .* is no sequence of images.*vidrec convert"),
    ],
)
def test_what_cannot_be_read_is_told(copy: Path, file: str, change: Callable, sentence: str):
    edit(copy / file, change)
    with pytest.raises(VidrecError, match=sentence):
        open_records(copy, "train")


def test_files_that_are_missing(copy: Path):
    with pytest.raises(UsageError, match="no split 'validation'; the data set has test, train"):
        open_records(copy, "validation")
    (copy / "squares-test.tfrecord-00000-of-00001").unlink()
    with pytest.raises(VidrecError, match=r"squares-test.* is missing"):
        open_records(copy, "test")
    (copy / "features.json").unlink()
    with pytest.raises(VidrecError, match=r"features\.json is missing; prepare"):
        open_records(copy, "train")
    shutil.copytree(copy, copy / ".convert")  # a folder of ours that is not finished
    with pytest.raises(VidrecError, match=r"has no manifest\.json"):
        open_records(copy, "train")


def test_damage_is_found(copy: Path):
    shard = copy / "squares-train.tfrecord-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(VidrecError, match=r"record . of shard squares-train.* is damaged"):
        open_records(copy, "train")
    assert not index_path(shard).exists()


def test_there_is_nothing_to_verify_it_against(prepared: Path):
    with pytest.raises(VidrecError, match="was prepared by tensorflow-datasets and has nothing to verify it against"):
        verify(prepared)
