"""Exported files give what the network gives, or do not appear."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.eval.recognizers import fresh, save
from vidrec.cli import main
from vidrec.data.clips import ClipSpec
from vidrec.errors import UsageError, VidrecError
from vidrec.interop import stablehlo
from vidrec.interop.export import compare, export, load_artifact
from vidrec.interop.model_card import model_card
from vidrec.interop.preprocessing import check_preprocessing, own_pictures, preprocessing

pytest.importorskip("flatbuffers", reason="StableHLO files need flatbuffers")


@pytest.fixture(scope="module")
def recognizer(tiny_config):
    return fresh(tiny_config())


@pytest.fixture(scope="module")
def exported(recognizer, tmp_path_factory):
    return export(recognizer, tmp_path_factory.mktemp("exported") / "deep" / "stm.stablehlo", "stablehlo")


@pytest.fixture
def video():
    rng = np.random.default_rng(0)
    return (rng.uniform(size=(9, 20, 30, 3)) * rng.uniform(0, 255, (9, 1, 1, 3))).astype(np.uint8)


def test_the_file_predicts_what_the_network_predicts(recognizer, exported, video):
    artifact = load_artifact(exported.path)
    expected = recognizer.predict(video)
    assert artifact.predict(video).scores == pytest.approx(expected.scores, abs=1e-5)
    assert artifact.predict(video).classes == ("left", "right")
    clips = np.stack([recognizer.clip(video), recognizer.clip(video[::-1]), recognizer.clip(video // 2)])
    assert artifact.run(clips) == pytest.approx(np.stack([p.scores for p in recognizer.predict_clips(clips)]), abs=1e-5)
    assert np.ptp(artifact.run(clips)[:, 0]) > 1e-3


def test_the_card_says_what_to_feed_it(recognizer, exported):
    """Whoever has the file and the card alone gets the scores with jax and numpy."""
    card = json.loads(Path(f"{exported.path}.json").read_text())
    assert card["input"] == {"name": "clips", "dtype": "uint8", "shape": ["batch", 4, 16, 16, 3], "colours": "RGB"}
    assert card["output"]["shape"] == ["batch", 2]
    assert card["classes"] == ["left", "right"]
    assert card["mean"] == list(recognizer.config.data.mean)
    assert card["platforms"] == ["cpu", "cuda", "tpu"]
    assert 0 <= card["checked"]["difference"] <= card["checked"]["allowed"] < 0.01
    function = jax.export.deserialize(bytearray(exported.path.read_bytes()))
    clips = np.random.default_rng(1).integers(0, 256, (7, *card["input"]["shape"][1:]), np.uint8)
    scores = np.stack([p.scores for p in recognizer.predict_clips(clips)])
    np.testing.assert_allclose(function.call(clips), scores, atol=1e-5)


def test_a_file_that_gives_something_else_is_not_written(recognizer, exported, tmp_path, monkeypatch):
    trained_on = replace(recognizer, variables=jax.tree.map(lambda x: 0.9 * x, recognizer.variables))
    monkeypatch.setattr(stablehlo, "write", lambda function, shape: exported.path.read_bytes())
    with pytest.raises(VidrecError, match="does not give what the network gives"):
        export(trained_on, tmp_path / "x", "stablehlo")
    assert list(tmp_path.iterdir()) == []


def test_scores_that_are_nearly_certain_are_compared_as_well(recognizer):
    """A softmax of large scores looks the same whatever the network behind it."""
    shape = (4, 16, 16, 3)

    def scaled(by):
        head = jax.tree.map(lambda x: by * x, recognizer.variables["params"]["fc"])
        params = {**recognizer.variables["params"], "fc": head}
        return replace(recognizer, variables={**recognizer.variables, "params": params})

    def run(network):
        return lambda clips: np.stack([prediction.scores for prediction in network.predict_clips(clips)])

    assert compare(run(scaled(30)), scaled(30), shape) < 1e-6
    assert compare(run(scaled(31)), scaled(30), shape) > 0.02
    assert compare(lambda clips: np.full((len(clips), 2), np.nan), recognizer, shape) == float("inf")


def test_files_and_cards_that_do_not_belong_together_are_refused(exported, tmp_path):
    path, card = tmp_path / "a", tmp_path / "a.json"
    with pytest.raises(UsageError, match="there is no file"):
        load_artifact(path)
    path.write_bytes(exported.path.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"there is no card .*a\.json"):
        load_artifact(path)
    text = Path(f"{exported.path}.json").read_text()
    card.write_text(text)
    with pytest.raises(VidrecError, match="is not the file that"):
        load_artifact(path)
    for wrong in ("[]", "{}", text[:-20], text.replace('"short"', '"shrot"')):
        card.write_text(wrong)
        with pytest.raises(VidrecError, match="is not the card of"):
            load_artifact(path)
    card.write_text(text.replace('"stablehlo"', '"stablehol"'))
    with pytest.raises(UsageError, match="did you mean 'stablehlo'"):
        load_artifact(path)


@pytest.fixture(scope="module")
def of_frames(recognizer, tmp_path_factory):
    """A file that takes whole frames of 20 x 30 pixels."""
    return export(recognizer, tmp_path_factory.mktemp("frames") / "stm", "stablehlo", frame_size=(20, 30))


def test_a_file_that_resizes_and_cuts_frames_itself(recognizer, of_frames, video):
    assert of_frames.card["input"]["shape"] == ["batch", 4, 20, 30, 3]
    assert of_frames.card["inside"][:2] == ["resize", "centre crop"]
    assert of_frames.card["checked"]["pixels"]["largest"] <= 1
    artifact = load_artifact(of_frames.path)
    assert artifact.predict(video).scores == pytest.approx(recognizer.predict(video).scores, abs=0.02)
    frames = np.stack([video[[1, 3, 5, 7]], video[[0, 0, 8, 8]]])  # whoever has the file alone feeds it whole frames
    clips = np.stack([own_pictures(clip, recognizer.spec) for clip in frames])
    expected = [prediction.scores for prediction in recognizer.predict_clips(clips)]
    np.testing.assert_allclose(artifact.run(frames), np.stack(expected), atol=0.02)
    text = model_card(of_frames, None, [])
    assert "which the file does with whole frames of 20 x 30 pixels (to 1 of 255 levels as vidrec does" in text
    with pytest.raises(
        UsageError, match=r"frames of 30x20 pixels, .* 24x18: export the network with --frame-size 24x18"
    ):
        artifact.predict(np.zeros((9, 18, 24, 3), np.uint8))


@pytest.mark.parametrize(
    ("size", "fields"),
    [
        ((256, 340), {}),
        ((404, 227), {"resize": (256,)}),
        ((256, 454), {"resize": (240, 320)}),
        ((240, 320), {"resize": (224, 256), "eval_size": (224, 256)}),
        ((120, 160), {"resize": ()}),
        ((360, 480), {"full_resolution": True}),
    ],
)
def test_pictures_are_those_of_an_evaluation(size, fields):
    """Noise is the hardest of pictures to resize: every weight shows."""
    spec = ClipSpec(2, 112, **{"resize": (128,), **fields})
    frames = np.random.default_rng(0).integers(0, 256, (1, 2, *size, 3), np.uint8)
    found = check_preprocessing(jax.jit(preprocessing(spec, size)), spec, frames)
    assert found.largest <= 1
    assert found.mean < 0.2
    shifted = frames.copy()
    shifted[:, :, :, 1:] = frames[:, :, :, :-1]
    with pytest.raises(VidrecError, match="nothing was written"):
        check_preprocessing(lambda frames: jax.jit(preprocessing(spec, size))(shifted), spec, frames)


def test_scores_that_are_not_finite_are_told(exported, video):
    broken = replace(load_artifact(exported.path), run=lambda clips: np.full((1, 2), np.nan))
    with pytest.raises(VidrecError, match="not finite"):
        broken.predict(video)


@pytest.mark.slow
def test_by_the_command_line(recognizer, video_list, tmp_path, capsys):
    save(recognizer, tmp_path / "run")
    out = tmp_path / "stm.stablehlo"
    flags = ["--workdir", str(tmp_path / "run"), "--format", "stablehlo", "--out", str(out)]
    assert main(["export", *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 3
    clip = str(video_list / "clip01.mp4")
    predicted = []
    for source in (("--artifact", str(out)), ("--workdir", str(tmp_path / "run"))):
        assert main(["predict", *source, clip, "--json"]) == 0
        predicted.append(json.loads(capsys.readouterr().out)[0]["top"])
    assert dict(predicted[0]) == pytest.approx(dict(predicted[1]), abs=1e-5)
    wrongs = (
        ((), "either --workdir or"),
        (("--artifact", str(out), "--online"), "--online needs"),
        (("--artifact", str(out), "--top", "0"), "--top 0 shows no class"),
    )
    for wrong, told in wrongs:
        assert main(["predict", *wrong, clip]) == 2
        assert told in capsys.readouterr().err
    assert (tmp_path / "stm.stablehlo.md").read_text().startswith("# stm_resnet18")
    assert main(["export", *flags, "--frame-size", "32"]) == 2
    assert "give WxH, such as --frame-size 320x240" in capsys.readouterr().err
    assert main(["export", *flags, "--frame-size", "32x24"]) == 0
    assert re.search(r"resizes frames to [01] of 255 levels \(mean 0", capsys.readouterr().out)
    assert main(["predict", "--artifact", str(out), clip, "--json"]) == 0
    assert dict(json.loads(capsys.readouterr().out)[0]["top"]) == pytest.approx(dict(predicted[1]), abs=0.02)
