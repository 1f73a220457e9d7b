"""Opening record folders and reading single frames."""

import json
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vidrec.data.clips import ClipSpec, EvalReader, TrainReader
from vidrec.data.index import index_path, open_index
from vidrec.data.openfiles import OpenFiles, Unreadable
from vidrec.data.records import TFRecordSource, open_records
from vidrec.data.tfrecord import BadRecord
from vidrec.errors import UsageError, VidrecError
from vidrec.labels import ClassList


@pytest.fixture
def source(tiny_folder: Path) -> TFRecordSource:
    return open_records(tiny_folder, "train")


@pytest.fixture
def train(tiny_splits) -> list:
    return [record for shard in tiny_splits["train"] for record in shard]


def test_what_a_source_says(source: TFRecordSource, train):
    assert len(source) == 14
    assert source.name == "tiny"
    assert source.classes == ("move left", "move right", "stay")
    assert source.labels.dtype == source.num_frames.dtype == np.int32
    assert source.labels.tolist() == [record.label for record in train]
    assert source.num_frames.tolist() == [len(record.frames) for record in train]
    assert [source.video_id(i) for i in range(14)] == [record.video_id for record in train]
    assert source.describe(7) == "record 2 of shard tiny-train.tfrecord-00001-of-00003 (video 'train/vidéo 007')"


def test_every_frame_of_every_video(source: TFRecordSource, train):
    for i, record in enumerate(train):
        assert source.read_frames(i, range(len(record.frames))) == record.frames


def test_frames_in_any_order_and_repeated(source: TFRecordSource, train):
    frames = train[4].frames
    numbers = np.array([5, 0, 5, 2])
    assert source.read_frames(np.int64(4), numbers) == [frames[number] for number in numbers]
    decoded = source.decode_frames(4, numbers)
    assert decoded[0] is decoded[2]
    assert decoded[1].tobytes() == frames[0]
    assert decoded[1].shape == (6, 8, 3)


def test_items_are_handles(source: TFRecordSource, train):
    handle = source[9]
    assert (handle.record, handle.label, handle.num_frames) == (9, 0, 7)
    assert handle.video_id == train[9].video_id
    assert handle.read_frames([1]) == [train[9].frames[1]]
    assert handle.decode_frames([1])[0].tobytes() == train[9].frames[1]
    assert source[-1].record == 13
    assert [handle.record for handle in source] == list(range(14))


@pytest.mark.parametrize("i", [14, -15])
def test_videos_there_are_not(source: TFRecordSource, i: int):
    with pytest.raises(IndexError):
        source[i]


@pytest.mark.parametrize("number", [-1, 3])
def test_frames_there_are_not(source: TFRecordSource, number: int):
    with pytest.raises(IndexError, match=r"'train/vidéo 000' has 3 frames, not one number"):
        source.read_frames(0, [number])


@pytest.mark.parametrize(
    ("split", "numbers"),
    [
        ("train[3:12]", [*range(3, 12)]),
        ("train[12:]+train[:1]", [12, 13, 0]),
        ("train[50%:]", [*range(7, 14)]),
        ("train[5:6]", [5]),
    ],
)
def test_parts_of_splits(tiny_folder: Path, train, split: str, numbers: list[int]):
    part = open_records(tiny_folder, split)
    assert [part.video_id(i) for i in range(len(part))] == [train[number].video_id for number in numbers]
    assert [part.read_frames(i, [1])[0] for i in range(len(part))] == [train[number].frames[1] for number in numbers]


def test_pickled_and_read_in_another_process(source: TFRecordSource, tmp_path: Path, train):
    source.read_frames(0, [0])  # a file is open
    (tmp_path / "source.pickle").write_bytes(pickle.dumps(source))
    code = (
        "import pickle, sys\n"
        "source = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "sys.stdout.buffer.write(repr(source).encode() + b'|' + source.read_frames(13, [2])[0])\n"
        "assert not {'jax', 'flax', 'grain', 'tensorflow_datasets'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "source.pickle")]
    out = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[2]).stdout
    assert out == repr(source).encode() + b"|" + train[13].frames[2]


def test_text_form_and_digest_do_not_depend_on_the_place(source: TFRecordSource, tiny_copy: Path):
    moved = open_records(tiny_copy, "train")
    assert (repr(moved), moved.digest) == (repr(source), source.digest)
    assert str(tiny_copy) not in repr(moved)


def test_digest_depends_on_content_labels_and_classes(tmp_path: Path, record, write_records: Callable[..., Path]):
    def digest(number: int, records: list) -> str:
        return open_records(write_records(tmp_path / str(number), {"train": [records]}), "train").digest

    base = [record(number) for number in range(3)]
    variants = [base, base[::-1], base[:2], [*base[:2], record(2, label=0)], [*base[:2], record(2, frames=1)]]
    assert len({digest(number, records) for number, records in enumerate(variants)}) == len(variants)
    # How records are spread over shards is no content.
    spread = write_records(tmp_path / "spread", {"train": [base[:1], base[1:]]})
    assert open_records(spread, "train").digest == digest(9, base)


def test_threads_may_share_a_source(source: TFRecordSource, train, monkeypatch):
    monkeypatch.setattr(source, "_files", OpenFiles(max_open=1))  # files are closed and opened all the time
    wrong = []

    def read(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, 14, 300):
            if source.read_frames(i, [2]) != [train[i].frames[2]]:
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_only_the_bytes_of_the_frames_are_read(tiny_copy: Path, train):
    source = open_records(tiny_copy, "train")
    shard = tiny_copy / "tiny-train.tfrecord-00000-of-00003"
    content = bytearray(shard.read_bytes())
    at = content.find(train[1].frames[2])
    content[:at] = bytes(at)
    content[at + len(train[1].frames[2]) :] = bytes(len(content) - at - len(train[1].frames[2]))
    shard.write_bytes(content)
    assert source.read_frames(1, [2]) == [train[1].frames[2]]


def test_a_flipped_byte_of_a_frame_is_a_bad_record(tiny_copy: Path, train):
    shard = tiny_copy / "tiny-train.tfrecord-00001-of-00003"
    content = bytearray(shard.read_bytes())
    content[content.find(train[7].frames[3]) + 50] ^= 1
    shard.write_bytes(content)
    source = open_records(tiny_copy, "train")
    with pytest.raises(BadRecord, match=r"record 2 of .*'train/vidéo 007'\): frame 3 is damaged.*verify") as info:
        source.read_frames(7, [0, 3])
    assert (info.value.record, info.value.video_id) == (2, "train/vidéo 007")
    assert info.value.shard == shard.name
    assert source.read_frames(7, [0, 1, 2, 4]) == [train[7].frames[number] for number in (0, 1, 2, 4)]


def test_a_shard_cut_off_while_in_use_is_a_bad_record(tiny_copy: Path):
    source = open_records(tiny_copy, "train")
    os.truncate(tiny_copy / "tiny-train.tfrecord-00002-of-00003", 100)
    with pytest.raises(BadRecord, match="cut off while in use"):
        source.read_frames(13, [0])


def test_a_damaged_frame_row_is_a_bad_record_of_that_record_alone(tiny_copy: Path, train):
    shard = tiny_copy / "tiny-train.tfrecord-00001-of-00003"
    index = open_index(shard)
    content = bytearray(index.tobytes())
    content[content.index(index.frames[int(index.records["first_row"][2])].tobytes())] ^= 1
    index_path(shard).write_bytes(content)
    source = open_records(tiny_copy, "train")
    with pytest.raises(BadRecord, match=r"record 2 \(video 'train/vidéo 007'\) in index .*damaged.*--repair") as info:
        source.read_frames(7, [0])
    assert (info.value.shard, info.value.record, info.value.video_id) == (shard.name, 2, "train/vidéo 007")
    spec = ClipSpec(num_frames=2, image_size=4, resize=())
    assert TrainReader(source, spec)(7, np.random.default_rng(0)).record == 8  # its policy applies
    assert not EvalReader(source, spec, 1, 1)(7).valid
    for i in {*range(14)} - {7}:
        assert source.read_frames(i, [1]) == [train[i].frames[1]]


def test_what_the_system_refuses_is_no_bad_record(tiny_copy: Path):
    """Neither a file that is gone, nor too many open ones, says anything about the videos: no policy replaces them."""
    source = open_records(tiny_copy, "train")
    reader = TrainReader(source, ClipSpec(num_frames=2, image_size=4, resize=()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(Unreadable, match=r"00000-of-00003 cannot be read \(Too many open files\)"):
            reader(0, np.random.default_rng(0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert reader(0, np.random.default_rng(0)).record == 0
    (tiny_copy / "tiny-train.tfrecord-00002-of-00003").unlink()
    with pytest.raises(Unreadable, match=r"00002-of-00003 cannot be read \(No such file"):
        reader(13, np.random.default_rng(0))


def test_a_shard_that_cannot_be_opened_is_named_at_the_start(tiny_copy: Path):
    index_path(tiny_copy / "tiny-train.tfrecord-00001-of-00003").unlink()
    index_path(tiny_copy / "tiny-train.tfrecord-00001-of-00003").mkdir()
    with pytest.raises(Unreadable, match=r"00001-of-00003\.index cannot be read \(Is a directory\)"):
        open_records(tiny_copy, "train")


def test_a_stored_frame_that_is_no_image_is_a_bad_record(tmp_path: Path, record, write_records):
    from dataclasses import replace

    odd = replace(record(1, codec="jpeg"), frames=[b"not a jpeg"])
    source = open_records(write_records(tmp_path / "r", {"train": [[odd]]}), "train")
    with pytest.raises(BadRecord, match=r"\(video 'train/vidéo 001'\): cannot decode a frame"):
        source.decode_frames(0, [0])


# What is told before any training.


def test_labels_outside_the_classes(tmp_path: Path, record, write_records):
    folder = write_records(tmp_path / "r", {"train": [[record(0), record(1, label=3), record(2, label=-1)]]})
    with pytest.raises(VidrecError, match=r"2 labels are outside 0\.\.2, the first is 3 of video 'train/vidéo 001'"):
        open_records(folder, "train")


def test_videos_without_frames(tmp_path: Path, record, write_records):
    folder = write_records(tmp_path / "r", {"train": [[record(0), record(1, frames=0)]]})
    with pytest.raises(VidrecError, match="1 videos have no frame, the first is 'train/vidéo 001'"):
        open_records(folder, "train")


def test_splits_without_videos(tmp_path: Path, record, write_records):
    folder = write_records(tmp_path / "r", {"train": [[record(0)]], "test": [[]]})
    for split in ("test", "train[:0]"):
        with pytest.raises(VidrecError, match="holds no video"):
            open_records(folder, split)


def test_unknown_split(tiny_folder: Path):
    with pytest.raises(UsageError, match=r"no split 'trian'; the data set has test, train.*did you mean 'train'"):
        open_records(tiny_folder, "trian")


def test_folders_that_are_not_there_or_not_finished(tmp_path: Path):
    with pytest.raises(VidrecError, match=r"does not exist.*vidrec convert"):
        open_records(tmp_path / "nowhere", "train")
    with pytest.raises(VidrecError, match=r"has no manifest\.json.*vidrec convert"):
        open_records(tmp_path, "train")


def test_a_missing_shard(tiny_copy: Path):
    (tiny_copy / "tiny-train.tfrecord-00001-of-00003").unlink()
    with pytest.raises(VidrecError, match=r"tiny-train\.tfrecord-00001-of-00003 is missing"):
        open_records(tiny_copy, "train")
    assert len(open_records(tiny_copy, "test")) == 4


def test_a_truncated_shard(tiny_copy: Path):
    shard = tiny_copy / "tiny-train.tfrecord-00001-of-00003"
    os.truncate(shard, shard.stat().st_size - 3)
    with pytest.raises(VidrecError, match=r"is cut off .*last good record is 3.*vidrec verify"):
        open_records(tiny_copy, "train")


def test_a_shard_of_another_conversion(tiny_copy: Path, tmp_path: Path, record, write_records):
    other = write_records(tmp_path / "other", {"train": [[record(number + 20) for number in range(5)]] * 3})
    name = "tiny-train.tfrecord-00001-of-00003"
    for suffix in ("", ".index"):
        os.replace(other / (name + suffix), tiny_copy / (name + suffix))
    with pytest.raises(VidrecError, match=f"{name} .* is not the one that its manifest names"):
        open_records(tiny_copy, "train")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda content: content.pop("splits"), "is damaged"),
        (lambda content: content.update(schema=7), "schema 7"),
        (lambda content: content["classes"].reverse(), "was changed after it was written"),
        (lambda content: content["splits"]["train"].update(digest="0"), "was changed after it was written"),
    ],
)
def test_manifests_that_cannot_be_trusted(tiny_copy: Path, edit, sentence: str):
    file = tiny_copy / "manifest.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    with pytest.raises(VidrecError, match=rf"manifest\.json .*{sentence}"):
        open_records(tiny_copy, "train")


def test_a_manifest_that_is_not_json(tiny_copy: Path):
    (tiny_copy / "manifest.json").write_text("{")
    with pytest.raises(VidrecError, match="is damaged"):
        open_records(tiny_copy, "train")


def test_a_source_serves_grain(source: TFRecordSource, train):
    import grain

    read = grain.MapDataset.source(source).shuffle(seed=1).map(lambda handle: handle.record)
    assert sorted(read) == list(range(14))


# Several folders as one source.


@pytest.fixture
def folders(tmp_path: Path, record, write_records: Callable[..., Path]) -> list[Path]:
    """Two record folders, the second with other classes: its label 0 is "jump", its label 1 "move right"."""
    first = write_records(tmp_path / "one", {"train": [[record(0), record(1)], [record(2)]]})
    records = [record(20, label=1), record(21, label=0)]
    second = write_records(tmp_path / "two", {"train": [records]}, "two", ClassList(["jump", "move right"]))
    return [first, second]


def test_several_folders_are_one_source(folders: list[Path], record):
    source = open_records(folders, "train")
    assert (len(source), source.name) == (5, "tiny+two")
    assert source.classes == ("move left", "move right", "stay", "jump")
    assert source.labels.tolist() == [0, 1, 2, 1, 3]
    assert source.member.tolist() == [0, 0, 0, 1, 1]
    assert source.labels.dtype == source.member.dtype == np.int32
    wanted = [record(number) for number in (0, 1, 2, 20, 21)]
    assert [source.video_id(i) for i in range(5)] == [one.video_id for one in wanted]
    assert [source.read_frames(i, [1]) for i in range(5)] == [[one.frames[1]] for one in wanted]
    assert open_records(folders, "train[1:]").member.tolist() == [0, 0, 1]
    turned = open_records(folders[::-1], "train")
    assert (turned.classes[:2], turned.labels.tolist()) == (("jump", "move right"), [1, 0, 2, 1, 3])
    assert turned.digest != source.digest


def test_a_list_of_one_folder_is_that_folder(tiny_folder: Path, source: TFRecordSource):
    alone = open_records([tiny_folder], "train")
    assert repr(alone) == repr(source)
    assert alone.member.tolist() == [0] * 14
    assert alone.aside == frozenset()


def test_a_label_outside_the_classes_of_its_own_folder_is_told(tmp_path: Path, folders, record, write_records):
    wrong = write_records(tmp_path / "wrong", {"train": [[record(1, label=3)]]})  # 3 is a class of the union only
    with pytest.raises(VidrecError, match=r"1 labels are outside 0\.\.3"):
        open_records([*folders, wrong], "train")
