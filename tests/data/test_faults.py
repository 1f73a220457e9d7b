"""Hostile files: each fault of frames and shards on a file made for it, and any random damage of a shard.

Faults of video files are in test_video and test_convert, of single index bytes in test_index, of loader processes in
test_pipeline.
"""

import gzip
import io
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vidrec.data import images
from vidrec.data.clips import ClipSpec, EvalReader, TrainReader
from vidrec.data.index import index_path, open_index
from vidrec.data.openfiles import OpenFiles
from vidrec.data.records import open_records
from vidrec.data.tfrecord import BadRecord
from vidrec.data.verify import verify
from vidrec.errors import VidrecError

SHARD = "tiny-train.tfrecord-00001-of-00003"


def smooth(height: int = 24, width: int = 40) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 5, y * 9, 255 - x * 3 - y * 2], -1).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "jpeg", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"quality": 95} if kind == "jpeg" else {}) | options)
    return out.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    return encoded(Image.fromarray(smooth()), exif=exif)


GRAY = smooth()[..., 1]
FRAMES = {
    "gray": (encoded(Image.fromarray(GRAY)), np.stack([GRAY] * 3, -1)),
    "cmyk": (encoded(Image.fromarray(smooth()).convert("CMYK")), smooth()),
    "progressive": (encoded(Image.fromarray(smooth()), progressive=True), smooth()),
    "turned": (turned(), smooth()),
    "odd": (encoded(Image.fromarray(smooth(23, 39))), smooth(23, 39)),
    "one pixel": (encoded(Image.fromarray(smooth(1, 1))), smooth(1, 1)),
    "png": (encoded(Image.fromarray(smooth()), "png"), smooth()),
    "palette": (encoded(Image.fromarray(GRAY).convert("P"), "png"), np.stack([GRAY] * 3, -1)),
    "alpha": (encoded(Image.fromarray(np.dstack([smooth(), GRAY])), "png"), smooth()),
    "16 bits": (encoded(Image.fromarray(GRAY.astype(np.uint16) * 257), "png"), np.stack([GRAY] * 3, -1)),
}


@pytest.mark.parametrize("library", [images.OpenCV(), images.Pillow()], ids=lambda library: library.name)
@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_every_kind_become_rgb(kind: str, library, monkeypatch):
    monkeypatch.setattr(images, "_backend", library)
    data, pixels = FRAMES[kind]
    decoded = images.decode(data)
    assert (decoded.shape, decoded.dtype) == (pixels.shape, np.uint8)
    assert np.abs(decoded.astype(int) - pixels).mean() < 4


@pytest.fixture
def mixed(tmp_path: Path, record, write_records) -> Path:
    """Three videos: one whose frames are of every kind and size, one of a single frame, one of nothing but damage."""
    kinds = replace(record(0, codec="jpeg"), frames=[data for data, _ in FRAMES.values()], height=24, width=40)
    single = replace(record(1, codec="jpeg"), frames=[FRAMES["odd"][0]], height=23, width=39)
    broken = replace(record(2, codec="jpeg"), frames=[FRAMES["odd"][0][:200]] * 5, height=23, width=39)
    return write_records(tmp_path / "r", {"train": [[kinds, single, broken]]})


def test_sizes_that_change_inside_a_video_become_one_clip(mixed: Path):
    source = open_records(mixed, "train")
    spec = ClipSpec(num_frames=10, image_size=16, resize=(20,), crop="center")
    clip = EvalReader(source, spec, 1, 1)(0)
    assert clip.valid
    assert clip.clips.shape == (10, 16, 16, 3)
    plain = list(FRAMES).index("progressive")
    for number in (list(FRAMES).index(kind) for kind in ("turned", "odd", "png", "cmyk")):
        assert np.abs(clip.clips[number].astype(int) - clip.clips[plain]).mean() < 8


@pytest.mark.parametrize("short", ["first", "loop", "clamp"])
@pytest.mark.parametrize("sampling", ["segment", "dense", "even", "strided"])
def test_fewer_frames_than_a_clip_has(mixed: Path, sampling: str, short: str):
    source = open_records(mixed, "train")
    spec = ClipSpec(num_frames=4, image_size=16, resize=(20,), crop="center", sampling=sampling, short=short)
    clip = TrainReader(source, spec)(1, np.random.default_rng(0))
    assert clip.record == 1
    np.testing.assert_array_equal(clip.clips, np.stack([clip.clips[0]] * 4))


def test_frames_cut_off_are_a_bad_record(mixed: Path):
    source = open_records(mixed, "train")
    spec = ClipSpec(num_frames=4, image_size=16, resize=(20,))
    assert TrainReader(source, spec)(2, np.random.default_rng(0)).record == 0
    assert not EvalReader(source, spec, 1, 1)(2).valid
    with pytest.raises(BadRecord, match=r"\(video 'train/vidéo 002'\): cannot decode a frame of 200 bytes"):
        source.decode_frames(2, [0])


# Shards.


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda content: b"", "not the one that its manifest names"),
        (lambda content: bytes(len(content)), "not the one in the shard|length of record 0|CRC"),
        (gzip.compress, "is compressed, which rules out random access"),
        (lambda content: b"<html>no such file</html>", "length of record 0 .* is damaged"),
        (lambda content: content[:11], "is cut off at byte 0"),
        (lambda content: content[: len(content) // 2], "is cut off"),
        (lambda content: content * 2, "not the one that its manifest names"),
    ],
    ids=["empty", "zeros", "gzip", "page", "head", "half", "twice"],
)
def test_shards_of_something_else(tiny_copy: Path, damage, sentence: str):
    shard = tiny_copy / SHARD
    index = index_path(shard).read_bytes()
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(VidrecError, match=sentence) as error:
        open_records(tiny_copy, "train")
    assert "\n" not in str(error.value)
    assert len(open_records(tiny_copy, "test")) == 4
    assert index_path(shard).read_bytes() == index  # it tells what can be saved
    problems = verify(tiny_copy).problems
    assert len(problems) == 1
    assert SHARD in problems[0]


def test_places_with_spaces_and_accents(tiny_folder: Path, tmp_path: Path, tiny_splits):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "Vidéos, ünï 動画 #1 100%"))
    source = open_records(str(folder), "train")
    assert source.read_frames(4, [2]) == [tiny_splits["train"][0][4].frames[2]]
    assert verify(folder).ok


@pytest.mark.parametrize("how", ["renamed over", "written over"])
def test_a_shard_replaced_while_training(tiny_copy: Path, tmp_path: Path, record, write_records, tiny_splits, how: str):
    """Nothing of the other shard passes for a frame; each process notices, whether or not it has the file open."""
    source = open_records(tiny_copy, "train")
    mine = tiny_splits["train"][1]
    assert source.read_frames(5, [0]) == [mine[0].frames[0]]
    other = write_records(tmp_path / "other", {"train": [[record(number + 30) for number in range(5, 10)]] * 3}) / SHARD
    assert other.stat().st_size == (tiny_copy / SHARD).stat().st_size
    if how == "renamed over":
        os.replace(other, tiny_copy / SHARD)
        assert source.read_frames(5, [1]) == [mine[0].frames[1]]  # the open file is still the old one
        source._files = OpenFiles()  # as in a process that opens it now
    else:
        (tiny_copy / SHARD).write_bytes(other.read_bytes())
    for i in range(5, 10):
        with pytest.raises(BadRecord, match=rf"record {i - 5} of shard {SHARD}.*CRC does not match.*verify"):
            source.read_frames(i, [0])
    with pytest.raises(VidrecError, match="is not the one that its manifest names"):
        open_records(tiny_copy, "train")


def test_no_room_for_a_repair_is_told(tiny_copy: Path):
    """A limit on the size of files stands for a full disk."""
    content = bytearray((tiny_copy / SHARD).read_bytes())
    content[-50] ^= 1
    (tiny_copy / SHARD).write_bytes(content)
    index_path(tiny_copy / "tiny-test.tfrecord-00000-of-00001").unlink()
    code = (
        "import resource, sys\n"
        "from vidrec.data.records import open_records\n"
        "from vidrec.data.verify import verify\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "print(*verify(sys.argv[1], repair=True).problems, sep='\\n')\n"
        "print(len(open_records(sys.argv[1], 'test')))\n"
    )
    before = {file.name for file in tiny_copy.iterdir()}
    command = [sys.executable, "-c", code, str(tiny_copy)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("index tiny-test.tfrecord-00000-of-00001.index cannot be written (File too large)")
    assert lines[1].startswith("set_aside.json cannot be written (File too large)")
    assert lines[2:] == ["4"]  # the index stays in memory
    assert {file.name for file in tiny_copy.iterdir()} == before
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 10


# Any damage.


@st.composite
def edits(draw: st.DrawFn, content: bytes) -> bytes:
    """One to three random edits: bytes changed, put in, left out, blocks exchanged, the end cut off."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        size = draw(st.integers(1, 300))
        part = content[at : at + size]
        match draw(st.sampled_from(["change", "put in", "leave out", "exchange", "repeat", "cut"])):
            case "change":
                new = draw(st.binary(min_size=1, max_size=4))
                content = content[:at] + new + content[at + len(new) :]
            case "put in":
                content = content[:at] + draw(st.binary(min_size=1, max_size=20)) + content[at:]
            case "leave out":
                content = content[:at] + content[at + size :]
            case "exchange":
                to = draw(st.integers(0, max(len(content) - size, 0)))
                lower, upper = sorted((at, to))
                one, two = content[lower : lower + size], content[upper : upper + size]
                content = content[:lower] + two + content[lower + size : upper] + one + content[upper + size :]
            case "repeat":
                content = content[:at] + part + part + content[at + size :]
            case "cut":
                content = content[:at]
    return content


@pytest.fixture(scope="module", params=["raw", "jpeg", "mp4"])
def sound(request, tmp_path_factory, record, write_records) -> tuple[Path, dict[str, list[bytes]]]:
    """A folder of one shard of four videos, and the stored frames of each."""
    folder = tmp_path_factory.mktemp("sound") / "records"
    write_records(folder, {"train": [[record(number, codec=request.param) for number in range(4)]]})
    source = open_records(folder, "train")
    return folder, {source.video_id(i): source.read_frames(i, range(source.num_frames[i])) for i in range(4)}


def check_sentence(error: VidrecError, part: str = "") -> None:
    assert "\n" not in str(error)
    assert part in str(error)


def read_what_can_be(folder: Path, frames: dict[str, list[bytes]]) -> int:
    """Reads and decodes all of a folder; what comes is right, and what does not is told in one sentence."""
    came = 0
    try:
        source = open_records(folder, "train")
    except VidrecError as error:
        check_sentence(error)
        return came
    for i in range(len(source)):
        right = frames[source.video_id(i)]
        for number in range(source.num_frames[i]):
            try:
                assert source.read_frames(i, [number]) == [right[number]]
                assert source.decode_frames(i, [number])[0].shape == (6, 8, 3)
                came += 1
            except BadRecord as error:
                check_sentence(error)
    return came


@settings(max_examples=40)
@given(data=st.data())
def test_no_damage_of_a_shard_gives_a_wrong_frame(sound, tmp_path_factory, data):
    damage_and_read(*sound, tmp_path_factory, data)


@pytest.mark.slow
@settings(max_examples=200)
@given(data=st.data())
def test_no_damage_of_a_shard_gives_a_wrong_frame_at_length(sound, tmp_path_factory, data):
    damage_and_read(*sound, tmp_path_factory, data)


def damage_and_read(source: Path, frames: dict[str, list[bytes]], tmp_path_factory, data: st.DataObject) -> None:
    """Edits the shard, and perhaps takes its index away; reads; repairs and reads again."""
    folder = Path(shutil.copytree(source, tmp_path_factory.mktemp("fuzz") / "r"))
    shard = next(folder.glob("*-of-00001"))
    content = shard.read_bytes()
    edited = data.draw(edits(content))
    shard.write_bytes(edited)
    if data.draw(st.booleans()):
        index_path(shard).unlink()
    read_what_can_be(folder, frames)
    report = verify(folder)
    assert report.ok == (edited == content and index_path(shard).exists())
    repaired = verify(folder, repair=True)
    came = read_what_can_be(folder, frames)
    if repaired.ok:  # then it opens, and everything that is not set aside is there
        left = repaired.videos
        assert left + repaired.videos_aside == 4
        assert verify(folder).ok
        if left:
            there = open_records(folder, "train")
            assert came >= sum(int(there.num_frames[i]) for i in range(len(there)) if i not in there.aside)
    shutil.rmtree(folder.parent)


@settings(max_examples=30)
@given(data=st.data())
def test_no_damage_of_a_list_of_records_set_aside_goes_unsaid(tiny_folder: Path, tmp_path_factory, data):
    folder = Path(shutil.copytree(tiny_folder, tmp_path_factory.mktemp("aside") / "r"))
    (folder / "set_aside.json").write_bytes(data.draw(st.binary(max_size=30) | st.just(b'{"records": [], "cut": []}')))
    try:
        assert open_records(folder, "train").aside == frozenset()
    except VidrecError as error:
        check_sentence(error, "set_aside.json is damaged")
    shutil.rmtree(folder.parent)


def test_an_index_rebuilt_from_a_sound_shard_is_kept(tiny_copy: Path):
    index = index_path(tiny_copy / SHARD)
    content = index.read_bytes()
    index.write_bytes(b"")
    assert len(open_records(tiny_copy, "train")) == 14
    assert index.read_bytes() == content == open_index(tiny_copy / SHARD).tobytes()
