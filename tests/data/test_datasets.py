"""Annotation formats: what is read, and which mistakes are told with file and line."""

import os
from pathlib import Path

import pytest

from vidrec.data.datasets import Entry, locate, read_annotations
from vidrec.errors import UsageError, VidrecError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read_list(path: Path, **options):
    return read_annotations("list", path, options)


LIST = "b/1.mp4,run,train\na/2.mp4,walk,train\na/3.avi,eat,test\n"


def test_list_without_header(tmp_path: Path):
    found = read_list(write(tmp_path / "a.csv", LIST))
    assert found.classes == ("eat", "run", "walk")
    assert found.entries == [
        Entry("b/1.mp4", 1, "train", "b/1"),
        Entry("a/2.mp4", 2, "train", "a/2"),
        Entry("a/3.avi", 0, "test", "a/3"),
    ]


def test_header_in_another_order_with_other_columns(tmp_path: Path):
    text = "split, label ,fps,Path\r\n" + "".join(
        f"{split},{label},25,{path}\r\n" for path, label, split in (line.split(",") for line in LIST.splitlines())
    )
    assert read_list(write(tmp_path / "a.csv", "\ufeff" + text)) == read_list(write(tmp_path / "b.csv", LIST))


@pytest.mark.parametrize("header", ["file,class,split", "path,class,split", "Label,Path,subset"])
def test_a_header_with_other_names_is_no_video(tmp_path: Path, header: str):
    with pytest.raises(VidrecError, match=f"begins with the columns {header}, but must name path, label, split"):
        read_list(write(tmp_path / "a.csv", f"{header}\na.mp4,run,train\n"))


def test_a_header_below_blank_lines(tmp_path: Path):
    text = "\n,,\npath,label,split\n"
    assert read_list(write(tmp_path / "a.csv", text + LIST)) == read_list(write(tmp_path / "b.csv", LIST))


def test_a_label_that_is_not_known(tmp_path: Path):
    found = read_list(write(tmp_path / "a.csv", "a.mp4,run,train\nb.mp4,,test\n"))
    assert found.classes == ("run",)
    assert found.entries[1] == Entry("b.mp4", -1, "test", "b")


def test_names_with_commas_quotes_and_blanks(tmp_path: Path):
    text = 'path,label,split\n"my video, 1.mp4","Putting ""it"", there",train\n\n'
    found = read_list(write(tmp_path / "a.csv", text))
    assert found.classes == ('Putting "it", there',)
    assert found.entries[0].path == "my video, 1.mp4"


def test_label_orders(tmp_path: Path):
    file = write(tmp_path / "a.csv", LIST)
    names = write(tmp_path / "names.txt", "walk\nsleep\n\nrun\neat\n")
    assert read_list(file, label_order="file").classes == ("run", "walk", "eat")
    assert read_list(file, classes=str(names)).classes == ("walk", "sleep", "run", "eat")
    assert [entry.label for entry in read_list(file, classes=str(names)).entries] == [2, 0, 3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "lists no video"),
        ("path,label,split\n", "lists no video"),
        ("a.mp4,run,train\nb.mp4,run\n", r"line 2: expected path,label,split, found 'b\.mp4,run'"),
        ("a.mp4,run,train,x\n", "line 1: expected path,label,split"),
        ("a.mp4,run,train\n,run,train\n", "line 2: expected"),
        ("a.mp4,run,train\nb.mp4,run,\n", "line 2: expected"),
        ("a.mp4,run,train\na.mp4,run,test\n", r"lists a\.mp4 and a\.mp4, which have the same name 'a'"),
        ("a.mp4,run,train\na.avi,run,train\n", "same name 'a'"),
    ],
)
def test_mistakes_in_lists(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(VidrecError, match=rf"a\.csv.*{sentence}"):
        read_list(write(tmp_path / "a.csv", text))


def test_lists_that_are_no_text(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VidrecError, match=r"cannot read .*a\.csv.*UTF-8"):
        read_list(tmp_path / "a.csv")


def test_wrong_label_orders(tmp_path: Path):
    file = write(tmp_path / "a.csv", LIST)
    with pytest.raises(UsageError, match="--label-order filee: choose 'sorted' or 'file'"):
        read_list(file, label_order="filee")
    names = write(tmp_path / "names.txt", "walkk\nrun\neat\n")
    with pytest.raises(VidrecError, match=r"line 2: label 'walk' is not in .*names\.txt \(did you mean 'walkk'\?\)"):
        read_list(file, classes=str(names))
    with pytest.raises(UsageError, match="--label-order has no effect with --classes"):
        read_list(file, classes=str(names), label_order="file")
    with pytest.raises(UsageError, match=r"--classes .*gone\.txt: there is no such file"):
        read_list(file, classes=str(tmp_path / "gone.txt"))


# UCF101


@pytest.fixture
def ucf101(tmp_path: Path) -> Path:
    """Its three kinds of files, with the traps of the published ones, as they are: CRLF and two spellings."""
    write(tmp_path / "classInd.txt", "1 ApplyEyeMakeup\r\n2 Archery\r\n3 HandstandPushups\r\n\r\n")
    for number in (1, 2):
        group = f"g{number:02d}"
        train = [
            f"ApplyEyeMakeup/v_ApplyEyeMakeup_{group}_c01.avi 1",
            f"HandStandPushups/v_HandStandPushups_{group}_c01.avi 3",
        ]
        test = ["Archery\\v_Archery_g07_c01.avi", "HandstandPushups/v_HandStandPushups_g07_c02.avi"]
        write(tmp_path / f"trainlist{number:02d}.txt", "\r\n".join(train) + "\r\n")
        write(tmp_path / f"testlist{number:02d}.txt", "\r\n".join(test) + "\r\n")
    return tmp_path


def test_ucf101(ucf101: Path):
    found = read_annotations("ucf101", ucf101, {})
    assert found.classes == ("ApplyEyeMakeup", "Archery", "HandstandPushups")
    assert [(entry.label, entry.split) for entry in found.entries] == [
        (0, "train"),
        (2, "train"),
        (1, "test"),
        (2, "test"),
    ]
    assert found.entries[0].path == "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"
    assert found.entries[2].video_id == "Archery/v_Archery_g07_c01"


def test_ucf101_other_splits(ucf101: Path):
    assert "_g02_" in read_annotations("ucf101", ucf101, {"split_number": 2}).entries[0].path
    with pytest.raises(VidrecError, match=r"trainlist03\.txt does not exist"):
        read_annotations("ucf101", ucf101, {"split_number": 3})
    with pytest.raises(UsageError, match="--split-number 4"):
        read_annotations("ucf101", ucf101, {"split_number": 4})


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("classInd.txt", "1 A\n3 B\n", r"classInd\.txt, line 2: expected '2 ClassName', found '3 B'"),
        ("classInd.txt", "0 A\n", r"line 1: expected '1 ClassName'"),
        ("trainlist01.txt", "Archery/v.avi 1\n", r"trainlist01\.txt, line 1: label 1, but classInd.txt says 2"),
        ("trainlist01.txt", "Archry/v.avi 2\n", r"class 'Archry' is not in classInd\.txt \(did you mean 'Archery'\?\)"),
        ("testlist01.txt", "\nArchery/v.avi 7\n", r"testlist01\.txt, line 2: label 7"),
    ],
)
def test_mistakes_in_ucf101(ucf101: Path, file: str, text: str, sentence: str):
    write(ucf101 / file, text)
    with pytest.raises(VidrecError, match=sentence):
        read_annotations("ucf101", ucf101, {})


def test_groups_in_both_splits_are_told(ucf101: Path, caplog):
    write(ucf101 / "testlist01.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c02.avi\n")
    read_annotations("ucf101", ucf101, {})
    assert "1 groups of videos are in both train and test" in caplog.text


# Which reader, which options


def test_unknown_formats_and_missing_annotations(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no data set format 'ucf11' \(did you mean 'ucf101'\?\)"):
        read_annotations("ucf11", tmp_path, {})
    with pytest.raises(VidrecError, match="gone do not exist"):
        read_annotations("list", tmp_path / "gone", {})


def test_options_that_have_no_effect_are_refused(tmp_path: Path, ucf101: Path):
    file = write(tmp_path / "a.csv", LIST)
    with pytest.raises(UsageError, match="--split-number does not apply to data set format 'list'"):
        read_list(file, split_number=2)
    with pytest.raises(UsageError, match="--label-order does not apply to data set format 'ucf101'"):
        read_annotations("ucf101", ucf101, {"label_order": "file"})
    with pytest.raises(UsageError, match="--split-number does not apply to data set format 'list'"):
        read_list(file, split_number=1)  # its default where it applies
    with pytest.raises(UsageError, match="--label-order does not apply to data set format 'ucf101'"):
        read_annotations("ucf101", ucf101, {"label_order": "sorted"})
    names = write(tmp_path / "names.txt", "eat\nrun\nwalk\n")
    with pytest.raises(UsageError, match="--label-order has no effect with --classes"):
        read_list(file, classes=str(names), label_order="sorted")
    assert read_list(file, split_number=None, label_order=None) == read_list(file)


# Finding files


def test_locate_forgives_case_only(tmp_path: Path):
    (tmp_path / "HandstandPushups").mkdir()
    (tmp_path / "HandstandPushups" / "v_HandStandPushups_g01_c01.avi").touch()
    (tmp_path / "exact").touch()
    found = tmp_path / "HandstandPushups" / "v_HandStandPushups_g01_c01.avi"
    assert locate(tmp_path, "HandStandPushups/v_HandstandPushups_g01_c01.avi") == found
    assert locate(tmp_path, "exact") == tmp_path / "exact"
    assert locate(tmp_path, "Handstand/x.avi") == tmp_path / "Handstand" / "x.avi"
    assert locate(tmp_path, str(found)) == found


def test_locate_forgives_how_accents_are_coded(tmp_path: Path):
    (tmp_path / "cafe\u0301 1.avi").touch()
    assert locate(tmp_path, "caf\u00e9 1.avi") == tmp_path / "cafe\u0301 1.avi"


def test_missing_files_do_not_list_their_folder_each_time(tmp_path: Path, monkeypatch):
    listed: list[Path] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or listdir(folder))
    (tmp_path / "One.avi").touch()
    os.utime(tmp_path, (1e9, 1e9))
    for number in range(5):
        assert locate(tmp_path, f"{number}.avi") == tmp_path / f"{number}.avi"
    assert listed == [tmp_path]
    assert locate(tmp_path, "one.avi") == tmp_path / "One.avi"
    for name in ("Two.avi", "Three.avi"):  # at any speed
        (tmp_path / name).touch()
        assert locate(tmp_path, name.lower()) == tmp_path / name
    (tmp_path / "two.AVI").touch()
    assert locate(tmp_path, "two.avi") == tmp_path / "Two.avi"  # the first of several
