"""Shards as files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from vidrec.data import schema
from vidrec.data.index import index_path, open_index
from vidrec.data.shards import describe, open_shard, shard_name, write_shard
from vidrec.errors import VidrecError
from vidrec.labels import ClassList

CLASSES = ClassList(["move left", "move right", "stay"])


def test_names_are_those_of_tensorflow_datasets():
    assert shard_name("ucf101", "train", 3, 120) == "ucf101-train.tfrecord-00003-of-00120"


def test_the_returned_index_is_the_one_on_disk(tmp_path: Path, record):
    index = write_shard(tmp_path / "s", (schema.write(record(number)) for number in range(3)))
    assert index.tobytes() == index_path(tmp_path / "s").read_bytes()
    assert describe(index, CLASSES) == describe(open_index(tmp_path / "s"), CLASSES)


def test_a_failure_leaves_no_file(tmp_path: Path, record):
    def payloads() -> Iterator[bytes]:
        yield schema.write(record(0))
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_shard(tmp_path / "s", payloads())
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_shard_that_was_there(tmp_path: Path, record):
    write_shard(tmp_path / "s", [schema.write(record(0))])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(VidrecError, match="not a vidrec video record"):
        write_shard(tmp_path / "s", [schema.write(record(1)), b"nonsense"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_shard_never_appears_before_its_index(tmp_path: Path, record):
    index_path(tmp_path / "s").mkdir()  # so that the index cannot take its place
    with pytest.raises(OSError, match="directory"):
        write_shard(tmp_path / "s", [schema.write(record(0))])
    assert [path.name for path in tmp_path.iterdir()] == [index_path(tmp_path / "s").name]


def test_another_shard_of_the_name_is_refused(tmp_path: Path, record):
    said = describe(write_shard(tmp_path / "s", [schema.write(record(0))]), CLASSES)
    assert len(open_shard(tmp_path, said, CLASSES)) == 1
    write_shard(tmp_path / "s", [schema.write(record(1))])
    with pytest.raises(VidrecError, match="is not the one that its manifest names"):
        open_shard(tmp_path, said, CLASSES)
