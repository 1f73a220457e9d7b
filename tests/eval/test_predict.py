"""What people hand to `predict`: short, huge, turned and soundtrack-only files, arrays."""

import av
import numpy as np
import pytest

import vidrec
from tests.data.sound import write_sound
from tests.eval.recognizers import fresh, save
from vidrec.cli import main
from vidrec.data.video import write_mp4
from vidrec.errors import UsageError


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "run"
    save(fresh(tiny_config()), folder)
    return folder


def stripes(count: int, height: int, width: int) -> np.ndarray:
    """Frames of coarse coloured stripes, whose colours change with time."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 1, 4, 3), dtype=np.uint8)
    return np.broadcast_to(colours.repeat(width // 4, 2), (count, height, width, 3))


def test_three_lines_from_a_checkpoint_to_labels(run, video_list):
    network = vidrec.load(run)
    prediction = network.predict(video_list / "clip03.mp4")
    assert prediction.top(1)[0][0] in ("left", "right")
    assert prediction.scores.sum() == pytest.approx(1)


def test_one_frame_is_a_clip_that_stands_still(run):
    network, frame = vidrec.load(run), stripes(1, 24, 32)
    expected = network.predict(frame.repeat(4, 0)).scores
    np.testing.assert_allclose(network.predict(frame).scores, expected, atol=1e-6)
    assert network.clip(frame).shape == (4, 16, 16, 3)


@pytest.mark.slow
def test_frames_of_8k_are_seen_as_small_ones(run, tmp_path):
    network = vidrec.load(run)
    with av.open(str(tmp_path / "8k.avi"), "w") as file:
        stream = file.add_stream("mjpeg", rate=2)
        stream.height, stream.width, stream.pix_fmt = 4320, 7680, "yuvj420p"
        for pixels in stripes(2, 4320, 7680):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        file.mux(stream.encode(None))
    small = network.clip(stripes(2, 36, 64))
    assert np.abs(network.clip(tmp_path / "8k.avi").astype(int) - small).mean() < 6


def test_a_bad_file_does_not_keep_the_others_from_being_told(run, tmp_path, capsys):
    write_mp4(tmp_path / "a.mp4", stripes(3, 24, 32), 8)
    (tmp_path / "b.mp4").write_bytes(b"no video")
    write_sound(tmp_path / "c.mp4")
    assert main(["predict", "--workdir", str(run), str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert told.err == "vidrec: 2 of 3 videos could not be read\n"
    lines = told.out.splitlines()
    assert lines[0].endswith("a.mp4")
    assert "cannot open video" in lines[lines.index(f"{tmp_path / 'b.mp4'}") + 1]
    assert "holds no video stream" in lines[lines.index(f"{tmp_path / 'c.mp4'}") + 1]


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 16, 16), np.uint8), np.zeros((4, 16, 16, 3)), np.zeros((0, 8, 8, 3), "u1")]
)
def test_arrays_that_are_no_video_are_refused(run, wrong):
    with pytest.raises(UsageError, match="a video is uint8"):
        vidrec.load(run).predict(wrong)
