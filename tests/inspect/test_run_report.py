"""The report of runs: what stands in it is what their folders hold."""

import json
import re
import shutil

import numpy as np
import pytest

from vidrec import cli
from vidrec.errors import UsageError
from vidrec.eval.evaluate import make_evaluator
from vidrec.eval.scores import Evaluation
from vidrec.inspect.run_report import names_of, report, worth_seeing
from vidrec.train.loop import train


@pytest.fixture(scope="module")
def runs(tiny_config, tmp_path_factory):
    """Two folders of the same small run, of which the first was evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    config = tiny_config("tsn_resnet18", train__steps=4, train__eval_every=2, eval__sampling="twice", eval__clips=2)
    train(config, folder / "first", make_evaluator)
    shutil.copytree(folder / "first", folder / "second")
    assert cli.main(["eval", "--workdir", str(folder / "first")]) == 0
    return folder / "first", folder / "second"


def test_a_run_is_told_as_its_folder_has_it(runs, tmp_path):
    first, _ = runs
    result = report([first], clips=4)
    page = (first / "report.html").read_text(encoding="utf-8")
    top1 = json.loads((first / "eval/results.json").read_text())["top1"]
    assert result["runs"]["first"]["top1"] == top1
    assert f"Of 12 videos put into the right one of 2 classes: first {top1:.1%}." in page
    assert f'<td class="number" data-title="top-1, chance 50.0%">{top1:.1%}' in page
    start = json.loads((first / "card.json").read_text())["starts"][-1]
    for fact in (start["fingerprint"], start["data"]["eval"]["digest"], start["labels"]["digest"]):
        assert fact in page
    assert page.count('<article class="card clip">') == result["clips"] == 4
    assert page.count('alt="Confusion matrix of first') == 1
    assert "Training loss" in page


def test_runs_beside_each_other(runs, tmp_path, capsys):
    first, second = runs
    out = tmp_path / "both.html"
    words = ["report", "--workdir", str(second), str(first), "--out", str(out), "--clips", "0", "--json"]
    assert cli.main(words) == 0
    told = json.loads(capsys.readouterr().out)
    page = out.read_text(encoding="utf-8")
    assert list(told["runs"]) == ["second", "first"]
    assert told["clips"] == 0
    assert "second was not evaluated by itself" in told["notes"][0]
    assert "Confusion matrix of first" in page
    assert "Confusion matrix of second" not in page
    assert re.search(r'<th scope="col">second<small></small></th><th scope="col">first', page)


def test_runs_that_were_evaluated_on_other_videos_and_at_other_steps(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "other")
    path = tmp_path / "other/eval/scores.npz"
    with np.load(path) as file:
        arrays = dict(file)
    kept = {name: arrays[name][:5] for name in ("scores", "labels", "read", "video_ids", "logits")}
    np.savez(path, **arrays | kept)
    results = path.with_name("results.json")
    results.write_text(json.dumps(json.loads(results.read_text()) | {"step": 2}))
    result = report([runs[0], tmp_path / "other"], out=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('class="network">first<') == 12
    assert page.count('class="network">other<') == 5
    assert "of 12, other" in page
    assert "other was evaluated at step 2; its newest checkpoint is of 4." in result["notes"]
    np.savez(path, **arrays | {"video_ids": np.array([f"elsewhere/{i}" for i in range(12)])})
    result = report([tmp_path / "other"], out=tmp_path / "report.html")
    assert result["clips"] == 0
    assert "evaluated on other videos" in result["notes"][0]


def test_clips_are_left_out_with_a_word_where_the_records_are_gone(runs, records, tmp_path):
    moved = records.with_name("elsewhere")
    records.rename(moved)
    try:
        result = report([runs[0]], out=tmp_path / "report.html")
    finally:
        moved.rename(records)
    assert result["clips"] == 0
    assert "the records cannot be opened" in result["notes"][0]


def test_the_surest_mistakes_come_first_and_then_each_class_in_turn():
    sure = np.array([0.9, 0.6, 0.8, 0.7, 0.99, 0.95, 0.55])
    said, labels = np.array([1, 1, 0, 0, 1, 1, 0]), np.array([0, 0, 0, 0, 1, 1, 1])
    scores = np.stack([np.where(said == k, sure, 1 - sure) for k in (0, 1)], axis=1)
    read = np.array([True] * 6 + [False])
    evaluation = Evaluation(scores, labels, read, list("abcdefg"), ("x", "y"))
    assert worth_seeing(evaluation, 2) == [0, 4]
    assert worth_seeing(evaluation, 10) == [0, 1, 4, 2, 5, 3]


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    assert names_of([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert names_of([tmp_path / "a/run", tmp_path / "b/run"]) == ["a/run", "b/run"]
    with pytest.raises(UsageError, match="given twice"):
        names_of([tmp_path / "a", tmp_path / "a"])


def test_what_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        report([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="--clips"):
        report([tmp_path], clips=-1)
