"""What an evaluation leaves behind, and counting it again."""

import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.runs import straight
from vidrec.cli import main
from vidrec.data.records import open_records
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.scores import Evaluation
from vidrec.eval.statistics import share_interval
from vidrec.inspect.render import confusion_png
from vidrec.inspect.rescore import rescore
from vidrec.inspect.results import counts_of, evaluate_run, read_evaluation, write_evaluation

CLASSES = ("push left", "push right", "wave")


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    straight(tiny_config(), folder)
    return folder


def drawn(seed, ids=None, logits=True):
    """An evaluation of nine videos in two views, better than chance."""
    labels = np.arange(9) % 3
    views = np.random.default_rng(seed).normal(size=(9, 2, 3)).astype(np.float32) + 0.4 * np.eye(3)[labels][:, None]
    names = [f"v{i}" for i in range(9)] if ids is None else ids
    plain = Evaluation(np.zeros((9, 3)), labels, np.ones(9, bool), names, CLASSES, views.astype(np.float32), ("a", "b"))
    return plain.averaged("softmax")


def saved(evaluation, folder):
    write_evaluation(evaluation, counts_of(evaluation), folder)
    return folder


def test_what_was_written_is_read_again(tmp_path):
    evaluation = drawn(0)
    found = read_evaluation(saved(evaluation, tmp_path / "run/eval"))
    for name in ("scores", "labels", "read", "logits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(evaluation, name))
        assert getattr(found, name).dtype == getattr(evaluation, name).dtype
    for name in ("video_ids", "classes", "views"):
        assert getattr(found, name) == getattr(evaluation, name)
    assert read_evaluation(tmp_path / "run").video_ids == evaluation.video_ids  # a run's folder will do
    with pytest.raises(UsageError, match="no scores in"):
        read_evaluation(tmp_path)
    np.savez(tmp_path / "scores.npz", scores=found.scores)
    with pytest.raises(VidrecError, match="run `vidrec eval` again"):
        read_evaluation(tmp_path)


def test_everything_is_counts_of():
    evaluation = drawn(0)
    found = counts_of(evaluation, top=(1, 2))
    assert found["top2"] == evaluation.top(2)
    assert found["intervals"]["top2"] == share_interval(evaluation.correct(2))
    wrong = evaluation.scores.argmax(1) != evaluation.labels
    assert sum(pair["videos"] for pair in found["confused"]) == wrong.sum() > 0
    assert list(counts_of(evaluation)["intervals"]) == ["top1"]  # of three classes, top-5 says nothing
    with pytest.raises(UsageError, match="--top 3 tells nothing of 3 classes"):
        counts_of(evaluation, top=(3,))


def test_scores_are_counted_again_in_another_average(tmp_path):
    evaluation = drawn(0)
    folder = saved(evaluation, tmp_path / "one")
    assert rescore([folder])[0] == {"from": [str(folder)], **counts_of(evaluation)}
    again, _ = rescore([folder], average="logits", out=str(tmp_path / "again"))
    assert again == {"from": [str(folder)], "average": "logits", **counts_of(evaluation.averaged("logits"))}
    np.testing.assert_array_equal(read_evaluation(tmp_path / "again").scores, evaluation.averaged("logits").scores)


def test_views_are_averaged_in_known_ways_only():
    with pytest.raises(UsageError, match=r"'sofmax', but must be one of .*did you mean 'softmax'"):
        drawn(0).averaged("sofmax")


def test_an_ensemble_and_the_mean_of_splits(tmp_path):
    folders = [saved(drawn(seed), tmp_path / str(seed)) for seed in range(2)]
    together, text = rescore(folders, combine="ensemble")
    mean = (drawn(0).scores + drawn(1).scores) / 2
    assert together["top1"] == (mean.argmax(1) == drawn(0).labels).mean()
    assert "9 videos" in text
    with pytest.raises(UsageError, match="no splits, but an ensemble"):
        rescore(folders, combine="splits")
    splits = [saved(drawn(seed, ids=[f"{seed}-{i}" for i in range(9)]), tmp_path / f"s{seed}") for seed in range(3)]
    found, _ = rescore(splits, combine="splits")
    each = [drawn(seed).top(1) for seed in range(3)]
    assert found["top1"] == pytest.approx(np.mean(each))
    assert found["splits"]["top1"] == each
    assert found["videos"] == [9, 9, 9]
    with pytest.raises(UsageError, match="other videos"):
        rescore(splits, combine="ensemble")


def test_options_of_counting_again_that_have_no_effect(tmp_path):
    folder = saved(drawn(0), tmp_path / "one")
    with pytest.raises(UsageError, match="for two or more"):
        rescore([folder], combine="ensemble")
    with pytest.raises(UsageError, match="say what becomes of 2 evaluations"):
        rescore([folder, folder])
    with pytest.raises(UsageError, match="--out has no effect with --combine splits"):
        rescore([folder, folder], combine="splits", out="there")


def test_names_of_the_most_confused_stand_below_the_matrix():
    matrix = np.array([[3, 1], [0, 2]])
    plain, told = (
        Image.open(io.BytesIO(confusion_png(matrix, ("a", "b"), notes=notes)))
        for notes in ((), ("25.0% of 'a' taken for 'b' (1)", "and some more"))
    )
    assert told.height > plain.height
    below = np.asarray(told.convert("L"))[plain.height :]
    lines = np.flatnonzero(np.diff((below < 128).any(1).astype(int)) == 1)
    assert len(lines) >= 2
    same = np.asarray(told.convert("L"))[: plain.height, : plain.width]
    assert np.abs(same.astype(int) - np.asarray(plain.convert("L"))).mean() < 2


def test_a_protocol_by_its_name(run, records, capsys):
    """It has a folder of its own, and its numbers can be traced to the records and the frames that were seen."""
    command = ["eval", "--workdir", str(run), "--json"]
    assert main([*command, "--protocol", "timesformer", "--crops", "3"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["protocol"], result["clips"], result["crops"], result["average"]) == ("timesformer", 1, 3, "logits")
    assert (result["frames"], result["num_frames"], result["resize"], result["picture"]) == ("even", 4, [16], [16, 16])
    assert result["digest"] == open_records(records, "test").digest
    folder = run / "eval/timesformer"
    evaluation = read_evaluation(folder)
    assert evaluation.logits is not None
    assert evaluation.logits.shape == (12, 3, 2)
    assert result["top1"] == evaluation.top(1)
    with pytest.raises(UsageError, match=re.escape(f"no scores in {run}: give {folder}")):
        read_evaluation(run)
    assert main([*command, "--crops", "3", "--average", "logits"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["frames"], "protocol" in plain) == ("segment", False)
    assert json.loads((folder / "results.json").read_text())["protocol"] == "timesformer"
    assert main(["eval", "--from", str(folder), "--average", "softmax", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["top1"] == evaluation.averaged("softmax").top(1)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--workdir {run} --protocol stm30 --crops 5", "crops=5 is not protocol stm30"),
        ("--workdir {run} --protocol stm30 --full-res", "full_resolution=True is not protocol stm30"),
        ("--workdir {run} --protocol smt30", "did you mean 'stm30'"),
        ("--from {run} --clips 3", "--clips has no effect with --from"),
        ("--workdir {run} --combine splits", "--combine has no effect"),
        ("--from {run} --workdir {run}", "--workdir, or saved evaluations by --from"),
        ("--json", "--workdir, or saved evaluations by --from"),
        ("--workdir {run} --order --crops 3", "--crops has no effect with --order"),
        ("--workdir {run} --tempo 1..8 --protocol stm30", "--protocol has no effect with --tempo"),
        ("--workdir {run} --tempo 0..8", "such as 1..8"),
        ("--workdir {run} --tempo=", "such as 1..8"),
        ("--from {run} --coordinator host:1", "--coordinator has no effect with --from"),
        ("--workdir {run} --online --process 0", "--process has no effect with --online"),
        ("--workdir {run} --top 0", "--top 0 tells nothing of 2 classes"),
        ("--workdir {run} --online --batch-size 3", "--batch-size has no effect with --online"),
        ("--workdir {run} --workdir {run} --order", "several runs are for --tempo"),
        ("--workdir {run} {run} --order", "several runs are for --tempo"),
        ("--workdir {run} --every 3", "--every has no effect with a plain evaluation"),
        ("--workdir {run} --top 2", "--top 2 tells nothing of 2 classes"),
    ],
)
def test_flags_that_contradict_each_other(flags, told, run, capsys):
    assert main(["eval", *flags.format(run=run).split()]) == 2
    error = capsys.readouterr().err
    assert re.search(re.escape(told), error), error


def test_order_of_a_run(run, capsys):
    assert main(["eval", "--workdir", str(run), "--order", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["top1"]) == {"normal", "shuffled", "reversed", "frozen"}
    assert result["top1"]["normal"] == evaluate_run(run, out=str(run / "normal"))[0]["top1"]
    assert "order_accuracy" not in result  # STM has no attention
    with np.load(run / "eval/order.npz") as file:
        assert file["orders"].shape == (12, 4)
        assert "attention" not in file


def test_tempo_of_runs(run, capsys, tmp_path):
    command = ["eval", "--workdir", str(run), "--tempo", "1,3", "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((run / "eval/tempo.json").read_text())
    assert result["strides"] == [1, 3]
    assert result["runs"]["run"]["trained"] == "segment sampling"
    assert len(result["runs"]["run"]["top1"]) == 2
    assert (run / "eval/tempo.svg").read_text().startswith("<svg")
    again = shutil.copytree(run, tmp_path / "again")
    assert main([*command, "--workdir", str(again)]) == 2
    assert "say by --out where it goes" in capsys.readouterr().err
    assert main([*command, "--workdir", str(again), "--out", str(tmp_path / "both")]) == 0
    assert json.loads(capsys.readouterr().out)["runs"]["again"]["top1"] == result["runs"]["run"]["top1"]


@pytest.mark.slow
def test_online_from_the_command_line(run, capsys):
    assert main(["eval", "--workdir", str(run), "--online", "--every", "6", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["videos"], result["every"]) == (12, 6)
    assert result == json.loads((run / "eval/online.json").read_text())
