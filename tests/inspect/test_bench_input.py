"""The benchmark of the input pipeline and what it compares with."""

import importlib.util
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidrec.cli import main
from vidrec.data import images
from vidrec.data.augment import fixed_offsets, multiscale_sizes
from vidrec.data.clips import ClipSpec
from vidrec.errors import VidrecError
from vidrec.inspect import bench_input, bench_videos, peers

SMALL = bench_input.Setting(
    spec=ClipSpec(num_frames=4, image_size=16), frames=(4,), batch_size=2, workers=0, clips=4, rounds=1, batches=10
)


@pytest.fixture(scope="module")
def report(records) -> dict:
    return bench_input.measure(SMALL._replace(records=(str(records),)))


def test_both_read_the_same_clips_in_one_run(report):
    ours, pillow = (next(row for row in report["rows"] if row["pipeline"].startswith(name)) for name in ("vid", "Pil"))
    assert ours["frames"] == pillow["frames"] == 4
    assert ours["clips_per_cpu_second"] / pillow["clips_per_cpu_second"] == pytest.approx(ours["times_pillow"])
    assert pillow["times_pillow"] == 1
    for row in (ours, pillow):
        assert row["clips_per_cpu_second"] * row["cpu_ms_per_clip"] == pytest.approx(1000)
    json.dumps(report, allow_nan=False)


def test_only_the_bytes_of_the_sampled_frames_are_read(report, records):
    whole = sum(file.stat().st_size for file in records.glob("*train*tfrecord*") if file.suffix != ".index") / 26
    assert 0.2 * whole < report["stages"][0]["bytes"] < 0.5 * whole  # 4 of 12 frames


def test_a_report_for_people(report):
    lines = bench_input.text(report).splitlines()
    assert len(lines) == 2 + len(report["rows"]) + len(report["stages"]) + 3
    assert lines[-1].endswith("MB after 10")
    assert lines[-1].startswith("memory")


def test_the_comparison_crops_as_tsm_does():
    draw = random.Random(0)
    boxes = {peers.crop_box(340, 256, 224, draw) for _ in range(3000)}
    expected = {
        (x, y, w, h) for w, h in multiscale_sizes(256, 340, 224, peers.SCALES) for x, y in fixed_offsets(256, 340, w, h)
    }
    assert boxes == expected


def test_the_comparison_s_clips(tmp_path: Path):
    """Frames of one colour each: a clip is a normalised frame of every segment, in order."""
    for number in range(9):
        Image.new("RGB", (32, 24), (number * 20, 50, 255 - number * 20)).save(tmp_path / f"{number + 1:05d}.jpg")
    clip = peers.clip(str(tmp_path), 9, 3, 16, random.Random(1))
    assert clip.shape == (9, 16, 16)
    pixels = clip.reshape(3, 3, -1) * peers.STD[:, None] + peers.MEAN[:, None]
    red = np.rint(pixels[:, 0].mean(-1) * 255 / 20)
    assert [value // 3 for value in red] == [0, 1, 2]
    np.testing.assert_allclose(pixels[:, 1] * 255, 50, atol=3)
    np.testing.assert_allclose(pixels.std(-1), 0, atol=0.01)
    assert peers.clip(str(tmp_path), 2, 3, 16, random.Random(1)).shape == (9, 16, 16)  # fewer frames than segments


def test_threads_and_processes_that_ended_meanwhile_are_no_error(monkeypatch):
    """Between listing them and reading of them."""
    assert peers.seconds_of(2147483647) == 0
    assert peers.descendants(2147483647) == []
    listed = peers.os.listdir
    monkeypatch.setattr(peers.os, "listdir", lambda path: [*listed(path), "2147483647"])
    assert peers.cpu_seconds() > 0
    assert bench_input.resident() > 1 << 20


def test_made_videos_are_as_hard_to_decode_as_films():
    frame = next(bench_videos.draw(np.random.default_rng(0)))
    assert frame.shape == (256, 340, 3)
    assert 30_000 < len(images.encode_jpeg(frame, 95)) < 50_000


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--torch-python", "nowhere/python"], "name a Python interpreter"),
        (["--batches", "1"], "at least 10"),
        (["--frames", "0"], "at least 1"),
        (["--config", "configs/tsn.py:toy", "--config.data.records=nowhere"], "nowhere"),
    ],
)
def test_wrong_settings_are_told(options, told, capsys):
    assert main(["bench", "input", *options]) != 0
    assert told in capsys.readouterr().err


def test_an_interpreter_without_pytorch_is_told(records, capsys):
    if importlib.util.find_spec("torch"):
        pytest.skip("PyTorch is installed")
    setting = SMALL._replace(records=(str(records),), torch_python=sys.executable, rounds=1)
    with pytest.raises(VidrecError, match="No module named 'torch'"):
        bench_input.measure(setting)
