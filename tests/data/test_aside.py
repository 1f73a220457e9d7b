"""Records that cannot be read: set aside by verify, left out and never hidden afterwards."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from vidrec.cli import main
from vidrec.data import aside
from vidrec.data.convert import convert
from vidrec.data.index import index_path
from vidrec.data.records import open_records
from vidrec.data.tfrecord import BadRecord
from vidrec.data.verify import Report, verify
from vidrec.errors import VidrecError

SHARD = "tiny-train.tfrecord-00001-of-00003"


@pytest.fixture
def train(tiny_splits) -> list:
    return [record for shard in tiny_splits["train"] for record in shard]


def flip(folder: Path, at: int) -> None:
    """Damages one byte of the second shard."""
    content = bytearray((folder / SHARD).read_bytes())
    content[at] ^= 4
    (folder / SHARD).write_bytes(content)


def offset(folder: Path, record: int) -> int:
    """Where a record of the second shard begins."""
    index = open_records(folder, "train")[5].source._parts[1].index
    return int(index.records["offset"][record])


def repair(folder: Path) -> Report:
    """Repairs, and checks that a second look finds the same and no problem."""
    report = verify(folder, repair=True)
    again = verify(folder)
    assert (report.problems, again.problems) == ([], [])
    assert (again.aside, again.videos_aside, again.videos) == (report.aside, report.videos_aside, report.videos)
    return report


def test_a_damaged_record_is_set_aside_and_all_numbers_stay(tiny_copy: Path, train, caplog):
    before = open_records(tiny_copy, "train")
    flip(tiny_copy, offset(tiny_copy, 2) + 300)
    (problem,) = verify(tiny_copy).problems
    assert "record 2 of shard" in problem
    assert "1 of its 5 records cannot be read: 'vidrec verify --repair' sets aside" in problem
    report = repair(tiny_copy)
    assert (report.videos_aside, report.videos, report.shards) == (1, 17, 3)
    why = "it is damaged (its CRC does not match)"
    assert f"set aside: record 2 of shard {SHARD} (video 'train/vidéo 007'): {why}" in report.text()
    assert "1 videos are set aside (set_aside.json)" in report.text()
    content = json.loads((tiny_copy / "set_aside.json").read_text())
    entry = {"shard": SHARD, "record": 2, "video_id": "train/vidéo 007", "why": why}
    assert content == {"records": [entry], "cut": []}
    caplog.clear()
    source = open_records(tiny_copy, "train")
    assert source.aside == {7}
    assert "1 of 14 videos are set aside and not read: 'train/vidéo 007'" in caplog.text
    assert (source.digest, source.labels.tolist()) == (before.digest, before.labels.tolist())
    assert open_records(tiny_copy, "test+train[6:9]").aside == {5}
    assert open_records([tiny_copy, tiny_copy], "train").aside == {7, 21}
    assert open_records(tiny_copy, "train[8:]").aside == frozenset()
    for i in {*range(14)} - {7}:
        assert source.read_frames(i, [2]) == [train[i].frames[2]]


@pytest.mark.parametrize("record", [0, 4])
def test_records_that_bind_the_index_to_its_shard(tiny_copy: Path, record: int):
    flip(tiny_copy, offset(tiny_copy, record) - 10)  # in its length
    with pytest.raises(BadRecord):
        open_records(tiny_copy, "train")
    repair(tiny_copy)
    source = pickle.loads(pickle.dumps(open_records(tiny_copy, "train")))
    assert source.aside == {5 + record}
    assert len(source.read_frames(7, [0])) == 1


def test_what_a_cut_shard_lacks_is_set_aside(tiny_copy: Path, train):
    os.truncate(tiny_copy / SHARD, offset(tiny_copy, 3) + 100)
    assert "; 2 of its 5 records cannot be read" in verify(tiny_copy).problems[0]
    report = repair(tiny_copy)
    assert [one.endswith("the shard is cut off before its end") for one in report.aside] == [True, True]
    source = open_records(tiny_copy, "train")
    assert source.aside == {8, 9}
    assert source.read_frames(7, [1]) == [train[7].frames[1]]
    with pytest.raises(BadRecord, match="cut off while in use"):
        source.read_frames(9, [0])


def test_a_shard_that_is_listed_and_gone(tiny_copy: Path):
    flip(tiny_copy, offset(tiny_copy, 2) + 300)
    repair(tiny_copy)
    (tiny_copy / SHARD).unlink()
    with pytest.raises(VidrecError, match=f"{SHARD} is missing"):
        open_records(tiny_copy, "train")


def test_where_the_index_is_damaged_too_the_shard_ends_there(tiny_copy: Path, train, caplog):
    digest = open_records(tiny_copy, "train").digest
    flip(tiny_copy, offset(tiny_copy, 2) - 8)
    index_path(tiny_copy / SHARD).write_bytes(b"")
    report = repair(tiny_copy)
    assert report.videos_aside == 3
    assert f"set aside: all 3 records of shard {SHARD} from number 2 on: the length of record 2" in report.text()
    assert report.repaired == [f"{SHARD}.index"]
    caplog.clear()
    source = open_records(tiny_copy, "train")
    assert "not read are all 3 records of shard" in caplog.text
    assert (len(source), source.aside) == (11, frozenset())
    assert source.digest != digest
    wanted = [*train[:7], *train[10:]]
    assert [source.read_frames(i, [1]) for i in range(11)] == [[record.frames[1]] for record in wanted]
    assert len(open_records(tiny_copy, "train[50%:]")) == 5


def test_bytes_behind_the_last_record_stay_a_problem(tiny_copy: Path):
    """No record is lost, so there is nothing to set aside; but it is not the shard that was written."""
    with open(tiny_copy / SHARD, "ab") as file:
        file.write(b"\0" * 20)
    for _ in range(2):  # with the index and without
        for repaired in (False, True):
            report = verify(tiny_copy, repair=repaired)
            assert (len(report.problems), report.videos_aside) == (1, 0)
        index_path(tiny_copy / SHARD).unlink(missing_ok=True)


def test_a_sound_shard_comes_off_the_list(tiny_copy: Path):
    flip(tiny_copy, offset(tiny_copy, 2) + 300)
    repair(tiny_copy)
    flip(tiny_copy, offset(tiny_copy, 2) + 300)  # as it was
    (problem,) = verify(tiny_copy).problems
    assert "is set aside, but can be read now; 'vidrec verify --repair' takes it off" in problem
    assert repair(tiny_copy).aside == []
    assert not (tiny_copy / "set_aside.json").exists()


def test_more_damage_than_is_listed_is_a_problem(tiny_copy: Path):
    places = [offset(tiny_copy, record) + 300 for record in (2, 3)]
    flip(tiny_copy, places[0])
    repair(tiny_copy)
    flip(tiny_copy, places[1])
    report = verify(tiny_copy)
    (problem,) = report.problems
    assert "; 2 of its 5 records cannot be read" in problem
    assert report.videos_aside == 1
    repair(tiny_copy)
    assert open_records(tiny_copy, "train").aside == {7, 8}
    (tiny_copy / SHARD).unlink()
    (problem,) = verify(tiny_copy).problems
    assert "is missing" in problem


def test_frames_that_cannot_be_decoded_are_set_aside_by_a_deep_look(tmp_path: Path, record, write_records):
    bad = replace(record(1, codec="jpeg"), frames=[b"not a jpeg"] * 4)
    folder = write_records(tmp_path / "r", {"train": [[record(0), bad, record(2)]]})
    assert "set it aside with 'vidrec verify --deep --repair'" in verify(folder, deep=True).problems[0]
    assert verify(folder, deep=True, repair=True).ok
    for deep in (False, True):  # what is listed is always looked at deeply, so it stays on the list
        assert verify(folder, deep=deep).videos_aside == 1
        assert verify(folder, deep=deep).ok
    assert open_records(folder, "train").aside == {1}


def test_shards_made_again_are_cleared(tiny_copy: Path):
    flip(tiny_copy, offset(tiny_copy, 2) + 300)
    repair(tiny_copy)
    aside.clear(tiny_copy, ["tiny-train.tfrecord-00000-of-00003"])
    assert (tiny_copy / "set_aside.json").exists()
    aside.clear(tiny_copy, [SHARD])
    assert not (tiny_copy / "set_aside.json").exists()


def test_a_damaged_list_is_told(tiny_copy: Path):
    for content in ("{", "{}", '{"records": [{"shard": 1}], "cut": []}'):
        (tiny_copy / "set_aside.json").write_text(content)
        for use in (lambda: open_records(tiny_copy, "train"), lambda: verify(tiny_copy)):
            with pytest.raises(VidrecError, match=r"set_aside\.json is damaged .*--repair"):
                use()


def test_remote_records_are_set_aside_too(tiny_copy: Path):
    import fsspec

    os.truncate(tiny_copy / SHARD, offset(tiny_copy, 3) + 100)
    repair(tiny_copy)
    system = fsspec.filesystem("memory")
    system.put(str(tiny_copy), "/aside", recursive=True)
    assert open_records("memory://aside", "train").aside == {8, 9}
    system.rm("/aside", recursive=True)
    with pytest.raises(VidrecError, match="is a remote address; verify the records where they were made"):
        verify("memory://aside")


def test_converting_the_shard_again_clears_it(records: Path, video_list: Path, tmp_path: Path):
    folder = Path(shutil.copytree(records, tmp_path / "records"))
    shard = next(folder.glob("*-test*[0-9]"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1000])
    repair(folder)
    assert open_records(folder, "test").aside
    shard.unlink()
    convert(
        "list", video_list, video_list / "annotations.csv", folder,
        workers=1, short_side=0, quality=95, codec="jpeg", videos_per_shard=10, seed=0,
    )  # fmt: skip
    assert shard.read_bytes() == whole
    assert open_records(folder, "test").aside == frozenset()
    assert verify(folder).ok


def test_the_command_counts_them(tiny_copy: Path, capsys):
    flip(tiny_copy, offset(tiny_copy, 2) + 300)
    assert main(["verify", str(tiny_copy)]) == 1
    assert "1 problems" in capsys.readouterr().err
    assert main(["verify", str(tiny_copy), "--repair"]) == 0
    assert "1 videos are set aside (set_aside.json), training leaves them out" in capsys.readouterr().out
    assert main(["verify", str(tiny_copy), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["videos_aside"], len(report["aside"])) == (True, 1, 1)
