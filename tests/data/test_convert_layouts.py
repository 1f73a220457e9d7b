"""Conversion of published layouts: where their files lie, archives, pieces of videos, unlabelled splits, the report."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidrec.cli import main
from vidrec.data import archives, images, schema
from vidrec.data.convert import convert
from vidrec.data.datasets import Entry
from vidrec.data.datasets.places import find_hmdb51, find_kinetics
from vidrec.data.records import open_records
from vidrec.data.tfrecord import scan
from vidrec.data.verify import verify
from vidrec.data.video import write_mp4
from vidrec.errors import UsageError, VidrecError

ROOT = Path(__file__).parents[2]
CLASSES = ("brush_hair", "wave")


def write(path: Path, content: str | bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> bytes:
    """A video of 20 frames, 10 a second; its grey value says which frame it is."""
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    write_mp4(path, np.repeat(np.arange(20, dtype=np.uint8) * 10 + 20, 24 * 32 * 3).reshape(20, 24, 32, 3), 10)
    return path.read_bytes()


def grey(records: Path, split: str) -> dict[str, list[int]]:
    """Of each video the numbers of its frames in `clip`."""
    source = open_records(records, split)
    frames = {source.video_id(i): source.decode_frames(i, range(source.num_frames[i])) for i in range(len(source))}
    return {name: [round((frame.mean() - 20) / 10) for frame in shown] for name, shown in frames.items()}


# HMDB51: folders within folders, and archives


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """HMDB51's lists of two classes with two videos each."""
    folder = tmp_path / "testTrainMulti_7030_splits"
    for name in CLASSES:
        write(folder / f"{name}_test_split1.txt", f"#1_{name}!.avi 1 \n[2]_{name}.avi 2 \nunused.avi 0 \n")
    return folder


def hmdb51(root: Path, clip: bytes, *, twice: tuple[str, ...] = ()) -> Path:
    for name in CLASSES:
        folder = root / name / name if name in twice else root / name
        write(folder / f"#1_{name}!.avi", clip)
        write(folder / f"[2]_{name}.avi", clip)
    return root


def zipped(folder: Path) -> bytes:
    """A ZIP of a folder, with its name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return out.getvalue()


def tarred(folder: Path) -> bytes:
    """A TAR.GZ of what is in a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(folder, ".")
    return out.getvalue()


def rar(folder: Path) -> bytes:
    """A RAR (version 4, nothing compressed) of a folder, with its name."""

    def block(kind: int, flags: int, fields: bytes, size: bytes = b"") -> bytes:
        head = bytes([kind]) + flags.to_bytes(2, "little") + (7 + len(size) + len(fields)).to_bytes(2, "little")
        head += size + fields
        return (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") + head

    out = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        content, name = file.read_bytes(), str(file.relative_to(folder.parent)).replace("/", "\\").encode()
        length = len(content).to_bytes(4, "little")
        fields = length + b"\x03" + zlib.crc32(content).to_bytes(4, "little") + bytes(4) + b"\x14\x30"
        fields += len(name).to_bytes(2, "little") + (0o100644).to_bytes(4, "little") + name
        out += block(0x74, 0x8000, fields, length) + content
    return out + block(0x7B, 0x4000, b"")


def check_hmdb51(root: Path, lists: Path, out: Path) -> None:
    report = convert("hmdb51", root, lists, out, workers=1)
    assert (report.skipped, report.videos) == ([], {"test": 2, "train": 2})
    source = open_records(out, "test")
    assert sorted(source.video_id(i) for i in range(2)) == ["brush_hair/[2]_brush_hair", "wave/[2]_wave"]
    assert not (out / ".convert").exists()


@pytest.mark.parametrize("twice", [(), ("wave",), CLASSES])
def test_folders_as_unpacking_leaves_them(tmp_path: Path, lists: Path, clip: bytes, twice: tuple[str, ...]):
    check_hmdb51(hmdb51(tmp_path / "hmdb", clip, twice=twice), lists, tmp_path / "r")


def test_folders_given_from_where_one_is(tmp_path: Path, lists: Path, clip: bytes, monkeypatch):
    """A root and an output folder relative to the working directory, one class still in an archive."""
    root = hmdb51(tmp_path / "data" / "hmdb", clip, twice=("brush_hair",))
    write(root / "wave.zip", zipped(root / "wave"))
    shutil.rmtree(root / "wave")
    monkeypatch.chdir(tmp_path / "data")
    check_hmdb51(Path("hmdb"), lists, Path("r"))


def test_archives_of_classes(tmp_path: Path, lists: Path, clip: bytes):
    whole = hmdb51(tmp_path / "whole", clip)
    write(tmp_path / "hmdb" / "brush_hair.zip", zipped(whole / "brush_hair"))
    write(tmp_path / "hmdb" / "wave.tar.gz", tarred(whole / "wave"))  # with no folder inside
    write(tmp_path / "hmdb" / "hmdb51_sta.zip", b"another one, to be left alone")
    before = sorted(tmp_path.joinpath("hmdb").rglob("*"))
    check_hmdb51(tmp_path / "hmdb", lists, tmp_path / "r")
    check_hmdb51(whole, lists, tmp_path / "r2")
    assert (tmp_path / "r" / "manifest.json").read_bytes() == (tmp_path / "r2" / "manifest.json").read_bytes()
    assert sorted(tmp_path.joinpath("hmdb").rglob("*")) == before


@pytest.mark.parametrize("as_file", [True, False])
def test_archives_in_an_archive(tmp_path: Path, lists: Path, clip: bytes, as_file: bool):
    whole = hmdb51(tmp_path / "whole", clip)
    for name in CLASSES:
        write(tmp_path / "inner" / f"{name}.zip", zipped(whole / name))
    outer = write(tmp_path / "hmdb" / "hmdb51_org.tar", tarred(tmp_path / "inner"))
    check_hmdb51(outer if as_file else outer.parent, lists, tmp_path / "r")


def test_a_video_that_an_archive_lacked_is_retried(tmp_path: Path, lists: Path, clip: bytes):
    whole, root, out = hmdb51(tmp_path / "whole", clip), tmp_path / "hmdb", tmp_path / "r"
    late = (whole / "wave" / "[2]_wave.avi").rename(tmp_path / "late.avi")
    for name in CLASSES:
        write(root / f"{name}.zip", zipped(whole / name))
    assert len(convert("hmdb51", root, lists, out, workers=1).skipped) == 1
    report = convert("hmdb51", root, lists, out, workers=1, retry_skipped=True)
    assert (report.made, (out / ".convert").exists()) == (0, False)
    late.rename(whole / "wave" / "[2]_wave.avi")
    write(root / "wave.zip", zipped(whole / "wave"))
    report = convert("hmdb51", root, lists, out, workers=1, retry_skipped=True)
    assert (report.made, report.skipped) == (1, [])
    check_hmdb51(root, lists, out)


@pytest.mark.skipif(not any(map(shutil.which, archives.RAR_TOOLS)), reason="no program for RAR is on PATH")
def test_rar_archives(tmp_path: Path, lists: Path, clip: bytes):
    whole = hmdb51(tmp_path / "whole", clip)
    for name in CLASSES:
        write(tmp_path / "hmdb51_org" / f"{name}.rar", rar(whole / name))
    check_hmdb51(write(tmp_path / "hmdb" / "hmdb51_org.rar", rar(tmp_path / "hmdb51_org")), lists, tmp_path / "r")
    write(tmp_path / "hmdb" / "hmdb51_org.rar", b"Rar!\x1a\x07\x00 and then nothing")
    with pytest.raises(VidrecError, match=r"cannot unpack .*hmdb51_org\.rar: \w+ says"):
        convert("hmdb51", tmp_path / "hmdb", lists, tmp_path / "r2", workers=1)


def test_without_a_program_for_rar_the_command_is_told(tmp_path: Path, lists: Path, monkeypatch):
    write(tmp_path / "hmdb" / "wave.rar")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VidrecError, match=r"none of bsdtar, unrar, 7z, unar is on PATH; .*'bsdtar -x -f wave\.rar"):
        convert("hmdb51", tmp_path / "hmdb", lists, tmp_path / "r", workers=1)


def test_damaged_archives_and_paths_that_lead_outside(tmp_path: Path, lists: Path):
    with tarfile.open(tmp_path / "wave.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil.avi"))
    for number, (name, content) in enumerate(
        {"wave.zip": b"PK", "wave.tar": (tmp_path / "wave.tar").read_bytes()}.items()
    ):
        file = write(tmp_path / f"hmdb{number}" / name, content)
        with pytest.raises(VidrecError, match=rf"cannot unpack .*{name}"):
            convert("hmdb51", file.parent, lists, tmp_path / f"r{number}", workers=1)
    assert not list(tmp_path.rglob("evil.avi"))


def test_archives_are_for_data_sets_that_come_in_them(tmp_path: Path, lists: Path, clip: bytes):
    with pytest.raises(VidrecError, match=r"folder of videos .*a\.zip does not exist"):
        convert("list", write(tmp_path / "a.zip"), write(tmp_path / "a.csv", "a.mp4,x,train\n"), tmp_path / "r")


def test_killed_between_archives_and_gone_on_with(tmp_path: Path, lists: Path, clip: bytes):
    """What was unpacked is not unpacked again, and shards that are complete are kept."""
    whole = hmdb51(tmp_path / "whole", clip)
    for name in CLASSES:
        write(tmp_path / "hmdb" / f"{name}.zip", zipped(whole / name))
    code = f"""
import os, signal
from vidrec.data.convert import convert
def progress(done, total):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
convert("hmdb51", {str(tmp_path / "hmdb")!r}, {str(lists)!r}, {str(tmp_path / "r")!r}, workers=1, progress=progress,
        videos_per_shard=2)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    unpacked = tmp_path / "r" / ".convert" / "unpacked"
    assert sorted(path.name for path in unpacked.iterdir()) == list(CLASSES)
    for name in CLASSES:  # what is there is used
        os.truncate(tmp_path / "hmdb" / f"{name}.zip", 0)
    report = convert("hmdb51", tmp_path / "hmdb", lists, tmp_path / "r", workers=1, videos_per_shard=2)
    assert (report.made, report.skipped) == (1, [])
    convert("hmdb51", whole, lists, tmp_path / "undisturbed", workers=1, videos_per_shard=2)
    files = {path.name: path.read_bytes() for path in (tmp_path / "undisturbed").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()} == files


def test_videos_of_one_name_are_told_apart_by_their_class(tmp_path: Path):
    for folder in ("brush_hair", "wave", "else/wave"):
        write(tmp_path / folder / "a.avi")
    entries = [Entry(f"{name}/a.avi", 0, "train", f"{name}/a") for name in (*CLASSES, "clap")]
    found = find_hmdb51(entries, [tmp_path])
    assert found["brush_hair/a.avi"] == str(tmp_path / "brush_hair" / "a.avi")
    assert found["wave/a.avi"] == str(tmp_path / "else" / "wave" / "a.avi")  # first by path
    assert "clap/a.avi" not in found


# Kinetics-400: spellings


@pytest.mark.parametrize(
    "file",
    [
        "massaging person's head/-_x_000007_000017.mp4",
        "train/massaging_persons_head/-_x_000007_000017.mp4",
        "train_256/massaging persons head/-_x_000007_000017.mkv",
        "train/-_x_000007_000017.mp4.webm",
        "-_x_000007.mp4",
        "-_x_7_17.mp4",
        "a/-_x_7.MP4",
        "-_x.webm",
    ],
)
def test_names_that_downloaders_give_clips(tmp_path: Path, file: str):
    entry = Entry("massaging person's head/-_x_000007_000017.mp4", 0, "train", "-_x_000007_000017")
    write(tmp_path / "other" / "-_x_000008_000018.mp4")
    assert find_kinetics([entry], [tmp_path]) == {}
    write(tmp_path / file)
    assert find_kinetics([entry], [tmp_path]) == {entry.path: str(tmp_path / file)}


@pytest.mark.parametrize("pictures", [("readme.png",), ("0001.jpg", "0002.jpg")])
def test_pictures_beside_videos_hide_none(tmp_path: Path, pictures: tuple[str, ...]):
    names = ("a_000001_000011", "b_000001_000011")
    entries = [Entry(f"x/{name}.mp4", 0, "train", name) for name in names]
    for name in (*pictures, "train/a_000001_000011.mp4", "train/cover.webp", "train/x/b_000001_000011.mp4"):
        write(tmp_path / name)
    assert set(find_kinetics(entries, [tmp_path])) == {entry.path for entry in entries}


@pytest.fixture
def kinetics(tmp_path: Path) -> tuple[Path, Path]:
    """Three training clips of which two are there, one for validation, and one of the test split."""
    head = '"label","youtube_id","time_start","time_end","split"\n'
    rows = [f'"walking left","a{number}","1","11","train"\n' for number in range(3)]
    write(tmp_path / "csv" / "kinetics_train.csv", head + "".join(rows) + '"walking right","b","1","11","train"\n')
    write(tmp_path / "csv" / "kinetics_val.csv", head + '"turning left","c","1","11","val"\n')
    write(tmp_path / "csv" / "kinetics_test.csv", "youtube_id,time_start,time_end,split\nd,1,11,test\n")
    root = tmp_path / "videos"
    names = ("train/walking_left/a0_000001_000011", "train/walking_left/a1_1", "train/b_000001_000011")
    names += ("val/turning left/c_000001_000011", "test/d_000001_000011")
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_mp4(root / f"{name}.mp4", np.full((20, 24, 32, 3), 40 * number, np.uint8), 10)
    return root, tmp_path / "csv"


def test_missing_clips_and_unlabelled_splits(kinetics: tuple[Path, Path], tmp_path: Path):
    report = convert("kinetics400", *kinetics, tmp_path / "r", workers=1)
    assert report.videos == {"train": 3, "val": 1, "test": 1}
    assert [(skip["path"], skip["kind"]) for skip in report.skipped] == [
        ("walking left/a2_000001_000011.mp4", "missing")
    ]
    assert verify(tmp_path / "r", deep=True).ok
    assert open_records(tmp_path / "r", "train+val").labels.tolist().count(1) == 2
    sentence = r"split 'test' of kinetics400: 1 of 1 videos have no label .*; choose another split"
    with pytest.raises(VidrecError, match=sentence):
        open_records(tmp_path / "r", "test")


def test_kinetics_given_from_where_one_is(kinetics: tuple[Path, Path], tmp_path: Path, monkeypatch):
    convert("kinetics400", *kinetics, tmp_path / "r", workers=1)
    monkeypatch.chdir(tmp_path)
    report = convert("kinetics400", "videos", "csv", "r2", workers=1)
    assert [skip["why"] for skip in report.skipped] == ["video walking left/a2_000001_000011.mp4 does not exist"]
    assert (tmp_path / "r2" / "manifest.json").read_bytes() == (tmp_path / "r" / "manifest.json").read_bytes()


def test_the_report(kinetics: tuple[Path, Path], tmp_path: Path):
    report = convert("kinetics400", *kinetics, tmp_path / "r", workers=1)
    content = json.loads(json.dumps(report.as_dict()))
    assert content["listed"] == {"train": 4, "val": 1, "test": 1}
    assert content["official"] == {}
    assert content["classes"]["number"] == 3
    assert content["classes"]["order"] == "sorted"
    assert content["classes"]["digest"] == open_records(tmp_path / "r", "val").classes.digest
    assert content["labels"]["train"] == {"min": 0, "median": 1, "max": 2, "empty": ["turning left"], "unlabelled": 0}
    assert content["labels"]["test"]["unlabelled"] == 1
    assert content["mirror_pairs"] == [["walking left", "walking right"]]
    assert content["one_sided"] == ["turning left"]
    lines = report.text().splitlines()
    assert lines[0].endswith("5 videos (test 1, train 3, val 1), 100 frames, 1 skipped (1 missing)")
    assert "train: 3 of 4 listed; videos per class 0 to 2, median 1; 1 class is empty: turning left" in lines
    assert "test: 1 of 1 listed; 1 without a label, for prediction only" in lines
    assert f"classes: 3, label order sorted, digest {content['classes']['digest']}" in lines
    assert "mirror pair: walking left <-> walking right" in lines
    assert "one-sided, never flip: turning left" in lines
    again = convert("kinetics400", *kinetics, tmp_path / "r", workers=1)
    assert again.as_dict() | {"made": report.made} == content | {"mirror_pairs": report.mirror_pairs}
    manifest = json.loads((tmp_path / "r" / "manifest.json").read_text())
    assert manifest["settings"]["label_order"] == "sorted"
    assert manifest["classes_digest"] == content["classes"]["digest"]


def test_counts_beside_the_official_ones(tmp_path: Path, lists: Path, clip: bytes):
    report = convert("hmdb51", hmdb51(tmp_path / "hmdb", clip), lists, tmp_path / "r", workers=1)
    assert report.official == {"train": 3570, "test": 1530}
    assert "train: 2 of 2 listed, official 3570; videos per class 1 to 1, median 1" in report.text()
    assert report.classes["order"] == "official"


# Pieces, names, codecs


def test_pieces_of_a_long_video(tmp_path: Path, clip: bytes):
    write(tmp_path / "v" / "long.mp4", clip)
    write(tmp_path / "v" / "still" / "1.jpg", images.encode_jpeg(np.zeros((24, 32, 3), np.uint8), 90))
    pieces = [("long.mp4", 0.5, 1.0), ("long.mp4", 1.0, None), ("long.mp4", 0, 2.1), ("long.mp4", 1.5, 2.6)]
    pieces += [("long.mp4", 2.5, None), ("still", 0, 1)]
    keys = ("path", "start", "end", "label", "split")
    lines = [json.dumps(dict(zip(keys, (*piece, "x", "train"), strict=True))) for piece in pieces]
    report = convert("jsonl", tmp_path / "v", write(tmp_path / "a.jsonl", "\n".join(lines)), tmp_path / "r", workers=1)
    assert grey(tmp_path / "r", "train") == {
        "long@0.5-1": list(range(5, 10)),
        "long@1-": list(range(10, 20)),
        "long@0-2.1": list(range(20)),  # ends are often given a little late
    }
    assert sorted(skip["why"] for skip in report.skipped) == [
        "long.mp4 ends before the piece from 1.5 to 2.6 seconds does",
        "long.mp4 has ended when the piece from 2.5 seconds begins",
        "still has no frame rate, so it cannot be cut by seconds; leave out start and end",
    ]
    starts = {}
    for _, payload in scan(next((tmp_path / "r").glob("*-of-00001"))):
        record = schema.read(payload)
        starts[record.video_id] = record.start_frame
    assert starts == {"long@0.5-1": 5, "long@1-": 10, "long@0-2.1": 0}


def test_a_file_of_class_names(tmp_path: Path, clip: bytes):
    write(tmp_path / "v" / "7" / "x.mp4", clip)
    lists = write(tmp_path / "l" / "train_videofolder.txt", "7/x.mp4 999 1\n")
    names = write(tmp_path / "category.txt", "run\nwalk\nsit\n")
    report = convert("tsm", tmp_path / "v", lists, tmp_path / "r", workers=1, classes=str(names))
    assert (report.name, report.classes["order"]) == ("v", "category.txt")
    source = open_records(tmp_path / "r", "train")
    assert (source.classes, source.labels.tolist(), source.num_frames.tolist()) == (("run", "walk", "sit"), [1], [20])
    assert str(tmp_path) not in (tmp_path / "r" / "manifest.json").read_text()
    with pytest.raises(UsageError, match="--classes does not apply to data set format 'ucf101'"):
        convert("ucf101", tmp_path / "v", lists, tmp_path / "r2", classes=str(names))


def test_the_command(tmp_path: Path, clip: bytes, capsys):
    write(tmp_path / "v" / "a.mp4", clip)
    lists = write(tmp_path / "train.txt", "a.mp4 20 1\n")
    names = write(tmp_path / "names.txt", "turn left\nturn right\n")
    command = ["convert", "--dataset", "tsm", "--root", tmp_path / "v", "--annotations", lists, "--classes", names]
    command += ["--out", tmp_path / "r", "--codec", "mp4", "--short-side", 16, "--workers", 1]
    assert main([*map(str, command), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["videos"], report["listed"], report["frames"]) == ({"train": 1}, {"train": 1}, 20)
    assert report["mirror_pairs"] == [["turn left", "turn right"]]
    assert report["labels"]["train"]["empty"] == ["turn left"]
    assert main(list(map(str, command))) == 0
    assert "is done already, nothing to do: 1 videos (train 1), 20 frames, 0 skipped" in capsys.readouterr().out
    assert main([*map(str, command), "--retry-skipped"]) == 0
    assert main(["convert", "--dataset", "hmdb51", "--root", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "--annotations is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--codec", "raw", "--quality", "50"], "--quality has no effect with --codec raw"),
        (["--split-number", "1"], "--split-number does not apply to data set format 'list'"),
        (["--seed", "-1"], "--seed -1: should be from 0 to"),
        (["--out", "gs://bucket/x"], "--out gs://bucket/x: convert writes to local folders"),
    ],
)
def test_mistakes_in_the_command(tmp_path: Path, monkeypatch, capsys, options: list[str], sentence: str):
    write(tmp_path / "a.csv", "a.mp4,x,train\n")
    monkeypatch.chdir(tmp_path)
    command = ["convert", "--dataset", "list", "--root", ".", "--annotations", "a.csv", "--out", "r"]
    assert main(command + options) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"vidrec: {sentence}")
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_videos_stored_as_mp4(tmp_path: Path, clip: bytes):
    write(tmp_path / "v" / "a.mp4", clip)
    file = write(tmp_path / "a.csv", "a.mp4,x,train\n")
    convert("list", tmp_path / "v", file, tmp_path / "r", workers=1, codec="mp4", short_side=16)
    assert grey(tmp_path / "r", "train") == {"a": list(range(20))}
    assert open_records(tmp_path / "r", "train")[0].decode_frames([3])[0].shape == (16, 21, 3)
    assert verify(tmp_path / "r", deep=True).ok


@pytest.mark.parametrize("codec", ["jpeg", "mp4", "raw"])
def test_pictures_of_all_kinds_in_one_video(tmp_path: Path, codec: str):
    """Gray, CMYK, with transparency, turned by a tag, of another size: each shows its own grey."""
    folder = tmp_path / "v" / "Ü bung, 1"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, which is not done
    for number, (mode, suffix, size) in enumerate(
        [("RGB", "jpg", (33, 25)), ("L", "jpg", (33, 25)), ("CMYK", "jpg", (33, 25)), ("RGBA", "png", (33, 25)),
         ("RGB", "webp", (66, 50)), ("P", "png", (40, 40)), ("RGB", "JPG", (33, 25))]
    ):  # fmt: skip
        picture = Image.new("RGB", size, (20 + 30 * number,) * 3).convert(mode)
        picture.save(folder / f"{number:05d}.{suffix}", **({"exif": exif} if suffix == "JPG" else {}))
    file = write(tmp_path / "a.csv", 'path,label,split\n"Ü bung, 1","Sprung, weit",train\n')
    report = convert("list", tmp_path / "v", file, tmp_path / "r", workers=1, codec=codec)
    source = open_records(tmp_path / "r", "train")
    frames = source.decode_frames(0, range(7))
    assert (report.skipped, source.video_id(0), source.classes) == ([], "Ü bung, 1", ("Sprung, weit",))
    assert {frame.shape for frame in frames} == {(25, 33, 3)}
    np.testing.assert_allclose([frame.mean() for frame in frames], 20 + 30 * np.arange(7), atol=4)
    assert verify(tmp_path / "r", deep=True).ok


# Data sets that tensorflow-datasets prepared


@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """The data folder of a data set that a builder prepared without TensorFlow, as ArrayRecord; read only."""
    import tensorflow_datasets as tfds

    class TinyClips(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.10.0")
        code_path = None  # there is nothing beside this file for it to look for

        def _info(self):
            frames = tfds.features.Sequence(tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"))
            label = tfds.features.ClassLabel(names=["run", "walk"])
            features = tfds.features.FeaturesDict({"frames": frames, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(range(4)), "test": self._generate_examples(range(4, 6))}

        def _generate_examples(self, numbers):
            for number in numbers:
                pixels = np.arange(4 + number)[:, None, None, None] * 10 + np.full((24, 32, 3), 20 + number)
                frames = [io.BytesIO(images.encode_jpeg(frame, 95)) for frame in pixels.astype(np.uint8)]
                yield str(number), {"frames": frames, "label": number % 2}

    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    TinyClips(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_what_a_builder_prepared_without_tensorflow(prepared: Path, tmp_path: Path):
    report = convert("tfds:tiny_clips", prepared, None, tmp_path / "r", workers=1, short_side=12)
    assert (report.name, report.videos, report.skipped) == ("tiny_clips", {"test": 2, "train": 4}, [])
    source = open_records(tmp_path / "r", "train")
    assert source.classes == ("run", "walk")
    assert sorted(source.num_frames.tolist()) == [4, 5, 6, 7]
    assert (source.labels == source.num_frames % 2).all()
    for i in range(4):
        shown = source.decode_frames(i, range(source.num_frames[i]))
        assert shown[0].shape == (12, 16, 3)
        number = source.num_frames[i] - 4
        np.testing.assert_allclose([frame.mean() for frame in shown], 20 + number + 10 * np.arange(len(shown)), atol=1)
    assert verify(tmp_path / "r", deep=True).ok
    version = prepared / "tiny_clips" / "1.10.0"
    for name, root in (("tiny_clips:1.10.0", prepared), ("tiny_clips", version)):
        again = convert(f"tfds:{name}", root, None, tmp_path / name, workers=1, short_side=12)
        assert open_records(again.out, "train").digest == source.digest


def test_what_tensorflow_prepared_is_read_from_its_tfrecords(tmp_path: Path, lists: Path, clip: bytes):
    folder = tmp_path / "hmdb51" / "1.0.0"
    convert("hmdb51", hmdb51(tmp_path / "videos", clip), lists, folder, workers=1)
    (folder / "manifest.json").unlink()  # now only tensorflow-datasets' own metadata are there
    report = convert("tfds:hmdb51", tmp_path, None, tmp_path / "r", workers=1)
    assert report.videos == {"test": 2, "train": 2}
    assert grey(tmp_path / "r", "train") == {f"{name}/#1_{name}!": list(range(20)) for name in CLASSES}


def test_what_is_not_prepared_says_how(prepared: Path, tmp_path: Path):
    with pytest.raises(
        VidrecError, match=r"there is no ucf101 below .* 'tfds build ucf101 --data_dir .* TensorFlow is"
    ):
        convert("tfds:ucf101", prepared, None, tmp_path / "r")
    shutil.copytree(prepared / "tiny_clips", tmp_path / "two" / "tiny_clips" / "small")
    shutil.copytree(prepared / "tiny_clips", tmp_path / "two" / "tiny_clips" / "large")
    with pytest.raises(VidrecError, match=r"several configurations of tiny_clips \(tiny_clips/large, tiny_clips/small"):
        convert("tfds:tiny_clips", tmp_path / "two", None, tmp_path / "r")
    assert (
        convert("tfds:tiny_clips/small", tmp_path / "two", None, tmp_path / "r", workers=1).name == "tiny_clips_small"
    )
    with pytest.raises(UsageError, match="--annotations does not apply to 'tfds:tiny_clips'"):
        convert("tfds:tiny_clips", prepared, prepared, tmp_path / "r2")
    with pytest.raises(UsageError, match="--label-order does not apply to data set format 'tfds:tiny_clips'"):
        convert("tfds:tiny_clips", prepared, None, tmp_path / "r2", label_order="file")
    with pytest.raises(UsageError, match="--annotations is missing: data set format 'ucf101'"):
        convert("ucf101", prepared, None, tmp_path / "r2")


def test_damage_in_what_was_prepared_is_told(prepared: Path, tmp_path: Path):
    shutil.copytree(prepared, tmp_path / "data")
    shard = next((tmp_path / "data").rglob("*-train.array_record-*"))
    shard.rename(shard.with_name("elsewhere"))
    with pytest.raises(VidrecError, match=rf"shard .*{shard.name} is missing; prepare the data set again"):
        convert("tfds:tiny_clips", tmp_path / "data", None, tmp_path / "r")
