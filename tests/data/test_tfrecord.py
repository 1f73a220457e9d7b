"""TFRecord framing against an independent writer, and every way a file can be damaged."""

import gzip
import pickle
from pathlib import Path

import pytest

from vidrec.data import tfrecord
from vidrec.data.tfrecord import BadRecord

PAYLOADS = [b"", b"a", b"hello" * 10, bytes(range(0, 256, 3))]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "some.tfrecord"
    with open(path, "wb") as file:
        for payload in PAYLOADS:
            tfrecord.write_record(file, payload)
    return path


def test_bytes_equal_tensorboardx(shard: Path, tmp_path: Path):
    from tensorboardX.record_writer import RecordWriter

    writer = RecordWriter(str(tmp_path / "theirs"))
    for payload in PAYLOADS:
        writer.write(payload)
    writer.close()
    assert shard.read_bytes() == (tmp_path / "theirs").read_bytes()


def test_locations_are_where_payloads_lie(shard: Path):
    content = shard.read_bytes()
    found = list(tfrecord.scan(shard))
    assert [payload for _, payload in found] == PAYLOADS
    for location, payload in found:
        assert content[location.offset : location.offset + location.length] == payload
        assert location.crc == tfrecord.crc32c(payload)


def test_write_returns_the_location_that_scan_finds(tmp_path: Path):
    with open(tmp_path / "x", "wb") as out:
        written = [tfrecord.write_record(out, payload) for payload in PAYLOADS]
    assert written == [location for location, _ in tfrecord.scan(tmp_path / "x")]


def test_crc_of_a_view_is_that_of_its_bytes():
    assert tfrecord.crc32c(memoryview(b"..123456789..")[2:-2]) == tfrecord.crc32c(b"123456789") == 0xE3069283
    assert tfrecord.crc32c(memoryview(b"")) == 0


@pytest.mark.parametrize("crc", [0, 1, 0xFFFFFFFF, 0xE3069283])
def test_unmask_undoes_mask(crc: int):
    assert tfrecord.unmask(tfrecord.mask(crc)) == crc


def test_every_flipped_byte_is_found(shard: Path):
    content = shard.read_bytes()
    for place in range(len(content)):
        shard.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        with pytest.raises(BadRecord):
            list(tfrecord.scan(shard))


def test_every_cut_inside_a_record_is_found(shard: Path):
    content = shard.read_bytes()
    ends = {location.offset + location.length + 4 for location, _ in tfrecord.scan(shard)}
    for size in set(range(1, len(content))) - ends:
        shard.write_bytes(content[:size])
        with pytest.raises(BadRecord, match="is cut off"):
            list(tfrecord.scan(shard))


def test_a_cut_names_shard_last_good_record_and_way_out(shard: Path):
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(
        BadRecord, match=r"shard some\.tfrecord is cut off .*last good record is 2.*verify.*convert"
    ) as info:
        list(tfrecord.scan(shard))
    assert (info.value.shard, info.value.record) == ("some.tfrecord", 3)


def test_compressed_files_are_refused_with_advice(shard: Path):
    shard.write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.raises(BadRecord, match=r"compressed.*decompress"):
        list(tfrecord.scan(shard))


def test_an_empty_file_has_no_record(tmp_path: Path):
    (tmp_path / "empty").touch()
    assert list(tfrecord.scan(tmp_path / "empty")) == []


def test_bad_record_survives_pickling():
    error = pickle.loads(pickle.dumps(BadRecord("a sentence", shard="s", record=3, video_id="v")))
    assert (str(error), error.shard, error.record, error.video_id) == ("a sentence", "s", 3, "v")
