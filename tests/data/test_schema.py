"""What a record says, and records that contradict themselves."""

from dataclasses import replace

import numpy as np
import pytest

from vidrec.data import example, schema
from vidrec.data.images import BadFrame


@pytest.mark.parametrize("codec", schema.CODECS)
def test_a_record_reads_back(record, codec: str):
    written = record(4, codec=codec)
    payload = schema.write(written)
    read = schema.read(payload)
    stored = [payload[slice(*span)] for span in read.frames]
    if codec == "mp4":
        assert len(stored) == 7
        assert b"".join(stored) in written.frames[0]
    else:
        assert stored == written.frames
    assert replace(read, frames=written.frames) == written


@pytest.mark.parametrize("codec", schema.CODECS)
def test_a_record_without_frames_reads_back(record, codec: str):
    assert schema.read(schema.write(record(1, frames=0, codec=codec))).frames == []


def test_writing_is_deterministic(record):
    assert schema.write(record(5)) == schema.write(record(5)) != schema.write(record(6))


def test_records_are_examples_of_protobuf(record):
    from tensorflow_datasets.proto import tf_example_pb2

    message = tf_example_pb2.Example.FromString(schema.write(record(2)))
    feature = message.features.feature
    assert list(feature["frames"].bytes_list.value) == record(2).frames
    assert list(feature["label"].int64_list.value) == [2]
    assert feature["video_id"].bytes_list.value[0].decode() == "train/vidéo 002"
    assert list(feature["fps"].float_list.value) == [12.5]
    assert message.SerializeToString(deterministic=True) == schema.write(record(2))


FEATURES = {
    "frames": [b"12", b"345"], "codec": [b"raw"], "label": [1], "video_id": [b"x"], "num_frames": [2],
    "height": [1], "width": [1], "schema": [1],
}  # fmt: skip


def test_optional_fields_may_be_missing():
    read = schema.read(example.encode(FEATURES))
    assert (read.label_text, read.source, read.fps, read.start_frame) == ("", "", 0.0, 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_frames": [3]}, "'num_frames' says 3 but there are 2 frames"),
        ({"codec": [b"h266"]}, "codec is 'h266'"),
        ({"schema": [9]}, "follows schema 9"),
        ({"label": [1, 2]}, "'label' should be one integer"),
        ({"label": [1 << 40]}, "out of range"),
        ({"video_id": [7]}, "'video_id' should be one string"),
        ({"height": []}, "'height' should be one integer"),
    ],
)
def test_contradictions_are_found(change: dict, sentence: str):
    with pytest.raises(example.BadExample, match=sentence):
        schema.read(example.encode(FEATURES | change))


def test_raw_frames_are_exact():
    frame = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    sliced = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)[::2, ::2]
    for pixels in (frame, sliced):
        data = schema.encode_frame(pixels, "raw", 95)
        np.testing.assert_array_equal(schema.decode_frame(data, "raw", 2, 4), pixels)
    with pytest.raises(BadFrame, match="raw frame of 2x4 has 24 bytes, not 23"):
        schema.decode_frame(data[:-1], "raw", 2, 4)
