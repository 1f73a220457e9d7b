"""Verification: a sound folder passes, and whatever is changed in it is found."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.data.index import index_path
from vidrec.data.records import open_records
from vidrec.data.verify import verify
from vidrec.errors import VidrecError

SHARD = "tiny-train.tfrecord-00001-of-00003"


def only_problem(folder: Path, **options) -> str:
    problems = verify(folder, **options).problems
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize("deep", [False, True])
def test_sound_folders(tiny_folder: Path, toy_records: Path, deep: bool):
    report = verify(tiny_folder, deep=deep)
    assert (report.problems, report.shards, report.videos) == ([], 4, 18)
    assert report.frames == sum(open_records(tiny_folder, "train+test").num_frames)
    assert verify(toy_records, deep=deep).ok


def test_reports_for_people_and_programs(tiny_copy: Path):
    (tiny_copy / SHARD).unlink()
    report = verify(tiny_copy)
    assert "13 videos" in report.text()
    assert "3 shards" in report.text()
    assert f"problem: shard {SHARD} is missing" in report.text()
    assert json.loads(json.dumps(report.as_dict()))["ok"] is False


def test_progress(tiny_folder: Path):
    seen: list[tuple[int, int]] = []
    verify(tiny_folder, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 4) for done in range(5)]


@given(data=st.data())
def test_any_flipped_byte_anywhere_is_found(tiny_folder: Path, tmp_path_factory, data):
    names = sorted(file.name for file in tiny_folder.glob("*tfrecord*"))
    name = data.draw(st.sampled_from(names))
    content = bytearray((tiny_folder / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    folder = tmp_path_factory.mktemp("flipped")
    for file in tiny_folder.iterdir():
        os.link(file, folder / file.name)
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    problem = only_problem(folder)
    assert name.removesuffix(".index") in problem
    assert "vidrec" in problem
    shutil.rmtree(folder)


@pytest.mark.parametrize("cut", [1, 4, 100, 1000])
def test_cut_shards(tiny_copy: Path, cut: int):
    os.truncate(tiny_copy / SHARD, (tiny_copy / SHARD).stat().st_size - cut)
    assert "is cut off" in only_problem(tiny_copy)


def test_a_shard_cut_between_records(tiny_copy: Path):
    first = open_records(tiny_copy, "train[5:6]")
    row = first._parts[0][0].records[0]
    os.truncate(tiny_copy / SHARD, int(row["offset"] + row["length"]) + 4)
    problem = only_problem(tiny_copy)
    assert "is not the one in the manifest" in problem
    assert "; 4 of its 5 records cannot be read: 'vidrec verify --repair' sets aside" in problem


def test_something_appended(tiny_copy: Path):
    with open(tiny_copy / SHARD, "ab") as file:
        file.write(b"\0" * 20)
    assert SHARD in only_problem(tiny_copy)


def test_missing_and_wrong_indexes_are_found_and_repaired(tiny_copy: Path):
    before = index_path(tiny_copy / SHARD).read_bytes()
    for damage in (b"", before[:-1], before + b"\0", None):
        if damage is None:
            index_path(tiny_copy / SHARD).unlink()
        else:
            index_path(tiny_copy / SHARD).write_bytes(damage)
        assert "--repair" in only_problem(tiny_copy)
        report = verify(tiny_copy, repair=True)
        assert (report.problems, report.repaired) == ([], [index_path(tiny_copy / SHARD).name])
        assert index_path(tiny_copy / SHARD).read_bytes() == before


def test_swapped_shards(tiny_copy: Path):
    one, two = (tiny_copy / f"tiny-train.tfrecord-0000{number}-of-00003" for number in (0, 1))
    for suffix in ("", ".index"):
        first, second = Path(f"{one}{suffix}"), Path(f"{two}{suffix}")
        kept = first.read_bytes()
        shutil.copy(second, first)
        second.write_bytes(kept)
    problems = verify(tiny_copy).problems
    assert sum("is not the one in the manifest" in problem for problem in problems) == 2


def test_content_that_makes_no_sense(tmp_path: Path, record, write_records):
    records = [
        record(0, label=7),
        replace(record(1), label_text="stay"),
        record(2, frames=0),
        record(3),
        replace(record(4), video_id="train/vidéo 003"),
    ]
    problems = verify(write_records(tmp_path / "r", {"train": [records]})).problems
    assert len(problems) == 4
    said = "labelled 'stay', but class 1 of the manifest is 'move right'"
    for problem, sentence in zip(problems, ["label 7, outside 0..2", said, "has no frame", "twice"], strict=True):
        assert sentence in problem
    assert "record 0 of shard tiny-train.tfrecord-00000-of-00001 (video 'train/vidéo 000')" in problems[0]


def test_the_same_video_in_two_splits(tmp_path: Path, record, write_records):
    folder = write_records(tmp_path / "r", {"train": [[record(0)]], "test": [[record(0)]]})
    assert "video 'train/vidéo 000' is there twice" in only_problem(folder)


def test_splits_that_share_videos_under_other_names(tmp_path: Path, record, write_records):
    train, test = [record(number) for number in range(6)], [replace(record(4), video_id="other"), record(7)]
    problem = only_problem(write_records(tmp_path / "r", {"train": [train[:3], train[3:]], "test": [test]}))
    assert "splits 'train' and 'test' share 1 videos, such as 'train/vidéo 004' and 'other'" in problem


def test_a_split_that_has_videos_twice_under_other_names(tmp_path: Path, record, write_records):
    twins = [replace(record(number), video_id=f"twin {number}") for number in (4, 2)]
    unlabelled = replace(record(3), video_id="twin 3", label=-1, label_text="")
    empty = [record(number, frames=0) for number in (8, 9)]
    report = verify(write_records(tmp_path / "noted", {"train": [[record(n) for n in range(6)], twins, [unlabelled]]}))
    note = (
        "split 'train' has 3 videos twice under other names, such as 'train/vidéo 004' and 'twin 4', 'train/vidéo 002'"
    )
    assert report.ok  # no test is the less fair for it
    assert [line.startswith(note) for line in report.notes] == [True]
    assert f"note: {note}" in report.text()
    other = replace(record(4, label=0), video_id="other")
    report = verify(write_records(tmp_path / "r", {"train": [[record(4), record(2), *twins, other], empty]}))
    assert "split 'train' has 2 videos twice" in report.notes[0]
    assert ["has no frame" in problem for problem in report.problems] == [True, True, False]
    told = "split 'train' has 1 videos twice under other names and labels, such as 'train/vidéo 004' and 'other'; leave"
    assert report.problems[2].startswith(told)


def test_videos_that_three_splits_share_are_told_of_each_two(tmp_path: Path, record, write_records):
    named = {split: [[replace(record(4), video_id=split)]] for split in ("train", "val", "test")}
    problems = verify(write_records(tmp_path / "r", named)).problems
    assert [problem.partition(" share")[0] for problem in problems] == [
        "splits 'train' and 'val'", "splits 'train' and 'test'", "splits 'val' and 'test'",
    ]  # fmt: skip


def test_splits_that_share_groups_of_ucf101(tmp_path: Path, record, write_records):
    def named(number: int, name: str):
        return replace(record(number), video_id=name)

    train = [named(0, "Archery/v_Archery_g01_c01"), named(1, "Archery/v_Archery_g01_c02"), named(2, "x/v_Bow_g02_c01")]
    fair = [named(3, "Archery/v_Archery_g02_c01"), named(4, "v_Bow_g01_c01")]
    assert verify(write_records(tmp_path / "fair", {"train": [train], "test": [fair]})).ok
    folder = write_records(tmp_path / "r", {"train": [train], "test": [[*fair, named(5, "Archery/v_Archery_g01_c07")]]})
    assert "splits 'train' and 'test' share 1 groups of videos, such as v_Archery_g01" in only_problem(folder)


def test_only_a_deep_look_sees_frames_that_cannot_be_decoded(tmp_path: Path, record, write_records):
    good = record(1, codec="jpeg")
    bad = replace(good, frames=[good.frames[0], b"not a jpeg"])
    sized = replace(record(2, codec="jpeg"), height=12)
    folder = write_records(tmp_path / "r", {"train": [[bad, sized]]})
    assert verify(folder).ok
    problems = verify(folder, deep=True).problems
    assert "(video 'train/vidéo 001'): frame 1: cannot decode" in problems[0]
    assert "frame 0 is 6x8, not 12x8 (and 4 frames more)" in problems[1]


def test_wrong_counts_in_the_manifest(tiny_copy: Path):
    file = tiny_copy / "manifest.json"
    content = json.loads(file.read_text())
    content["splits"]["train"]["labels"]["stay"] += 1
    file.write_text(json.dumps(content))
    assert "counts or digest of split 'train'" in only_problem(tiny_copy)


def test_unfinished_folders(tiny_copy: Path, tmp_path: Path):
    (tiny_copy / ".convert").mkdir()
    assert "is unfinished" in only_problem(tiny_copy)
    with pytest.raises(VidrecError, match=r"has no manifest\.json"):
        verify(tmp_path)
