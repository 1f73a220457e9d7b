"""Shards as files."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vidrec.data import schema
from vidrec.data.index import index_path, open_index
from vidrec.data.schema import VideoRecord
from vidrec.data.shards import describe, open_shard, shard_name, write_shard
from vidrec.errors import VidrecError
from vidrec.labels import ClassList

CLASSES = ClassList(["move left", "move right", "stay"])


def test_names_are_those_of_tensorflow_datasets():
    assert shard_name("ucf101", "train", 3, 120) == "ucf101-train.tfrecord-00003-of-00120"


# Two records, the second without frames, as TensorFlow 2.21 wrote them: tf.io.TFRecordWriter, of tf.train.Example
# messages serialised deterministically.
BY_TENSORFLOW = base64.b85decode(
    b"9RUCU00000W`9q63Yr265DEojZ)9a-5(f$e3IlRscM1;*17>h@5(p9o3IqTENI?oH3I=9!VQpn|5*`X13Jd@N0s{mE1_uZU3JVGhWMyV"
    b"&XlZI|Y;A6D3J(efXk}?<Xmk<<8UqRe0ty@o3T$CwWo%z`Wq5QF4hjqk3T<z8Wgv2CXJ~W^4hjWqVPa)$5(OFq3IPEM6AB7$b!}f}a$#"
    b"*{a}os_0}25G3J(efb7N>_ZDA4x8UqRe0SX`r26Jz9a${u@777#!5_EE5X>KoeX=KBxZy+%)ZE!RS6bcJ-bYXIIUuJS)ZDkS#8UqRe01"
    b"6%o2zF^?Wp7_;WD*hz5DE@-a$#w1FLr5U!>Ml|F$xX}1$Sv=bZ8O<8UqRe0^<igxZ(f+000000D5Jaf(qXO3J?kfV{c?-V-g1n1quUlV"
    b"Rs4-3Ik?va}o#=1_}fK07yX!3<?Hja$#*{a}ojy016KZ254nzXJ~X11sVei0RjpV3JPptVr6V!bY*yS5(EkY3IGZh3I%LoVr6U+4jK#!"
    b"3jhEA|NsC0|Nj9B6AB7$b!}f}a$#*{a}os_0}25E3J(efb7N>_ZDA4x8UqRe0SXTa26Jz9a${u@1quTS0b&Xi3JY^|VRCd|W^!R|WfBD"
    b"%0}25E3K0qjc4=f~Z(nI-5(Nqa3ISpY4hjW#X=HS05(OFq3IPH^$V~Y"
)


def test_bytes_are_those_of_tensorflow(tmp_path: Path):
    one = VideoRecord(
        frames=[bytes(range(12)), bytes(range(100, 112))],
        codec="raw",
        label=1,
        label_text="move right",
        video_id="train/vidéo 1",
        source="train/vidéo 1.mp4",
        height=2,
        width=2,
        fps=12.5,
    )
    two = replace(one, frames=[], label=-1, label_text="", video_id="b", source="b")
    index = write_shard(tmp_path / "s", map(schema.write, (one, two)))
    assert (tmp_path / "s").read_bytes() == BY_TENSORFLOW
    assert [index.video_id(record) for record in range(2)] == ["train/vidéo 1", "b"]


@pytest.mark.parametrize("codec", schema.CODECS)
def test_bytes_are_those_of_protobuf_and_tensorboardx(tmp_path: Path, record, codec: str):
    from tensorboardX.record_writer import RecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    records = [record(number, codec=codec) for number in range(3)]
    write_shard(tmp_path / "ours", map(schema.write, records))
    writer = RecordWriter(str(tmp_path / "theirs"))
    for one in records:
        message = tf_example_pb2.Example()
        feature = message.features.feature
        feature["video" if codec == "mp4" else "frames"].bytes_list.value.extend(one.frames)
        for name in ("codec", "label_text", "video_id", "source"):
            feature[name].bytes_list.value.append(getattr(one, name).encode())
        for name in ("label", "height", "width", "start_frame"):
            feature[name].int64_list.value.append(getattr(one, name))
        feature["num_frames"].int64_list.value.append(3 + int(one.video_id[-1]) % 5)
        feature["fps"].float_list.value.append(one.fps)
        feature["schema"].int64_list.value.append(1)
        writer.write(message.SerializeToString(deterministic=True))
    writer.close()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


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
