"""The index beside a shard: what it says, when it is built again, and that no damage goes unnoticed."""

import logging
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.data import index as index_module
from vidrec.data import schema
from vidrec.data.index import ShardIndex, StaleIndex, check_binding, index_path, open_index
from vidrec.data.shards import write_shard
from vidrec.data.tfrecord import BadRecord, crc32c
from vidrec.errors import VidrecError


@pytest.fixture
def records(record) -> list:
    return [record(number) for number in range(6)]


@pytest.fixture
def shard(tmp_path: Path, records) -> Path:
    path = tmp_path / "a.tfrecord-00000-of-00001"
    write_shard(path, map(schema.write, records))
    return path


def rebuilt(caplog) -> list[str]:
    return [message for message in caplog.messages if "building it again" in message]


def test_written_and_scanned_indexes_are_the_same_bytes(shard: Path):
    assert index_path(shard).read_bytes() == index_module.build(shard)


def test_rows_say_what_the_records_say(shard: Path, records, caplog):
    index = open_index(shard)
    content = shard.read_bytes()
    assert not caplog.messages
    assert index.records["label"].tolist() == [record.label for record in records]
    assert [index.video_id(number) for number in range(len(index))] == [record.video_id for record in records]
    for number, record in enumerate(records):
        offsets, lengths, crcs = index.frame_table(number)
        frames = [content[start : start + length] for start, length in zip(offsets, lengths, strict=True)]
        assert frames == record.frames
        assert crcs.tolist() == [crc32c(frame) for frame in frames]


def test_a_missing_index_is_built_again_with_a_warning(shard: Path, caplog):
    before = index_path(shard).read_bytes()
    index_path(shard).unlink()
    open_index(shard)
    assert "there is no index" in rebuilt(caplog)[0]
    assert index_path(shard).read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:40],
        lambda content: b"x" * len(content),
        lambda content: content[:8] + struct.pack("<I", 99) + content[12:],
    ],
    ids=["empty", "cut", "longer", "no header", "other file", "other version"],
)
def test_a_damaged_index_is_built_again(shard: Path, damage, caplog):
    before = index_path(shard).read_bytes()
    index_path(shard).write_bytes(damage(before))
    assert len(open_index(shard)) == 6
    assert rebuilt(caplog)
    assert index_path(shard).read_bytes() == before


def test_another_shards_index_is_built_again(shard: Path, tmp_path: Path, record, caplog):
    # Same sizes everywhere, other content: only the CRCs tell.
    other = tmp_path / "b.tfrecord"
    write_shard(other, (schema.write(record(number, split="tests")) for number in range(6)))
    assert other.stat().st_size == shard.stat().st_size
    shutil.copy(index_path(other), index_path(shard))
    assert open_index(shard).video_id(0).startswith("train/")
    assert "not the one in the shard" in rebuilt(caplog)[0]


def test_a_shard_of_another_size_is_noticed(shard: Path, record, caplog):
    write_shard(shard.with_name("longer"), (schema.write(record(number)) for number in range(7)))
    os.replace(shard.with_name("longer"), shard)
    assert len(open_index(shard)) == 7
    assert "made for a shard of" in rebuilt(caplog)[0]


def test_without_the_right_to_write_it_stays_in_memory(shard: Path, monkeypatch, caplog):
    index_path(shard).unlink()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(index_module, "atomic_write", refuse)  # root may write anywhere, so rights cannot be used here
    index = open_index(shard)
    assert "stays in memory" in caplog.text
    assert not index_path(shard).exists()
    assert pickle.loads(pickle.dumps(index)).video_id(3) == index.video_id(3)


def test_a_mapped_index_is_pickled_as_its_path(shard: Path):
    data = pickle.dumps(open_index(shard))
    assert len(data) < 500
    assert pickle.loads(data).records["crc"].tolist() == open_index(shard).records["crc"].tolist()


def test_an_index_changed_while_in_use_is_told(shard: Path, record):
    data = pickle.dumps(open_index(shard))
    write_shard(shard, (schema.write(record(number + 30)) for number in range(6)))
    with pytest.raises(VidrecError, match=r"\.index was changed while in use; start again"):
        pickle.loads(data)
    index_path(shard).unlink()
    with pytest.raises(VidrecError, match=r"there is no index; it was changed while in use, start again"):
        pickle.loads(data)


def test_a_cut_shard_without_index_names_the_last_good_record(shard: Path):
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) - 5])
    with pytest.raises(BadRecord, match="last good record is 4"):
        open_index(shard)
    assert len(ShardIndex(shard, index_path(shard).read_bytes())) == 6  # the good index was not overwritten


def test_a_missing_shard_is_named(tmp_path: Path):
    with pytest.raises(VidrecError, match=r"gone\.tfrecord is missing.*convert"):
        open_index(tmp_path / "gone.tfrecord")


def test_a_shard_of_something_else_is_refused(tmp_path: Path):
    from vidrec.data.example import encode
    from vidrec.data.tfrecord import write_record

    with open(tmp_path / "other.tfrecord", "wb") as file:
        write_record(file, encode({"x": [1]}))
    with pytest.raises(BadRecord, match=r"record 0 of shard other\.tfrecord is not a vidrec video record"):
        open_index(tmp_path / "other.tfrecord")


def test_a_shard_without_records(tmp_path: Path, caplog):
    write_shard(tmp_path / "none", [])
    assert len(open_index(tmp_path / "none")) == 0
    assert not caplog.messages


@given(st.data())
def test_any_flipped_byte_of_an_index_is_noticed_or_harmless(tiny_folder: Path, data):
    """On opening, or when the frames of the record are looked up; what is let through says the truth."""
    shard = tiny_folder / "tiny-train.tfrecord-00000-of-00003"
    content = bytearray(index_path(shard).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    right = open_index(shard)
    try:
        wrong = ShardIndex(shard, bytes(content))
        check_binding(wrong)
    except StaleIndex:
        return
    outcomes = [same_frames(right, wrong, number) for number in range(len(right))]
    assert outcomes.count(False) == 1


def same_frames(right: ShardIndex, wrong: ShardIndex, number: int) -> bool:
    """Whether an index gives the frames of a record, rightly; False where it refuses."""
    try:
        given = wrong.frame_table(number)
    except BadRecord:
        return False
    for ours, theirs in zip(right.frame_table(number), given, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return True


def test_log_goes_to_vidrecs_logger(shard: Path, caplog):
    index_path(shard).unlink()
    with caplog.at_level(logging.WARNING, "vidrec"):
        open_index(shard)
    assert {record.name for record in caplog.records} == {"vidrec.data.index"}
