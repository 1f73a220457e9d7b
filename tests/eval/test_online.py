"""Streams: the same scores as of whole windows, in memory that does not grow, whatever ends them."""

import io
import json
import os
import shutil
import sys
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from tests.end_to_end.runs import damage
from tests.eval.recognizers import drawn, fresh, save
from tests.models.families import CLASSES, IMAGE_SIZE, make
from vidrec.cli import main
from vidrec.data.clips import ClipSpec
from vidrec.data.records import open_records
from vidrec.data.video import read_raw
from vidrec.errors import VidrecError
from vidrec.eval.halves import halve
from vidrec.eval.online import Latencies, Online
from vidrec.eval.predict import Recognizer
from vidrec.inspect.online_results import SHARES, frames_apart, online_run, taken_frames, watch_all

STATM = Path("/proc/self/statm")
# What each network knows of a frame alone.
KEPT = {"tsn": "stem to stage 3", "ttsn-tsn": "stem to stage 3", "tcm": "stem", "tdn": "", "direcformer": ""}


def noise(count: int, side: int = 16) -> np.ndarray:
    """Frames that differ in colour and everywhere."""
    rng = np.random.default_rng(0)
    return (rng.uniform(size=(count, side, side, 3)) * rng.uniform(0, 255, (count, 1, 1, 3))).astype(np.uint8)


def of_family(family: str, config: FrozenConfigDict) -> Recognizer:
    """A family's small network on pictures of its size."""
    fields = {"ett_inverse_std": 1.0} if family.startswith("ttsn") else {}
    model, sized = make(family, **fields), ConfigDict(config)
    sized.data.update(image_size=IMAGE_SIZE, resize=(IMAGE_SIZE,))
    classes = tuple(map(str, range(CLASSES)))
    return Recognizer(model, drawn(model, IMAGE_SIZE), classes, FrozenConfigDict(sized), 3)


def whole_windows(recognizer: Recognizer, frames: np.ndarray) -> np.ndarray:
    """The oracle: the whole network on the last frames, the first one standing for those before it."""
    length = recognizer.model.clip_length
    numbers = np.maximum(np.arange(len(frames))[:, None] + np.arange(1 - length, 1), 0)
    return np.stack([recognizer.predict_clips(frames[window][None])[0].scores for window in numbers])


@pytest.fixture(scope="module")
def recognizer(tiny_config):
    return fresh(tiny_config())


@pytest.fixture(scope="module")
def online(recognizer):
    return Online(recognizer)


@pytest.fixture(scope="module")
def run(recognizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream") / "run"
    save(recognizer, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", KEPT)
def test_streamed_equals_windowed(family, tiny_config):
    recognizer = of_family(family, tiny_config())
    online, frames = Online(recognizer), noise(recognizer.model.clip_length + 2, IMAGE_SIZE)
    moments = list(online.watch(frames))
    assert online.halves.kept == KEPT[family]
    expected = whole_windows(recognizer, frames)
    assert np.ptp(expected, axis=0).max() > 1e-4  # frames matter
    np.testing.assert_allclose([moment.now.scores for moment in moments], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_scores_of_a_video_are_the_mean_over_its_frames(online, recognizer):
    frames = noise(9)
    moments = list(online.watch(frames))
    expected = whole_windows(recognizer, frames)
    assert np.ptp(expected[:, 0]) > 0.01
    for number, moment in enumerate(moments):
        assert moment.frame == number
        np.testing.assert_allclose(moment.so_far.scores, expected[: number + 1].mean(0), atol=1e-5)
    taken = list(online.watch(frames, every=3))
    assert [moment.frame for moment in taken] == [0, 3, 6]
    np.testing.assert_allclose([m.now.scores for m in taken], whole_windows(recognizer, frames[::3]), atol=1e-5)


def test_a_step_leaves_what_was_before_as_it_was(online):
    frames = noise(6)
    memory, _ = online.step(None, frames[0])
    once, again = online.step(memory, frames[1])[1], online.step(memory, frames[1])[1]
    np.testing.assert_array_equal(once.scores, again.scores)
    assert (memory.frames, memory.window.shape[0]) == (1, 4)


def test_a_long_stream_takes_no_more_than_a_short_one(online):
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield noise(1)[0] + np.uint8(asked % 50)

    held = {}
    for moment in online.watch(endless()):
        assert asked == moment.frame + 1  # none is read ahead
        if moment.frame in (20, 700):
            held[moment.frame] = sorted((str(x.dtype), x.shape) for x in jax.live_arrays())
        if moment.frame == 700:
            break
    assert held[20] == held[700]


class Pixels(io.RawIOBase):
    """A pipe through which so many bytes come."""

    def __init__(self, count: int) -> None:
        self.left = count

    def read(self, size: int = -1) -> bytes:
        taken = min(size, self.left)
        self.left -= taken
        return bytes(taken)


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="the memory of this process is read from Linux's /proc")
def test_the_process_grows_no_more_in_a_long_stream(online):
    """Nor by what JAX does not know of: of 20,000 frames of 64 x 48 pixels, 184 MB, nothing stays."""
    held = {}
    for moment in online.watch(read_raw(Pixels(20_000 * 64 * 48 * 3), 64, 48)):
        if moment.frame in (2_000, 19_999):
            held[moment.frame] = int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert held[19_999] - held[2_000] < 4e6


@pytest.mark.parametrize(
    ("sampling", "stride", "apart"),
    [("segment", 32, 30.0), ("even", 32, 30.0), ("dense", 32, 16.0), ("strided", 7, 7.0)],
)
def test_how_far_apart_frames_were_learned(sampling, stride, apart, tiny_config):
    config = tiny_config(data__sampling=sampling, data__stride=stride)
    assert frames_apart(ClipSpec.from_config(config, 4, 4), 120) == apart


def test_frames_of_other_sizes_are_seen_as_by_predict(online, recognizer):
    """A stream whose frames are all the same is a video that stands still."""
    frame = np.random.default_rng(1).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    *_, last = online.watch([frame] * 5)
    np.testing.assert_allclose(last.so_far.scores, recognizer.predict(frame[None].repeat(5, 0)).scores, atol=1e-5)


def test_percentiles_are_those_of_all_durations():
    seconds = np.random.default_rng(0).lognormal(-6, 1, 5000)
    latencies = Latencies()
    assert latencies.percentiles() == {}
    for one in seconds:
        latencies.add(one)
    for name, found in latencies.percentiles().items():
        assert found == pytest.approx(1000 * np.percentile(seconds, float(name[1:])), rel=0.03)


@pytest.mark.slow
def test_networks_that_nobody_here_knows_are_looked_at_too(recognizer):
    """A part that only adds its place in the clip to a frame depends on no other frame, but cannot be kept."""

    class Placed(type(recognizer.model)):
        modules: str = "none"

        def after_stage(self, stage, x, layers):
            return x + np.arange(x.shape[1], dtype=np.float32)[:, None, None, None]

    model = Placed(num_classes=2, num_frames=4, stem_width=4, widths=(4,), stage_sizes=(1,), strides=(1,))
    assert halve(model, drawn(model, 8), (8, 8)).depth == 2  # stem and stage, but not what is behind it


def test_evaluation_counts_what_was_known_at_each_share(run, online, recognizer, records, tmp_path):
    result, text = online_run(run, split="test[:3]", every=2, out=str(tmp_path / "out"))
    source = open_records(records, "test[:3]")
    right = []
    for record, label in enumerate(source.labels):
        frames = np.stack([online.picture(f) for f in source.decode_frames(record, range(0, 12, 2))])
        means = whole_windows(recognizer, frames).cumsum(0)
        right.append([means[int(np.ceil(share * 6 / 100)) - 1].argmax() == label for share in SHARES])
    assert list(result["top1_by_share"].values()) == np.mean(right, axis=0).tolist()
    assert (result["videos"], result["unreadable"], result["kept"]) == (3, 0, "stem")
    assert list(result["latency_ms"]) == ["p50", "p90", "p99"]
    assert json.loads((tmp_path / "out" / "online.json").read_text()) == result
    assert f"top1 {result['top1']:.4f}" in text


def test_evaluation_holds_one_frame_at_a_time(records):
    """What was seen is let go, so that a video may be of any length."""
    source, seen = open_records(records, "test"), []
    for frame in taken_frames(source, 1, 5):
        seen.append((weakref.ref(frame), frame.copy()))
        assert sum(alive() is not None for alive, _ in seen) <= 2  # this one, and the loop's last
    np.testing.assert_array_equal([frame for _, frame in seen], source.decode_frames(1, [0, 5, 10]))


def test_videos_that_cannot_be_read_are_counted(online, records, tmp_path):
    folder = shutil.copytree(records, tmp_path / "records")
    damage(folder, "test", [1])
    found = watch_all(online, open_records(folder, "test[:3]"), 6)
    assert (len(found.right), found.unreadable) == (2, [open_records(records, "test").video_id(1)])
    with pytest.raises(VidrecError, match=r"no video of .* can be read"):
        watch_all(online, open_records(folder, "test[1:2]"), 6)


def piped(monkeypatch, capsys, data: bytes, *arguments):
    """Runs a command line with bytes on standard input; gives (exit status, standard output, standard error)."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_raw_frames_through_a_pipe(run, online, monkeypatch, capsys):
    frames = noise(6, 24)
    command = ("predict", "--workdir", run, "--online", "-", "--size", "24x24")
    status, out, err = piped(monkeypatch, capsys, frames.tobytes(), *command, "--json", "--every", 2)
    *lines, last = map(json.loads, out.splitlines())
    assert (status, [line["frame"] for line in lines]) == (0, [0, 2, 4])
    *_, expected = online.watch(frames, every=2)
    assert dict(last["top"]) == pytest.approx(dict(expected.so_far.top()), abs=1e-5)
    assert last["frames"] == 3
    assert "kept of a frame: stem" in err
    cut = frames.tobytes()[:-100]
    status, out, err = piped(monkeypatch, capsys, cut, *command)
    assert status == 1
    assert len(out.splitlines()) == 5 + 1 + 2  # a line for every whole frame, and the scores of all of them
    assert err.splitlines()[-1].startswith("vidrec: the stream stops within frame 5, after 1628 of its 1728 bytes")
    status, out, err = piped(monkeypatch, capsys, b"", *command)
    assert (status, out, err.splitlines()[-1]) == (1, "", "vidrec: the stream holds no frame")


def test_a_file_frame_by_frame(run, video_list, monkeypatch, capsys):
    status, out, _ = piped(monkeypatch, capsys, b"", "predict", "--workdir", run, "--online", video_list / "clip00.mp4")
    assert (status, len(out.splitlines())) == (0, 12 + 1 + 2)
    assert out.splitlines()[11].split()[0] == "11"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--online", "-"), "need --size"),
        (("--online", "-", "--size", "0x4"), "--size 0x4 is no width and height"),
        (("--online", "a.mp4", "--size", "4x4"), "no effect on a video file"),
        (("--online", "a.mp4", "b.mp4"), "one video, but got 2"),
        (("--online", "-", "--size", "4x4", "--every", 0), "every must be 1 or more"),
        (("a.mp4", "--every", 2), "--every has no effect without --online"),
    ],
)
def test_wrong_use_of_streams_is_told(run, monkeypatch, capsys, arguments, told):
    status, out, err = piped(monkeypatch, capsys, b"", "predict", "--workdir", run, *arguments)
    assert (status, out) == (2, "")
    assert told in err


def test_damaged_weights_are_told(recognizer):
    damaged = Recognizer(
        recognizer.model,
        jax.tree.map(lambda x: x * np.nan, recognizer.variables),
        recognizer.classes,
        recognizer.config,
        3,
    )
    with pytest.raises(VidrecError, match="not finite"):
        list(Online(damaged).watch(noise(1)))
