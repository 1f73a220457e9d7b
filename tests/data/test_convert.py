"""Conversion: what the records hold, what is left out, and that no interruption changes the result."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vidrec.data import images, manifest
from vidrec.data.convert import convert
from vidrec.data.index import open_index
from vidrec.data.records import open_records
from vidrec.data.verify import verify
from vidrec.data.video import read_video, write_mp4
from vidrec.errors import UsageError, VidrecError

ROOT = Path(__file__).parents[2]


def draw(seed: int, count: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    """A coloured background over which a square moves."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 120, (2, 2, 3))
    frames = np.stack([np.kron(colours, np.ones((height // 2, width // 2, 1)))] * count).astype(np.uint8)
    for t, frame in enumerate(frames):
        frame[8:20, 3 * t : 3 * t + 10] = rng.integers(150, 255, 3)
    return frames


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """24 videos of three classes with annotations.csv: 18 to train on, 6 to test."""
    root = tmp_path_factory.mktemp("source") / "my videos"
    lines = []
    for number in range(24):
        label = ("walk", "run", "wave, both hands")[number % 3]
        path = root / f"class {number % 3}" / f"clip{number:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, draw(number, 4 + number % 5), fps=12.5)
        lines.append(f'{path.relative_to(root)},"{label}",{"train" if number < 18 else "test"}\n')
    (root / "annotations.csv").write_text("".join(lines))
    return root


SETTINGS: dict[str, Any] = {"videos_per_shard": 4, "short_side": 24, "workers": 1}


def run(videos: Path, out: Path, **options):
    return convert("list", videos, videos / "annotations.csv", out, **(SETTINGS | options))


@pytest.fixture(scope="session")
def converted(videos: Path, tmp_path_factory) -> Path:
    """The undisturbed conversion; read only."""
    out = tmp_path_factory.mktemp("converted") / "records"
    run(videos, out)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def notes(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".convert").glob("*.done.json"))


# What the records hold


def test_records_hold_the_videos(videos: Path, converted: Path):
    source = open_records(converted, "train+test")
    assert source.name == "my_videos"
    assert source.classes == ("run", "walk", "wave, both hands")
    assert len(source) == 24
    for i in range(len(source)):
        path = videos / f"{source.video_id(i)}.mp4"
        original = read_video(path).array()
        assert source.num_frames[i] == len(original)
        assert source.labels[i] == [1, 0, 2][int(path.parent.name[-1])]
        decoded = np.stack(source.decode_frames(i, range(len(original))))
        assert decoded.shape == (len(original), 24, 36, 3)
        expected = np.stack([images.resize(frame, 24, 36) for frame in original])
        assert np.abs(decoded.astype(int) - expected).mean() < 4
    for shard in manifest.load(converted).splits["train"].shards:
        assert (open_index(converted / shard.file).records["fps"] == 12.5).all()


def test_the_manifest_says_what_there_is(converted: Path):
    content = json.loads((converted / "manifest.json").read_text())
    assert content["splits"]["train"]["videos"] == 18
    assert content["splits"]["test"]["labels"] == {"run": 2, "walk": 2, "wave, both hands": 2}
    assert [shard["records"] for shard in content["splits"]["train"]["shards"]] == [4, 4, 4, 3, 3]
    assert sum(shard["bytes"] for split in content["splits"].values() for shard in split["shards"]) == sum(
        path.stat().st_size for path in converted.glob("*tfrecord-*") if path.suffix != ".index"
    )
    assert content["splits"]["train"]["digest"] == open_records(converted, "train").digest
    assert content["settings"]["short_side"] == 24
    assert content["skipped"] == []
    assert str(converted.parent) not in (converted / "manifest.json").read_text()
    assert verify(converted, deep=True).ok


def test_only_whole_things_are_left(converted: Path):
    metadata = {"manifest.json", "dataset_info.json", "features.json", "label.labels.txt"}
    assert {name for name in contents(converted) if "tfrecord-" not in name} == metadata
    assert not (converted / ".convert").exists()


def test_the_result_depends_on_nothing_but_settings(videos: Path, converted: Path, tmp_path: Path):
    moved = tmp_path / "elsewhere" / "my videos"
    shutil.copytree(videos, moved)
    run(moved, tmp_path / "other name", workers=2)
    assert contents(tmp_path / "other name") == contents(converted)


def test_the_seed_orders_the_records(videos: Path, converted: Path, tmp_path: Path):
    run(videos, tmp_path / "r", seed=1)
    one, other = open_records(converted, "train"), open_records(tmp_path / "r", "train")
    ids = [[source.video_id(i) for i in range(len(source))] for source in (one, other)]
    assert ids[0] != ids[1]
    assert sorted(ids[0]) == sorted(ids[1]) != ids[0]


@pytest.mark.parametrize(("short_side", "shape"), [(0, (32, 48)), (256, (32, 48)), (16, (16, 24))])
def test_videos_are_made_smaller_but_never_larger(videos: Path, tmp_path: Path, short_side: int, shape):
    run(videos, tmp_path / "r", short_side=short_side)
    assert open_records(tmp_path / "r", "test")[0].decode_frames([0])[0].shape == (*shape, 3)


def test_raw_frames_are_exact(videos: Path, tmp_path: Path):
    run(videos, tmp_path / "r", codec="raw", short_side=0)
    source = open_records(tmp_path / "r", "test")
    for i in range(len(source)):
        original = read_video(videos / f"{source.video_id(i)}.mp4").array()
        np.testing.assert_array_equal(source.decode_frames(i, range(len(original))), original)


def test_quality_is_a_matter_of_size(videos: Path, converted: Path, tmp_path: Path):
    run(videos, tmp_path / "r", quality=40)
    sizes = [sum(map(len, contents(folder).values())) for folder in (tmp_path / "r", converted)]
    assert sizes[0] < 0.8 * sizes[1]


def test_folders_of_pictures(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / "v" / name).mkdir(parents=True)
        for number, frame in enumerate(draw(3, 11), 1):
            (tmp_path / "v" / name / f"{number:05d}.jpg").write_bytes(images.encode_jpeg(frame, 95))
    (tmp_path / "a.csv").write_text("one,x,train\ntwo,y,train\n")
    convert("list", tmp_path / "v", tmp_path / "a.csv", tmp_path / "r", workers=1)
    source = open_records(tmp_path / "r", "train")
    assert source.num_frames.tolist() == [11, 11]
    assert np.abs(source.decode_frames(0, [7])[0].astype(int) - draw(3, 11)[7]).mean() < 6


def test_ucf101_with_its_two_spellings(tmp_path: Path):
    lists, root = tmp_path / "ucfTrainTestlist", tmp_path / "UCF-101"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Archery\n2 HandstandPushups\n")
    train = "Archery/v_Archery_g08_c01.avi 1\nHandstandPushups/v_HandStandPushups_g08_c01.avi 2\n"
    (lists / "trainlist01.txt").write_text(train)
    (lists / "testlist01.txt").write_text("HandstandPushups/v_HandStandPushups_g01_c01.avi\n")
    for name in ("Archery/v_Archery_g08_c01", "HandStandPushups/v_HandstandPushups_g08_c01"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_mp4(root / f"{name}.mp4", draw(1), 25)
        (root / f"{name}.mp4").rename(root / f"{name}.avi")
    write_mp4(root / "HandStandPushups" / "v_HandStandPushups_g01_c01.mp4", draw(2), 25)
    (root / "HandStandPushups" / "v_HandStandPushups_g01_c01.mp4").rename(
        root / "HandStandPushups" / "v_HandStandPushups_g01_c01.avi"
    )
    report = convert("ucf101", root, lists, tmp_path / "r", workers=1)
    assert report.skipped == []
    assert report.videos == {"test": 1, "train": 2}
    assert report.name == "ucf101"
    source = open_records(tmp_path / "r", "test")
    assert (source.labels.tolist(), source.classes) == ([1], ("Archery", "HandstandPushups"))


# What is left out


@pytest.fixture
def damaged(videos: Path, tmp_path: Path) -> Path:
    """The videos, five of them damaged in different ways."""
    root = tmp_path / "damaged"
    shutil.copytree(videos, root)
    paths = sorted(root.rglob("*.mp4"))
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:-300])
    paths[2].write_text("<html>gone</html>")
    paths[3].unlink()
    paths[4].unlink()
    paths[4].mkdir()
    return root


def test_unreadable_videos_are_skipped_with_the_reason(damaged: Path, tmp_path: Path):
    report = run(damaged, tmp_path / "r")
    assert sum(report.videos.values()) == 19
    reasons = {skip["path"]: skip["why"] for skip in report.skipped}
    assert len(reasons) == 5
    assert list(reasons) == sorted(reasons)
    assert "does not exist" in reasons["class 0/clip09.mp4"]
    assert "holds no picture" in reasons["class 0/clip12.mp4"]
    assert all(path in why and str(damaged) not in why for path, why in reasons.items())
    assert "5 skipped" in report.text()
    assert "skipped class 0/clip09.mp4: video class 0/clip09.mp4 does not exist" in report.text()
    assert json.loads((tmp_path / "r" / "manifest.json").read_text())["skipped"] == report.skipped
    assert verify(tmp_path / "r").ok
    assert run(damaged, tmp_path / "r").skipped == report.skipped  # from the manifest


def test_skipped_videos_are_retried(videos: Path, damaged: Path, converted: Path, tmp_path: Path):
    """When they have been put right, the result is that of a conversion that had them from the beginning."""
    out = tmp_path / "r"
    before = run(damaged, out, name="my videos")
    shards = {skip["shard"] for skip in before.skipped}
    assert "run again with --retry-skipped" in before.text()
    still = run(damaged, out, name="my videos", retry_skipped=True)
    assert 0 < still.made <= len(shards)  # for the damaged ones, which are there
    assert (still.skipped, still.digest) == (before.skipped, before.digest)
    (damaged / before.skipped[4]["path"]).rmdir()
    for path in (skip["path"] for skip in before.skipped):
        shutil.copy(videos / path, damaged / path)
    again = run(damaged, out, name="my videos")
    assert (again.made, again.skipped) == (0, before.skipped)
    assert "nothing to do" in again.text()
    assert "run again with --retry-skipped" in again.text()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*tfrecord-*") if not shards & {path.name, path.stem}}
    assert len(kept) == 2 * (7 - len(shards)) > 0
    report = run(damaged, out, name="my videos", retry_skipped=True)
    assert (report.made, report.skipped) == (len(shards), [])
    assert "retry" not in report.text()
    assert contents(out) == contents(converted)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_what_is_still_missing_is_not_retried(videos: Path, tmp_path: Path):
    root, out = tmp_path / "videos", tmp_path / "r"
    shutil.copytree(videos, root)
    (root / "class 1" / "clip01.mp4").unlink()
    (skip,) = run(root, out).skipped
    before = contents(out)
    assert run(root, out, retry_skipped=True).made == 0
    # The missing one alone, without the others of its shard: these are not lost.
    (tmp_path / "late" / "class 1").mkdir(parents=True)
    shutil.copy(videos / skip["path"], tmp_path / "late" / skip["path"])
    with pytest.raises(
        VidrecError, match=r"makes 1 shards again, which would lose \d videos that are not below .*late"
    ):
        convert("list", tmp_path / "late", root / "annotations.csv", out, name="videos", retry_skipped=True, **SETTINGS)
    assert contents(out) == before


def write_avi(path: Path, seed: int) -> None:
    """As the videos of UCF101 are stored: MPEG-4 in AVI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for frame in draw(seed, 12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("dataset", ["ucf101", "list"])
def test_damaged_avi_files_are_skipped_with_the_reason(tmp_path: Path, dataset: str):
    lists, root = tmp_path / "lists", tmp_path / "UCF-101"
    lists.mkdir()
    names = [f"Archery/v_Archery_g{group:02d}_c01.avi" for group in range(1, 7)]
    for seed, name in enumerate(names):
        write_avi(root / name, seed)
    damage = {
        names[0]: lambda content: b"",
        names[2]: lambda content: content[: len(content) // 2],
        names[3]: lambda content: content.replace(b"FMP4", b"????"),
        names[4]: lambda content: content[:300] + bytes(len(content) - 300),
    }
    for name, change in damage.items():
        (root / name).write_bytes(change((root / name).read_bytes()))
    (lists / "classInd.txt").write_text("1 Archery\n")
    (lists / "testlist01.txt").write_text(f"{names[0]}\n")
    (lists / "trainlist01.txt").write_text("".join(f"{name} 1\n" for name in names[1:]))
    splits = ["test", *["train"] * 5]
    (tmp_path / "a.csv").write_text(
        "".join(f"{name},Archery,{split}\n" for name, split in zip(names, splits, strict=True))
    )
    report = convert(dataset, root, lists if dataset == "ucf101" else tmp_path / "a.csv", tmp_path / "r", workers=1)
    assert report.videos == {"test": 0, "train": 2}
    assert [skip["path"] for skip in report.skipped] == sorted(damage)
    assert all(skip["path"] in skip["why"] and str(root) not in skip["why"] for skip in report.skipped)
    source = open_records(tmp_path / "r", "train")
    assert sorted(source.video_id(i) for i in range(2)) == [name.removesuffix(".avi") for name in (names[1], names[5])]
    with pytest.raises(VidrecError, match=r"split 'test' of .* holds no video"):
        open_records(tmp_path / "r", "test")


@pytest.fixture
def shared(videos: Path) -> Iterator[Path]:
    """A folder with a copy of the videos that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(videos, Path(folder) / videos.name)
        os.chmod(folder, 0o777)
        yield Path(folder)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything, so it becomes somebody else."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("closed", ["class 1/clip01.mp4", "class 1"])
def test_a_video_without_rights_is_named_and_not_lost(videos: Path, converted: Path, shared: Path, closed: str):
    """The system's refusal says nothing about the video, so it is not skipped; nor is the output folder to blame."""
    root, out = shared / videos.name, shared / "r"
    rights = (root / closed).stat().st_mode
    (root / closed).chmod(0)
    sentence = r"class 1/clip\d\d\.mp4 cannot be read \(Permission denied\); .* run the same command again"
    with as_nobody(), pytest.raises(VidrecError, match=sentence):
        run(root, out)
    assert not (out / "manifest.json").exists()
    (root / closed).chmod(rights)
    assert run(root, out).skipped == []
    assert contents(out) == contents(converted)


def test_not_one_readable_video_is_an_error_that_leaves_nothing(videos: Path, tmp_path: Path):
    (tmp_path / "wrong").mkdir()
    arguments = ("list", tmp_path / "wrong", videos / "annotations.csv", tmp_path / "r")
    with pytest.raises(VidrecError, match=r"not one of the 24 listed videos can be read; is --root right\?.*not exist"):
        convert(*arguments, **SETTINGS)
    assert contents(tmp_path / "r") == {}
    # With the right folder the same command goes through.
    assert run(videos, tmp_path / "r", name="wrong").videos == {"test": 6, "train": 18}


# Wrong arguments


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"codec": "jpg"}, "--codec jpg: choose one of jpeg, raw"),
        ({"quality": 0}, "--quality 0: should be from 1 to 100"),
        ({"short_side": -1}, "--short-side -1"),
        ({"videos_per_shard": 0}, "--videos-per-shard 0"),
        ({"workers": 0}, "--workers 0"),
        ({"seed": -1}, "--seed -1: should be from 0 to"),
        ({"split_number": 2}, "--split-number does not apply"),
        ({"codec": "raw", "quality": 95}, "--quality has no effect with --codec raw"),
        ({"label_order": "random"}, "--label-order random"),
    ],
)
def test_wrong_arguments_write_nothing(videos: Path, tmp_path: Path, wrong: dict, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        run(videos, tmp_path / "r", **wrong)
    assert not (tmp_path / "r").exists()


def test_folders_that_are_none(videos: Path, tmp_path: Path):
    with pytest.raises(VidrecError, match="gone does not exist; give it with --root"):
        convert("list", tmp_path / "gone", videos / "annotations.csv", tmp_path / "r")
    (tmp_path / "file").touch()
    with pytest.raises(VidrecError, match="file is a file; choose a folder with --out"):
        run(videos, tmp_path / "file")
    with pytest.raises(VidrecError, match=r"cannot write in .*; change its rights or choose another --out"):
        run(videos, tmp_path / "file" / "below")


@pytest.mark.parametrize("address", ["gs://bucket/x", "https://host/x", Path("gs://bucket/x")])
def test_remote_addresses_are_refused(videos: Path, tmp_path: Path, monkeypatch, address: str | Path):
    monkeypatch.chdir(tmp_path)
    listed = videos / "annotations.csv"
    with pytest.raises(UsageError, match=r"--out .* writes to local folders; copy the finished folder there"):
        convert("list", videos, listed, address)
    with pytest.raises(UsageError, match=r"--root .* reads local files; copy these here first"):
        convert("list", address, listed, "r")
    with pytest.raises(UsageError, match=r"--annotations .* reads local files"):
        convert("list", videos, address, "r")
    assert list(tmp_path.iterdir()) == []


def test_local_folders_may_be_written_as_addresses(videos: Path, converted: Path, tmp_path: Path):
    listed = (videos / "annotations.csv").as_uri()
    convert(
        "list", videos.as_uri().replace("%20", " "), listed.replace("%20", " "), (tmp_path / "r").as_uri(), **SETTINGS
    )
    assert contents(tmp_path / "r") == contents(converted)


def test_split_names_that_cannot_be_file_names(videos: Path, tmp_path: Path):
    (tmp_path / "a.csv").write_text("a.mp4,x,../etc\n")
    with pytest.raises(VidrecError, match=r"'\.\./etc' cannot be the name of a split"):
        convert("list", videos, tmp_path / "a.csv", tmp_path / "r")


# Again, elsewhere, interrupted


def test_a_finished_folder_is_left_alone(videos: Path, converted: Path):
    before = {path: path.stat().st_mtime_ns for path in converted.rglob("*")}
    report = run(videos, converted, workers=2)
    assert report.made == 0
    assert "is done already, nothing to do: 24 videos (test 6, train 18)" in report.text()
    assert {path: path.stat().st_mtime_ns for path in converted.rglob("*")} == before


@contextlib.contextmanager
def interrupted_at(done: int):
    """A progress callback that interrupts after so many videos."""

    def progress(now: int, total: int) -> None:
        if now == done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        yield progress


@pytest.mark.parametrize("done", [0, 1, 9, 24])
def test_interrupted_and_gone_on_with(videos: Path, converted: Path, tmp_path: Path, done: int):
    out = tmp_path / "r"
    with interrupted_at(done) as progress:
        run(videos, out, progress=progress)
    assert not (out / "manifest.json").exists()
    assert not list(out.rglob("*.tmp"))
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*tfrecord-*")}
    assert len(kept) == 2 * len(notes(out))
    seen: list[tuple[int, int]] = []
    run(videos, out, progress=lambda now, total: seen.append((now, total)))
    assert seen[-1] == (24, 24)
    assert seen[0][0] <= done
    assert contents(out) == contents(converted)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"short_side": 20}, "short_side is 24 there and 20 now"),
        ({"codec": "raw", "seed": 2}, "codec is jpeg there and raw now, seed is 0 there and 2 now"),
        ({"name": "else"}, "name is my_videos there and else now"),
    ],
)
def test_other_settings_on_a_folder_are_refused(
    videos: Path, converted: Path, tmp_path: Path, change: dict, sentence: str
):
    with interrupted_at(9) as progress:
        run(videos, tmp_path / "half", progress=progress)
    for out in (tmp_path / "half", converted):
        before = contents(out)
        with pytest.raises(VidrecError, match=rf"other settings \({sentence}\); choose another --out"):
            run(videos, out, **change)
        assert contents(out) == before


def test_other_annotations_on_a_folder_are_refused(videos: Path, converted: Path, tmp_path: Path):
    lines = (videos / "annotations.csv").read_text().splitlines(keepends=True)
    (tmp_path / "a.csv").write_text("".join(lines[:-1]))
    with pytest.raises(VidrecError, match="the annotations have changed since"):
        convert("list", videos, tmp_path / "a.csv", converted, **SETTINGS)


@pytest.mark.parametrize("damage", ["missing", "cut", "index and shard missing", "replaced"])
def test_a_finished_folder_is_mended(videos: Path, converted: Path, tmp_path: Path, damage: str):
    out = tmp_path / "r"
    shutil.copytree(converted, out)
    shard = out / "my_videos-train.tfrecord-00002-of-00005"
    if damage == "cut":
        os.truncate(shard, 1000)
    elif damage == "replaced":
        shutil.copy(out / "my_videos-train.tfrecord-00001-of-00005", shard)
    else:
        shard.unlink()
    if damage == "index and shard missing":
        Path(f"{shard}.index").unlink()
    assert run(videos, out).made == 1
    assert contents(out) == contents(converted)


def test_two_at_once_are_kept_apart(videos: Path, tmp_path: Path):
    (tmp_path / "r").mkdir()
    descriptor = os.open(tmp_path / "r", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(VidrecError, match="another 'vidrec convert' is at work"):
            run(videos, tmp_path / "r")
    finally:
        os.close(descriptor)
    assert run(videos, tmp_path / "r").made


def start(videos: Path, out: Path, *, stop_at: int, workers: int, before: str = "") -> subprocess.Popen:
    """Starts a conversion in a process group of its own; after `stop_at` videos and a shard it says "ready", waits."""
    code = f"""
import pathlib, sys
from vidrec.data.convert import convert
work = pathlib.Path({str(out / ".convert")!r})
def progress(done, total):
    if done >= {stop_at} and any(work.glob("*.done.json")):
        print("ready", flush=True)
        sys.stdin.read()
{before}
convert("list", {str(videos)!r}, {str(videos / "annotations.csv")!r}, {str(out)!r}, progress=progress,
        **{SETTINGS | {"workers": workers}!r})
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="session")
def long_videos(tmp_path_factory) -> Path:
    """24 videos that take long enough to convert for a process to be killed in between."""
    root = tmp_path_factory.mktemp("long")
    for number in range(3):
        write_mp4(root / f"{number}.mp4", draw(number, 120, 120, 480), fps=30)
    for number in range(3, 24):
        os.link(root / f"{number % 3}.mp4", root / f"{number}.mp4")
    (root / "annotations.csv").write_text("".join(f"{number}.mp4,c{number % 2},train\n" for number in range(24)))
    return root


@pytest.fixture(scope="session")
def long_converted(long_videos: Path, tmp_path_factory) -> Path:
    """The undisturbed conversion of `long_videos`."""
    out = tmp_path_factory.mktemp("long") / "records"
    run(long_videos, out)
    return out


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_and_gone_on_with(
    long_videos: Path, long_converted: Path, tmp_path: Path, how: signal.Signals, workers: int
):
    out = tmp_path / "r"
    process = start(long_videos, out, stop_at=12, workers=workers)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    process.communicate(timeout=60)  # returns when the workers have ended, too
    assert process.returncode != 0
    assert not (out / "manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("long*") if path.name + ".done.json" in notes(out)}
    assert kept
    assert workers == 2 or len(kept) == 2  # how far two workers got by the time they end is a matter of luck
    assert run(long_videos, out, workers=workers).made == 6 - len(kept)
    assert contents(out) == contents(long_converted)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_no_room_is_one_sentence_and_finished_shards_are_kept(videos: Path, converted: Path, tmp_path: Path):
    """A limit on the size of files stands for a full disk: writing fails in the middle of a shard."""
    sizes = sorted(path.stat().st_size for path in converted.glob("*tfrecord-*") if path.suffix != ".index")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))".format(sizes[-1] - 1)
    for workers in (1, 2):
        out = tmp_path / f"r{workers}"
        process = start(videos, out, stop_at=99, workers=workers, before=limit)
        _, errors = process.communicate(timeout=60)
        assert f"vidrec.errors.VidrecError: no room left in {out} (" in errors
        assert not list(out.rglob("*.tmp"))
        assert not (out / "manifest.json").exists()
        assert run(videos, out).made >= 1
        assert contents(out) == contents(converted)
