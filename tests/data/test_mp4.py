"""Videos of one MP4: every frame alone is the frame of the whole, and what is no such file is told."""

import builtins
import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.data import mp4, schema, tfds, tfrecord, verify
from vidrec.data.clips import ClipSpec, TrainReader
from vidrec.data.example import BadExample, Span, encode
from vidrec.data.images import BadFrame
from vidrec.data.records import open_records
from vidrec.data.tfrecord import BadRecord
from vidrec.data.video import write_mp4
from vidrec.errors import VidrecError


def moving(count: int, height: int, width: int) -> np.ndarray:
    """Smooth pictures that shift by two pixels from frame to frame."""
    y, x = np.mgrid[:height, :width]
    shades = [np.stack([x * 3 + 2 * t, y * 4, x + y + 2 * t], -1) for t in range(count)]
    return (np.stack(shades) % 200).astype(np.uint8)


@pytest.fixture(scope="module")
def video() -> bytes:
    return mp4.encode(moving(6, 24, 32), 95, 12.5)


def spans(data: bytes) -> list[Span]:
    return mp4.frame_spans(data, Span(0, len(data)))


def decode_all(data: bytes) -> list[np.ndarray]:
    """By PyAV, from the file, one frame after the other."""
    import av

    with av.open(io.BytesIO(data)) as container:
        assert float(container.streams.video[0].average_rate or 0) == 12.5
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_each_frame_alone_is_that_of_the_whole_file(video: bytes):
    whole = decode_all(video)
    found = spans(video)
    assert len(whole) == len(found) == 6
    for number in (5, 0, 3):
        np.testing.assert_array_equal(mp4.decode_frame(video[slice(*found[number])], 24, 32), whole[number])


def test_frames_are_where_a_demuxer_finds_them(video: bytes):
    import av

    with av.open(io.BytesIO(video)) as container:
        packets = [(packet.pos, packet.pos + packet.size) for packet in container.demux(video=0) if packet.size]
    assert [tuple(span) for span in spans(video)] == packets
    shifted = b"before" + video + b"behind"
    assert mp4.frame_spans(shifted, Span(6, 6 + len(video))) == [Span(a + 6, b + 6) for a, b in spans(video)]


def test_quality_is_that_of_pictures(video: bytes):
    frames = moving(6, 24, 32)

    def error(data: bytes) -> float:
        return float(np.abs(np.stack(decode_all(data)).astype(int) - frames).mean())

    coarse = mp4.encode(frames, 50, 12.5)
    assert len(coarse) < len(video)
    assert error(video) < min(6, error(coarse))


def test_odd_sides_are_padded_and_cut_again():
    frames = moving(3, 23, 31)
    data = mp4.encode(frames, 95, 12.5)
    assert decode_all(data)[0].shape == (24, 32, 3)
    for span, frame in zip(spans(data), frames, strict=True):
        decoded = mp4.decode_frame(data[slice(*span)], 23, 31)
        assert decoded.shape == (23, 31, 3)
        assert np.abs(decoded.astype(int) - frame).mean() < 6
    with pytest.raises(BadFrame, match="decodes to 24x32, not 23x30"):
        mp4.decode_frame(data[slice(*spans(data)[0])], 23, 30)


def test_the_same_frames_are_the_same_bytes(video: bytes):
    assert mp4.encode(iter(moving(6, 24, 32)), 95, 12.5) == video
    assert mp4.encode([], 95, 12.5) == b""
    with pytest.raises(VidrecError, match="must have one size"):
        mp4.encode([*moving(1, 24, 32), *moving(1, 24, 30)], 95, 12.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, record, write_records) -> Path:
    shards = [[record(number, codec="mp4") for number in part] for part in ((0, 1, 2), (3, 4))]
    return write_records(tmp_path_factory.mktemp("mp4") / "records", {"train": shards})


def test_records_give_their_frames_in_any_order(folder: Path, record):
    source = open_records(folder, "train")
    assert source.num_frames.tolist() == [3, 4, 5, 6, 7]
    for i in range(5):
        whole = decode_all(record(i, codec="mp4").frames[0])
        numbers = [int(source.num_frames[i]) - 1, 0, 0, 2]
        decoded = source.decode_frames(i, numbers)
        assert decoded[1] is decoded[2]
        for frame, number in zip(decoded, numbers, strict=True):
            np.testing.assert_array_equal(frame, whole[number])
    clip = TrainReader(source, ClipSpec(num_frames=2, image_size=4, resize=()))(3, np.random.default_rng(0))
    assert clip.record == 3
    assert verify.verify(folder, deep=True).ok


def test_a_damaged_frame_is_a_bad_record_and_the_others_are_right(tmp_path: Path, record, write_records):
    folder = write_records(tmp_path / "r", {"train": [[record(4, codec="mp4")]]})
    source = open_records(folder, "train")
    before = source.read_frames(0, range(7))
    shard = folder / "tiny-train.tfrecord-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[content.find(before[3]) + 40] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BadRecord, match=r"vidéo 004'\): frame 3 is damaged"):
        source.decode_frames(0, [2, 3])
    assert source.read_frames(0, [2, 4]) == [before[2], before[4]]


@given(data=st.data())
def test_an_edited_frame_is_a_picture_or_a_bad_frame(video: bytes, data):
    frame = bytearray(video[slice(*spans(video)[2])])
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(BadFrame):
        assert mp4.decode_frame(bytes(frame), 24, 32).shape == (24, 32, 3)


@given(data=st.data())
def test_an_edited_file_has_frames_or_is_no_record(video: bytes, data):
    edited = bytearray(video)
    at = data.draw(st.one_of(st.integers(0, 60), st.integers(len(video) - 900, len(video) - 1)))
    edited[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        found = spans(bytes(edited))
    except BadExample:
        return
    assert all(0 <= span.start <= span.stop <= len(edited) for span in found)


def test_files_whose_frames_need_each_other_are_no_records(tmp_path: Path, record):
    write_mp4(tmp_path / "x.mp4", moving(12, 24, 32), 12.5, intra_only=False)
    data = (tmp_path / "x.mp4").read_bytes()
    with pytest.raises(BadExample, match="depend on each other"):
        spans(data)
    with pytest.raises(BadExample, match="not a whole MP4"):
        spans(b"\0\0\0\x08free")
    fields = {"codec": [b"mp4"], "label": [1], "video_id": [b"x"], "num_frames": [1], "height": [1], "width": [1]}
    with pytest.raises(BadExample, match="not a whole MP4"):
        schema.read(encode({"video": [b"<html>"], "schema": [1], **fields}))
    one = record(1, codec="mp4")
    payload = schema.write(replace(one, frames=[mp4.encode(moving(8, 24, 32), 95, 12.5)]))
    counted = b"num_frames\x12\x05\x1a\x03\n\x01"
    with pytest.raises(BadExample, match="says 4 but there are 8"):
        schema.read(payload.replace(counted + b"\x08", counted + b"\x04"))


def test_it_is_a_tensorflow_data_set(folder: Path, record):
    import tensorflow_datasets

    from vidrec.data import manifest

    info = manifest.load(folder)
    info.codec = "mp4"
    tfds.write_metadata(folder, info)
    features = tensorflow_datasets.builder_from_directory(folder).info.features
    _, payload = next(tfrecord.scan(folder / "tiny-train.tfrecord-00000-of-00002"))
    assert features.deserialize_example_np(payload)["video"] == record(0, codec="mp4").frames[0]


def test_without_pyav_one_sentence_says_how_to_get_it(folder: Path, monkeypatch):
    real = builtins.__import__

    def refuse(name: str, *args, **kwargs):
        if name.partition(".")[0] == "av":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    source = open_records(folder, "train")
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert len(source.read_frames(0, [0])) == 1
    reader = TrainReader(source, ClipSpec(num_frames=2, image_size=4, resize=()))
    with pytest.raises(VidrecError, match=r"codec mp4 need PyAV: pip install 'vidrec\[video\]'"):
        reader(0, np.random.default_rng(0))  # the policy for bad records does not replace it
