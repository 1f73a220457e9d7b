"""The published data sets' annotation files, with their traps: what is read from each, and which mistakes are told."""

import json
from pathlib import Path

import pytest

from vidrec.data.datasets import Annotations, Entry, read_annotations
from vidrec.errors import UsageError, VidrecError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read(dataset: str, path: Path, **options) -> Annotations:
    return read_annotations(dataset, path, options)


def in_split(found: Annotations, split: str) -> list[tuple[str, int]]:
    return [(entry.path, entry.label) for entry in found.entries if entry.split == split]


# HMDB51


@pytest.fixture
def hmdb51(tmp_path: Path) -> Path:
    """Two classes and three splits; names with signs, lines with trailing blanks, videos in neither split."""
    lines = {
        "wave": "#20_Rhythm_clap(1)_u_nm_np1_fr_goo_0.avi {0} \n[Elephant]=)&!_wave_u_cm_np1_le_med_1.avi {1} \n",
        "brush_hair": "April_09_brush_hair_u_nm_np1_ba_goo_0.avi {0} \r\na.b.c_brush_hair_h_0.avi 0 \r\nx.avi {1} \r\n",
    }
    for name, text in lines.items():
        for number in (1, 2, 3):
            where = tmp_path / "testTrainMulti_7030_splits" / f"{name}_test_split{number}.txt"
            write(where, text.format(*((1, 2) if number != 2 else (2, 1))))
            write(where.with_name(f"._{where.name}"), "what a Mac leaves in archives")
    return tmp_path


def test_hmdb51(hmdb51: Path):
    found = read("hmdb51", hmdb51 / "testTrainMulti_7030_splits")
    assert found.classes == ("brush_hair", "wave")  # sorted, whatever the order in the folder
    assert in_split(found, "train") == [
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", 0),
        ("wave/#20_Rhythm_clap(1)_u_nm_np1_fr_goo_0.avi", 1),
    ]
    assert in_split(found, "test") == [
        ("brush_hair/x.avi", 0),
        ("wave/[Elephant]=)&!_wave_u_cm_np1_le_med_1.avi", 1),
    ]
    assert found.entries[1].video_id == "brush_hair/x"
    assert found.official == {"train": 3570, "test": 1530}
    assert read("hmdb51", hmdb51) == found  # the folder around it will do


def test_hmdb51_other_splits(hmdb51: Path):
    assert in_split(read("hmdb51", hmdb51, split_number=2), "train")[0] == ("brush_hair/x.avi", 0)
    with pytest.raises(UsageError, match="--split-number 4: HMDB51"):
        read("hmdb51", hmdb51, split_number=4)


def test_mistakes_in_hmdb51(hmdb51: Path, tmp_path: Path):
    folder = hmdb51 / "testTrainMulti_7030_splits"
    write(folder / "wave_test_split1.txt", "a.avi 1\nb.avi 3\n")
    with pytest.raises(VidrecError, match=r"wave_test_split1\.txt, line 2: expected a file name and 0, 1 or 2"):
        read("hmdb51", hmdb51)
    (folder / "wave_test_split1.txt").unlink()
    with pytest.raises(VidrecError, match=r"has no wave_test_split1\.txt"):
        read("hmdb51", hmdb51)
    with pytest.raises(VidrecError, match="--annotations should be testTrainMulti_7030_splits"):
        read("hmdb51", write(tmp_path / "empty" / "x.txt", "").parent)


# Something-Something and Jester


SS_LABELS = ["Turning something, then back", "Moving left", "Moving right", "Holding something"]


@pytest.fixture
def ssv1(tmp_path: Path) -> Path:
    for prefix in ("something-something-v1", "jester-v1"):
        write(tmp_path / f"{prefix}-labels.csv", "".join(f"{label}\n" for label in SS_LABELS))
        write(tmp_path / f"{prefix}-train.csv", "100218;Moving left\r\n7;Turning something, then back\r\n\r\n")
        write(tmp_path / f"{prefix}-validation.csv", "42326;Holding something")
        write(tmp_path / f"{prefix}-test.csv", "17\n3;\n")
    return tmp_path


@pytest.mark.parametrize("dataset", ["ssv1", "jester"])
def test_ssv1_and_jester(ssv1: Path, dataset: str):
    found = read(dataset, ssv1)
    assert found.classes == tuple(sorted(SS_LABELS))
    assert in_split(found, "train") == [("100218", 1), ("7", 3)]
    assert in_split(found, "val") == [("42326", 0)]
    assert in_split(found, "test") == [("17", -1), ("3", -1)]
    assert found.entries[0] == Entry("100218", 1, "train", "100218")
    train = {"ssv1": 86017, "jester": 118562}[dataset]
    assert (found.official["train"], sorted(found.official)) == (train, ["test", "train", "val"])


def test_the_order_of_the_labels_file(ssv1: Path, tmp_path: Path):
    found = read("ssv1", ssv1, label_order="file")
    assert found.classes == tuple(SS_LABELS)
    assert in_split(found, "train") == [("100218", 1), ("7", 0)]
    names = write(tmp_path / "category.txt", "\n".join(reversed(SS_LABELS)))
    assert in_split(read("ssv1", ssv1, classes=str(names)), "train") == [("100218", 2), ("7", 3)]


def test_the_test_list_may_be_missing(ssv1: Path):
    (ssv1 / "something-something-v1-test.csv").unlink()
    assert {entry.split for entry in read("ssv1", ssv1).entries} == {"train", "val"}


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        (
            "train",
            "1;Moving left\n2;Moving lft\n",
            r"line 2: label 'Moving lft' is not in .*did you mean 'Moving left'",
        ),
        ("train", "1,Moving left\n", r"line 1: expected 'id;label', found '1,Moving left'"),
        ("train", "1;\n", "line 1: expected 'id;label'"),
        ("validation", "1\n", "line 1: expected 'id;label'"),
        ("test", "1;Moving lft\n", "line 1: label 'Moving lft' is not in"),
        ("test", "100218\n", "the same name '100218'"),
        ("labels", "Moving left\nMoving left\nMoving right\n", "label 'Turning something, then back' is not in"),
    ],
)
def test_mistakes_in_ssv1(ssv1: Path, file: str, text: str, sentence: str):
    write(ssv1 / f"something-something-v1-{file}.csv", text)
    with pytest.raises(VidrecError, match=sentence):
        read("ssv1", ssv1)


def test_a_missing_list_says_which_folder_is_meant(ssv1: Path):
    (ssv1 / "jester-v1-train.csv").unlink()
    with pytest.raises(VidrecError, match=r"jester-v1-train\.csv does not exist; --annotations should be the folder"):
        read("jester", ssv1)


@pytest.fixture
def ssv2(tmp_path: Path) -> Path:
    labels = {"Pushing something from left to right": "1", "Approaching something with your camera": "0"}
    item = {"id": "78687", "label": "pushing tea", "template": "Pushing [something] from left to right"}
    other = {"id": 42326, "label": "x", "template": "Approaching [something] with your camera", "placeholders": ["x"]}
    files = {"labels": labels, "train": [item], "validation": [other], "test": [{"id": "1420"}]}
    for part, content in files.items():
        write(tmp_path / f"something-something-v2-{part}.json", json.dumps(content))
    return tmp_path


def test_ssv2(ssv2: Path):
    found = read("ssv2", ssv2)
    assert found.classes == ("Approaching something with your camera", "Pushing something from left to right")
    assert found.entries == [
        Entry("78687.webm", 1, "train", "78687"),
        Entry("42326.webm", 0, "val", "42326"),
        Entry("1420.webm", -1, "test", "1420"),
    ]
    assert found.official == {"train": 168913, "val": 24777, "test": 27157}
    for file in ssv2.glob("*.json"):  # as the files of the later download are named
        file.rename(file.with_name(file.name.removeprefix("something-something-v2-")))
    assert read("ssv2", ssv2) == found


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("labels", {"a": "0", "b": "2"}, "should number its 2 classes from 0 to 1, each once"),
        ("labels", ["a"], r"labels\.json should hold a JSON object"),
        ("train", {"id": 1}, r"train\.json should hold a JSON array"),
        ("train", [{"id": "1"}], "item 0: expected an object with id and template"),
        ("train", [{"id": "1", "template": "Pushing [it] about"}], "item 0: label 'Pushing it about' is not in"),
    ],
)
def test_mistakes_in_ssv2(ssv2: Path, file: str, content, sentence: str):
    write(ssv2 / f"something-something-v2-{file}.json", json.dumps(content))
    with pytest.raises(VidrecError, match=sentence):
        read("ssv2", ssv2)
    write(ssv2 / f"something-something-v2-{file}.json", '{"cut')
    with pytest.raises(VidrecError, match=rf"{file}\.json is no JSON"):
        read("ssv2", ssv2)


# Kinetics-400


@pytest.fixture
def kinetics(tmp_path: Path) -> Path:
    write(
        tmp_path / "kinetics_train.csv",
        '"label","youtube_id","time_start","time_end","split","is_cc"\n'
        '"testifying","---QUuC4vJs","84","94","train","0"\n'
        '"massaging person\'s head","_a_b-c","7","17","train","0"\n'
        '"testifying","---QUuC4vJs","84","94","train","0"\n',
    )
    write(
        tmp_path / "kinetics_val.csv", "label,youtube_id,time_start,time_end,split\nabseiling,0wR5jVB-WPk,417,427,val\n"
    )
    write(tmp_path / "kinetics_test.csv", "youtube_id,time_start,time_end,split\n--7Q7,0,10,test\n")
    return tmp_path


def test_kinetics400(kinetics: Path, caplog):
    found = read("kinetics400", kinetics)
    assert found.classes == ("abseiling", "massaging person's head", "testifying")
    assert found.entries == [
        Entry("testifying/---QUuC4vJs_000084_000094.mp4", 2, "train", "---QUuC4vJs_000084_000094"),
        Entry("massaging person's head/_a_b-c_000007_000017.mp4", 1, "train", "_a_b-c_000007_000017"),
        Entry("abseiling/0wR5jVB-WPk_000417_000427.mp4", 0, "val", "0wR5jVB-WPk_000417_000427"),
        Entry("test/--7Q7_000000_000010.mp4", -1, "test", "--7Q7_000000_000010"),
    ]
    assert "lists 1 clips again" in caplog.text
    assert read("kinetics400", kinetics, label_order="file").classes[0] == "testifying"
    (kinetics / "kinetics_val.csv").rename(kinetics / "validate.csv")
    (kinetics / "kinetics_test.csv").unlink()
    assert len(read("kinetics400", kinetics).entries) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the header names no youtube_id and time_start and time_end and label"),
        ("youtube_id,time_start,time_end,split\nx,0,10,train\n", "the header names no label"),
        ("label,youtube_id,time_start,time_end\na,x,0,ten\n", "line 2: expected label,youtube_id,time_start,time_end"),
        ("label,youtube_id,time_start,time_end\n,x,0,10\n", "line 2: expected label"),
    ],
)
def test_mistakes_in_kinetics400(kinetics: Path, text: str, sentence: str):
    write(kinetics / "kinetics_train.csv", text)
    with pytest.raises(VidrecError, match=sentence):
        read("kinetics400", kinetics)
    (kinetics / "kinetics_train.csv").unlink()
    with pytest.raises(VidrecError, match=r"has neither kinetics_train\.csv nor train\.csv"):
        read("kinetics400", kinetics)


# One's own: JSON lines and the lists of TSM


def test_json_lines(tmp_path: Path):
    lines = [
        {"path": "a b/ü.mp4", "label": "wave", "split": "train", "fps": 25},
        {"path": "long.mp4", "label": "run", "split": "train", "start": 1.5, "end": 4},
        {"path": "long.mp4", "label": "wave", "split": "train", "start": 4},
        {"path": "c.mp4", "label": None, "split": "test"},
    ]
    file = write(tmp_path / "a.jsonl", "\n\n".join(json.dumps(line) for line in lines))
    found = read("jsonl", file)
    assert found.classes == ("run", "wave")
    assert found.entries == [
        Entry("a b/ü.mp4", 1, "train", "a b/ü"),
        Entry("long.mp4", 0, "train", "long@1.5-4", 1.5, 4.0),
        Entry("long.mp4", 1, "train", "long@4-", 4.0, None),
        Entry("c.mp4", -1, "test", "c"),
    ]
    assert read("jsonl", file, label_order="file").classes == ("wave", "run")


def test_lines_of_json_end_where_json_says(tmp_path: Path):
    line = json.dumps({"path": "a\u2028b\x85.mp4", "label": "run", "split": "train"}, ensure_ascii=False)
    found = read("jsonl", write(tmp_path / "a.jsonl", f"{line}\r\n"))
    assert [entry.path for entry in found.entries] == ["a\u2028b\x85.mp4"]


def test_pieces_are_named_by_all_their_digits(tmp_path: Path):
    text = "path,label,split,start,end\nl.mp4,run,train,12345.61,12345.71\nl.mp4,run,train,12345.62,12345.74\n"
    found = read("list", write(tmp_path / "a.csv", text))
    assert [entry.video_id for entry in found.entries] == ["l@12345.61-12345.71", "l@12345.62-12345.74"]


def test_pieces_in_a_csv(tmp_path: Path):
    text = "path,label,split,start,end\nlong.mp4,run,train,1.5,4\nlong.mp4,wave,train,4,\nshort.mp4,run,test,,\n"
    found = read("list", write(tmp_path / "a.csv", text))
    assert [(entry.video_id, entry.start, entry.end) for entry in found.entries] == [
        ("long@1.5-4", 1.5, 4.0),
        ("long@4-", 4.0, None),
        ("short", 0.0, None),
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("nothing", r"line 1 is no JSON object"),
        ("[1]", "line 1: expected an object with path, label and split"),
        ('{"path": "a.mp4", "split": "train"}', "line 1: expected an object with path, label and split"),
        ('{"path": "a.mp4", "label": 3, "split": "train"}', r"line 1: path, label \(a class name, or null\)"),
        ('{"path": "a.mp4", "label": "x", "split": "train", "start": 4, "end": 4}', "the start before the end"),
        ('{"path": "a.mp4", "label": "x", "split": "train", "start": -1}', "start -1 and end None should be seconds"),
        ('{"path": "a.mp4", "label": "x", "split": "train", "end": "late"}', "end late should be seconds"),
        ('{"path": "a.mp4", "label": "x", "split": "train", "end": NaN}', "end nan should be seconds"),
    ],
)
def test_mistakes_in_json_lines(tmp_path: Path, line: str, sentence: str):
    with pytest.raises(VidrecError, match=sentence):
        read("jsonl", write(tmp_path / "a.jsonl", line))


@pytest.fixture
def tsm(tmp_path: Path) -> Path:
    write(tmp_path / "lists" / "train_videofolder.txt", "my videos/100218 42 1\n7 9999 0\n")
    write(tmp_path / "lists" / "val_videofolder.txt", "3.5 12 3\n")
    write(tmp_path / "lists" / "._val_videofolder.txt", "what a Mac leaves in archives")
    return tmp_path / "lists"


def test_lists_of_tsm(tsm: Path, tmp_path: Path):
    found = read("tsm", tsm)
    assert found.classes == ("0", "1", "2", "3")
    assert found.entries == [
        Entry("my videos/100218", 1, "train", "my videos/100218"),
        Entry("7", 0, "train", "7"),
        Entry("3.5", 3, "val", "3.5"),
    ]
    names = write(tmp_path / "category.txt", "run\nwalk\nsit\nstand\nlie\n")
    assert read("tsm", tsm, classes=str(names)).classes == ("run", "walk", "sit", "stand", "lie")
    assert [entry.split for entry in read("tsm", tsm / "val_videofolder.txt").entries] == ["val"]


def test_mistakes_in_lists_of_tsm(tsm: Path, tmp_path: Path):
    names = write(tmp_path / "category.txt", "run\nwalk\n")
    with pytest.raises(VidrecError, match=r"val_videofolder\.txt, line 1: label 3 is outside 0\.\.1, the classes of"):
        read("tsm", tsm, classes=str(names))
    with pytest.raises(UsageError, match="--label-order does not apply to data set format 'tsm'"):
        read("tsm", tsm, label_order="file")
    write(tsm / "train_split_2.txt", "1 2 0\n")
    with pytest.raises(VidrecError, match=r"train_split_2\.txt and train_videofolder\.txt .* both list 'train'"):
        read("tsm", tsm)
    with pytest.raises(VidrecError, match="line 1: expected 'folder num_frames label', found 'a 1'"):
        read("tsm", write(tmp_path / "test.txt", "a 1\n"))
    with pytest.raises(VidrecError, match="no list is named after its split"):
        read("tsm", write(tmp_path / "training.txt", "a 1 0\n"))
