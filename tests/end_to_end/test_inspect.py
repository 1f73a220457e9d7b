"""`vidrec inspect`: arrays and pictures of what a trained network sees, and the overlay of its best look."""

import dataclasses
import json
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict
from PIL import Image

import vidrec.inspect
from tests.data.sound import write_sound
from tests.end_to_end.test_use import call
from tests.inspect.objects import RESNET
from tests.quick import jit
from vidrec import config as configuration
from vidrec.config import base
from vidrec.data.video import read_video, write_mp4
from vidrec.errors import UsageError
from vidrec.inspect.looking import drawn_over
from vidrec.train.checkpoint import Checkpoints, Snapshot
from vidrec.train.start import build_model
from vidrec.train.state import initial_variables


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a checkpoint of drawn weights."""
    folder, classes = tmp_path_factory.mktemp("run") / "stm", ["left", "right"]
    c = base()
    c.model.update(name="stm_resnet18", reduction=4, **{**RESNET, "num_classes": 2})
    c.data.update(image_size=16, resize=(16,))
    config = FrozenConfigDict(c)
    model = build_model(config, classes)
    variables = jit(lambda key: initial_variables(model, key, 16))(jax.random.key(0))
    with Checkpoints(folder / "checkpoints", writer=True) as checkpoints:
        position = {"version": 1, "step": 0, "clip": 0}
        checkpoints.save(0, Snapshot(variables, None, position, configuration.to_dict(config), classes))
    return folder


def test_two_networks_side_by_side(run, video_list, capsys, tmp_path):
    """Here two copies of one, so that both must see the same."""
    video = video_list / "clip00.mp4"
    shutil.copytree(run, tmp_path / "copy")
    runs = ("--workdir", run, "--workdir", tmp_path / "copy")
    status, out, _ = call(
        capsys,
        "inspect",
        video,
        *runs,
        "--what",
        "cam",
        "--class",
        "left",
        "--stage",
        "stage2",
        "--out",
        tmp_path / "looks",
        "--json",
    )
    assert status == 0
    result = json.loads(out)
    one, other = result["networks"]
    assert (one["name"], other["name"]) == ("stm", "copy")
    assert one["class"] == "left"
    assert one["maps"]["cam"] == {"axes": ["clip", "frame", "row", "column"], "shape": [1, 4, 16, 16]}
    with np.load(one["arrays"]) as first, np.load(other["arrays"]) as second:
        np.testing.assert_array_equal(first["cam"], second["cam"])
        assert first["cam"].shape == (1, 4, 16, 16)
    out = tmp_path / "looks"
    assert {path.name for path in out.iterdir()} == {"cam-stm.npz", "cam-copy.npz", "cam.png", "cam.gif", "cam.mp4"}
    assert result["pictures"] == [str(out / f"cam.{kind}") for kind in ("png", "gif", "mp4")]
    with Image.open(out / "cam.png") as sheet, Image.open(out / "cam.gif") as film:
        assert sheet.width >= 4 * 128  # four frames
        assert film.n_frames <= 4
    assert len(read_video(out / "cam.mp4").array()) == 4


def test_what_cannot_be_seen_is_told(run, video_list, capsys, tmp_path):
    command = ("inspect", video_list / "clip00.mp4", "--workdir", run, "--out", tmp_path / "new")
    for wish, sentence in (
        (("--what", "attention"), f"{run}: STM has no attention to look at; it has cam, motion, features"),
        (("--what", "cam", "--stage", "stage4"), "STM has no stage 'stage4' (did you mean 'stage"),
        (("--what", "cam", "--class", "lefd"), "--class 'lefd' is no class of this network (did you mean 'left'?)"),
        (("--what", "motion", "--class", "left"), "--class is about cam and has no effect on motion"),
        (("--what", "cam", "--head", "0"), "--head is about attention and has no effect on cam"),
        (("--what", "features", "--patch", "0,1"), "--patch is about attention and has no effect on features"),
        (("--what", "attention", "--patch", "1"), "--patch is '1', but must be ROW,COLUMN, such as 0,3"),
    ):
        status, out, err = call(capsys, *command, *wish)
        assert (status, out) == (2, "")
        assert sentence in err
    assert not (tmp_path / "new").exists()
    assert call(capsys, "inspect", tmp_path / "none.mp4", "--workdir", run, "--out", tmp_path, "--what", "cam")[0] == 1


def test_overlay_of_a_video(run, video_list):
    network = vidrec.load(run)
    overlay = vidrec.inspect.overlay_of(network, video_list / "clip00.mp4")
    assert overlay.shape == (4, 128, 128, 3)
    assert overlay.dtype == np.uint8
    frames = network.clip(video_list / "clip00.mp4").repeat(8, 1).repeat(8, 2)
    assert (overlay != frames).any((1, 2, 3)).all()  # Grad-CAM is scaled frame by frame


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_predict_draws_what_the_network_looks_at(ending, run, video_list, capsys, tmp_path):
    video, out = video_list / "clip00.mp4", tmp_path / f"film.{ending}"
    status, told, _ = call(capsys, "predict", "--workdir", run, video, "--overlay", out)
    assert status == 0
    assert f"Drawn: {out}" in told
    if ending == "mp4":
        assert len(read_video(out).array()) == 4
    else:
        with Image.open(out) as film:
            assert film.n_frames == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [(["{video}", "{video}"], "of one video"), (["{video}", "--online"], "without --online"), (["{video}"], ".gif")],
)
def test_overlays_that_there_are_not(words, message, run, video_list, capsys, tmp_path):
    given = [word.format(video=video_list / "clip00.mp4") for word in words]
    status, _, told = call(capsys, "predict", "--workdir", run, *given, "--overlay", tmp_path / "film.avi")
    assert status == 2
    assert message in told
    assert not list(tmp_path.iterdir())


def test_a_network_of_another_kind_has_plain_frames(run, video_list):
    """Of one's own network, of which no stage is known, the report shows the clip, and an overlay is refused."""

    class Net(nn.Module):
        num_frames: int = 4
        clip_length: int = 4

    network = dataclasses.replace(vidrec.load(run), model=Net())
    clip = network.clip(video_list / "clip00.mp4")
    np.testing.assert_array_equal(drawn_over(network, clip), clip.repeat(8, 1).repeat(8, 2))
    with pytest.raises(UsageError, match="there is no look at a Net: it is neither ResNet nor transformer"):
        vidrec.inspect.overlay_of(network, video_list / "clip00.mp4")


def test_videos_that_are_hardly_any(run, video_list, capsys, tmp_path):
    """One frame is a clip that stands still; sound alone, or what is no video at all, is told in a sentence."""
    write_mp4(tmp_path / "one.mp4", read_video(video_list / "clip00.mp4").array()[:1], fps=8)
    network = vidrec.load(run)
    assert (network.clip(tmp_path / "one.mp4") == network.clip(tmp_path / "one.mp4")[:1]).all()
    assert vidrec.inspect.overlay_of(network, tmp_path / "one.mp4").shape == (4, 128, 128, 3)
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "page.mp4").write_text("<html>gone</html>")
    command = ("--workdir", run, "--what", "cam", "--out", tmp_path / "looks")
    for name, sentence in (("sound.mp4", "sound.mp4 holds no video stream"), ("page.mp4", "page.mp4")):
        status, out, err = call(capsys, "inspect", tmp_path / name, *command)
        assert (status, out) == (1, "")
        assert sentence in err
        assert len(err.splitlines()) == 1
    status, _, err = call(capsys, "inspect", video_list / "clip00.mp4", *command, "--workdir", tmp_path / "nowhere")
    assert (status, f"there is no run in {tmp_path / 'nowhere'}" in err) == (2, True)
    assert not (tmp_path / "looks").exists()
