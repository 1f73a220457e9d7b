"""Exported files give what the network gives, or do not appear."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.eval.recognizers import fresh, save
from vidrec.cli import main
from vidrec.errors import UsageError, VidrecError
from vidrec.interop import stablehlo
from vidrec.interop.export import compare, export, load_artifact

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
    for wrong, told in (((), "either --workdir or"), (("--artifact", str(out), "--online"), "--online needs")):
        assert main(["predict", *wrong, clip]) == 2
        assert told in capsys.readouterr().err
    assert (tmp_path / "stm.stablehlo.md").read_text().startswith("# stm_resnet18")
