"""After training: evaluation files, prediction of files and arrays, weights from elsewhere; by the command line."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import vidrec
from tests.end_to_end.runs import damage, straight
from vidrec.cli import main
from vidrec.config import base
from vidrec.data.records import open_records
from vidrec.data.video import read_video
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.evaluate import evaluate
from vidrec.interop.torch import to_torch
from vidrec.train.sharding import make_mesh


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    straight(tiny_config(), folder)
    return folder


def call(capsys, *arguments):
    """Runs a command line; gives (exit status, standard output, standard error)."""
    capsys.readouterr()
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_eval_writes_what_there_is_to_see(run, capsys, records):
    status, out, _ = call(capsys, "eval", "--workdir", run, "--json")
    result = json.loads(out)
    assert status == 0
    assert (result["videos"], result["unreadable"], result["step"]) == (12, 0, 8)
    folder = run / "eval"
    scores = np.load(folder / "scores.npz")
    assert (scores["scores"].argmax(1) == scores["labels"]).mean() == result["top1"]
    with open(folder / "per_class.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(open_records(records, "test").classes)
    assert sum(int(row["videos"]) for row in rows) == 12
    with open(folder / "confusion.csv") as file:
        table = list(csv.reader(file))
    assert sum(float(cell) for row in table[1:] for cell in row[1:]) == 12
    Image.open(folder / "confusion.png").verify()
    assert json.loads((folder / "results.json").read_text())["top1"] == result["top1"]


def test_more_views_and_batch_sizes_change_no_count(run, capsys, tmp_path):
    views = ("--clips", 2, "--crops", 10, "--sampling", "twice", "--full-resolution")
    command = ("eval", "--workdir", run, "--json", "--out", tmp_path / "e", *views)
    one = json.loads(call(capsys, *command)[1])
    other = json.loads(call(capsys, *command, "--batch-size", 5)[1])
    assert one["videos"] == other["videos"] == 12
    assert one["top1"] == other["top1"]
    assert (one["clips"], one["sampling"], one["crops"], one["full_resolution"]) == (2, "twice", 10, True)


def test_an_unreadable_video_is_told_and_not_counted(run, capsys, records, tmp_path):
    folder = shutil.copytree(records, tmp_path / "records")
    source = open_records(folder, "test")
    damage(folder, "test", [5])
    status, out, _ = call(capsys, "eval", "--workdir", run, "--records", folder, "--out", tmp_path / "eval")
    assert status == 0
    assert source.video_id(5) in out
    assert "11 videos" in out


def test_an_evaluation_of_nothing_readable_fails(run, capsys, records, tmp_path):
    folder = shutil.copytree(records, tmp_path / "records")
    damage(folder, "test", range(12))
    command = ("eval", "--workdir", run, "--records", folder, "--out", tmp_path / "eval", "--json")
    status, out, err = call(capsys, *command)
    assert (status, out) == (1, "")
    assert "no video of" in err.splitlines()[-1]
    assert not (tmp_path / "eval").exists()


def test_scores_that_are_not_finite_are_no_result(run, records):
    recognizer = vidrec.load(run)
    variables = jax.tree.map(lambda x: x * np.nan, recognizer.variables)
    with pytest.raises(VidrecError, match="not finite"):
        evaluate(recognizer.model, variables, open_records(records, "test"), recognizer.config, make_mesh(base().mesh))
    with pytest.raises(VidrecError, match="not finite"):
        replace(recognizer, variables=variables).predict(np.zeros((4, 16, 16, 3), np.uint8))


def test_predict_agrees_with_eval(run, capsys, video_list, records):
    recognizer = vidrec.load(run)
    source = open_records(records, "test")
    evaluation = evaluate(recognizer.model, recognizer.variables, source, recognizer.config, make_mesh(base().mesh))
    by_id = dict(zip(evaluation.video_ids, evaluation.scores, strict=True))
    name = "clip30.mp4"
    predicted = recognizer.predict(video_list / name)
    expected = next(scores for video_id, scores in by_id.items() if "clip30" in video_id)
    np.testing.assert_allclose(predicted.scores, expected, atol=0.05)  # the records are JPEG
    status, out, _ = call(capsys, "predict", "--workdir", run, video_list / name, "--json")
    assert status == 0
    assert json.loads(out)[0]["top"] == [list(row) for row in predicted.top(5)]


def test_predict_takes_arrays_folders_and_several_files(run, capsys, video_list):
    recognizer = vidrec.load(run)
    frames = read_video(video_list / "clip03.mp4").array()
    np.testing.assert_array_equal(
        recognizer.predict(frames).scores, recognizer.predict(video_list / "clip03.mp4").scores
    )
    assert len(recognizer.predict(frames[:2]).scores) == 2  # shorter than the clip
    status, out, _ = call(capsys, "predict", "--workdir", run, video_list, video_list / "clip03.mp4", "--json")
    assert status == 0
    assert len(json.loads(out)) == 39
    with pytest.raises(UsageError, match="uint8"):
        recognizer.predict(frames.astype(np.float32))


def test_a_large_video_is_seen_as_its_records_would_be(run, video_list):
    recognizer = vidrec.load(run)
    frames = read_video(video_list / "clip05.mp4").array()
    large = frames.repeat(10, 1).repeat(10, 2)
    noise = np.random.default_rng(0).integers(-60, 60, large.shape)
    noisy = np.clip(large.astype(int) + noise, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(recognizer.clip(large).astype(int), recognizer.clip(frames), atol=2)
    assert np.abs(recognizer.clip(noisy).astype(int) - recognizer.clip(large)).mean() < 8


@pytest.mark.slow
def test_train_starts_from_another_run(run, tiny_config, tmp_path):
    straight(tiny_config(train__init=str(run), train__steps=1, optim__lr=0.0), tmp_path / "next")
    old, new = vidrec.load(run).variables["params"], vidrec.load(tmp_path / "next").variables["params"]
    np.testing.assert_array_equal(old["conv1"]["kernel"], new["conv1"]["kernel"])
    with pytest.raises(UsageError, match="another network"):
        straight(tiny_config("tsn_resnet18", train__init=str(run)), tmp_path / "other")


@pytest.mark.slow
def test_import_with_every_flag_is_what_training_starts_from(tmp_path, capsys, monkeypatch):
    (tmp_path / "own_network.py").write_text(
        "from vidrec.models.tsm import TSN\n\n\ndef tiny(num_classes: int, num_frames: int):\n"
        "    return TSN(num_classes=num_classes, num_frames=num_frames, stem_width=4, widths=(4, 8),"
        " stage_sizes=(1, 1), strides=(1, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    name = "own_network:tiny"
    model = vidrec.create_model(name, num_classes=5, num_frames=3)
    variables = model.init(jax.random.key(1), np.zeros((1, 3, 16, 16, 3), np.float32), train=False)
    weights = to_torch(model, variables)
    np.savez("weights.npz", **weights)
    safetensors.numpy.save_file(weights, "weights.safetensors")
    Path("classes.txt").write_text("left\nright\n")

    for file in ("weights.npz", "weights.safetensors"):
        plain = ("import", "--model", name, "--weights", file, "--out", f"plain-{file}", "--num-frames", 3, "--json")
        status, out, err = call(capsys, *plain)
        assert status == 0, err
        report = json.loads(out)
        assert sorted(report["matched"]) == sorted(weights)
        assert report["missing"] == report["unexpected"] == []
        loaded = vidrec.load(f"plain-{file}")
        assert loaded.classes == tuple(f"class {number}" for number in range(5))
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, dict(variables))

    flags = ("--num-classes", 2, "--num-frames", 3, "--image-size", 16, "--classes", "classes.txt")
    command = ("import", "--model", name, "--weights", "weights.npz", "--out", "two", *flags)
    status, out, err = call(capsys, *command)
    assert (status, out) == (1, "")
    assert "fc" in err.splitlines()[-1]
    status, out, err = call(capsys, *command, "--allow-missing", "fc")
    assert status == 0, err
    assert "missing     2" in out
    assert "Wrote two." in out
    loaded = vidrec.load("two")
    assert (loaded.classes, loaded.config.data.image_size) == (("left", "right"), 16)
    kernel = variables["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(loaded.variables["params"]["conv1"]["kernel"], kernel)
    status, _, err = call(capsys, *command, "--allow-missing", "fc")
    assert status == 2
    assert "holds a checkpoint already" in err


@pytest.mark.slow
def test_import_into_the_network_of_a_recipe(tmp_path, capsys):
    thin = {"stem_width": 8, "widths": (8, 16, 32, 64), "stage_sizes": (1, 1, 1, 1), "strides": (1, 2, 2, 1)}
    model = vidrec.create_model("tsm_resnet18", num_classes=6, stem="half", **thin)
    variables = model.init(jax.random.key(1), np.zeros((1, 8, 32, 32, 3), np.float32), train=False)
    np.savez(tmp_path / "weights.npz", **to_torch(model, variables))
    command = ("import", "--weights", tmp_path / "weights.npz", "--out", tmp_path / "out")
    recipe = ("--config", "configs/demo.py:tsm", "--config.model.shift_every=2")
    assert call(capsys, *command, *recipe)[0] == 0
    loaded = vidrec.load(tmp_path / "out")
    assert (loaded.model.shift_every, loaded.model.num_classes, loaded.config.data.image_size) == (2, 6, 32)
    for wrong in ((), ("--model", "tsm_resnet18", *recipe), ("--num-frames", 8, *recipe)):
        status, _, err = call(capsys, *command, *wrong)
        assert (status, "give either --model" in err) == (2, True)


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        (("eval", "--workdir", "nowhere"), 2, "no run in nowhere"),
        (("predict", "--workdir", "{run}", "nothing.mp4"), 2, "nothing.mp4 does not exist"),
        (("predict", "--workdir", "{run}", "{empty}"), 2, "holds no video file"),
        (("eval", "--workdir", "{run}", "--split", "tset"), 2, "name one by --split"),
        (("eval", "--workdir", "{run}", "--spilt", "test"), 2, "did you mean '--split'"),
        (("train", "--config", "configs/none.py", "--workdir", "x"), 2, "no config file"),
        (("verify", "nowhere"), 1, "nowhere"),
        (("summary", "--config", "configs/demo.py:stm"), 2, "model.num_classes"),
        (("summary", "--config", "configs/stm.py:ssv9"), 2, "did you mean 'ssv"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(command, status, told, run, tmp_path, capsys):
    command = [part.format(run=run, empty=tmp_path) for part in command]
    code, out, err = call(capsys, *command)
    assert code == status
    assert told in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not out


def test_every_verb_has_help_with_an_example(capsys):
    _, out, _ = call(capsys, "--help")
    verbs = [line.split()[0] for line in out.splitlines() if line.startswith("    ") and line.split()]
    assert {"demo", "toy", "convert", "verify", "train", "eval", "predict", "summary", "import"} <= set(verbs)
    for verb in ("demo", "toy", "convert", "verify", "train", "eval", "predict", "summary", "import"):
        status, out, _ = call(capsys, verb, "--help")
        assert status == 0
        assert f"example:\n  vidrec {verb}" in out
