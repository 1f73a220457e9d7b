"""Record folders as data sets of tensorflow-datasets."""

import builtins
import shutil
from pathlib import Path

import numpy as np
import pytest

from vidrec.data import manifest, tfds, tfrecord
from vidrec.data.records import open_records


@pytest.fixture(scope="module")
def builder(toy_records: Path):
    import tensorflow_datasets

    return tensorflow_datasets.builder_from_directory(toy_records)


def test_splits_and_labels(builder, toy_records: Path):
    for split in ("train", "test"):
        assert builder.info.splits[split].num_examples == len(open_records(toy_records, split))
    assert tuple(builder.info.features["label"].names) == open_records(toy_records, "train").classes


def test_records_decode_to_the_same_videos(builder, toy_records: Path):
    source = open_records(toy_records, "test")
    (instruction, *_) = builder.info.splits["test"].file_instructions
    for i, (_, payload) in zip(range(3), tfrecord.scan(Path(instruction.filename)), strict=False):
        example = builder.info.features.deserialize_example_np(payload)
        assert example["video_id"].decode() == source.video_id(i)
        assert example["label"] == source.labels[i]
        frames = np.stack(source.decode_frames(i, range(source.num_frames[i])))
        assert np.abs(np.stack(list(example["frames"])).astype(int) - frames).max() <= 4


@pytest.mark.parametrize("part", ["train[:50%]", "train[3:20]", "test[75%:]"])
def test_parts_of_splits_mean_the_same(builder, toy_records: Path, part: str):
    assert builder.info.splits[part].num_examples == len(open_records(toy_records, part))


def test_raw_frames_are_byte_strings(tiny_copy: Path):
    import tensorflow_datasets

    tfds.write_metadata(tiny_copy, manifest.load(tiny_copy))
    features = tensorflow_datasets.builder_from_directory(tiny_copy).info.features
    source = open_records(tiny_copy, "test")
    _, payload = next(tfrecord.scan(tiny_copy / "tiny-test.tfrecord-00000-of-00001"))
    assert list(features.deserialize_example_np(payload)["frames"]) == source.read_frames(0, range(3))


def test_writing_again_changes_nothing(toy_records: Path, tmp_path: Path):
    shutil.copytree(toy_records, tmp_path / "r")
    tfds.write_metadata(tmp_path / "r", manifest.load(toy_records))
    for name in ("dataset_info.json", "features.json", "label.labels.txt"):
        assert (tmp_path / "r" / name).read_bytes() == (toy_records / name).read_bytes()


def test_splits_without_videos(tmp_path: Path, record, write_records):
    folder = write_records(tmp_path / "r", {"train": [[record(0)]], "test": [[]]})
    tfds.write_metadata(folder, manifest.load(folder))
    assert (folder / "dataset_info.json").is_file()


def test_without_the_package_a_warning_says_so(tiny_copy: Path, monkeypatch, caplog):
    real = builtins.__import__

    def refuse(name: str, *args, **kwargs):
        if name == "tensorflow_datasets":
            raise ImportError("no such package")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    tfds.write_metadata(tiny_copy, manifest.load(tiny_copy))
    assert "cannot be imported: no such package" in caplog.text
    assert not (tiny_copy / "dataset_info.json").exists()
