"""How two runs differ, told from what they left behind."""

import copy
import json

import pytest

from vidrec.cli import main
from vidrec.train import card

START = {
    "started": "2030-01-01T00:00:00+00:00",
    "step": 0,
    "config": {"seed": 0, "optim": {"lr": 0.1}},
    "data": {"train": {"digest": "12"}},
    "labels": {"digest": "56"},
    "versions": {"jax": "0.12.0"},
    "git": {"commit": "abc", "changes": ""},
    "devices": {"everywhere": 8},
}


@pytest.fixture
def write_run(tmp_path):
    """Function of a name, the losses of the steps from 1 on and starts -> the folder of such a run."""

    def write(name, losses, *starts):
        for start in starts or (START,):
            (tmp_path / name).mkdir(exist_ok=True)
            card.add(tmp_path / name, start)
        rows = [{"kind": "train", "step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
        rows.insert(1, {"kind": "speed", "step": 1, "loss": -1.0})
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    return write


def changed(**parts):
    start = copy.deepcopy(START)
    for name, values in parts.items():
        start[name] = start[name] | values if isinstance(values, dict) else values
    return start


def test_the_same_run_twice(write_run, capsys):
    assert main(["doctor", write_run("a", [0.5, 0.25]), write_run("b", [0.5, 0.25, 0.125])]) == 0
    out = capsys.readouterr().out
    for name in ("configuration", "data", "labels", "versions", "code (git)", "devices"):
        assert f"{name}: the same" in out
    assert "losses: the same in all digits, in all 2 steps that both have logged" in out


def test_what_differs_is_told_with_the_first_step_that_shows_it(write_run, capsys):
    other = changed(config={"optim": {"lr": 0.2}}, versions={"jax": "0.11.2"}, git=None)
    runs = [write_run("a", [0.5, 0.25, 0.125]), write_run("b", [0.5, 0.3, 0.25], other)]
    assert main(["doctor", *runs]) == 0
    out = capsys.readouterr().out
    assert "optim.lr: 0.1 -> 0.2" in out
    assert "jax: 0.12.0 -> 0.11.2" in out
    assert "commit: abc -> (absent)" in out
    assert "data: the same" in out
    assert "the first to differ is step 2: 0.25 -> 0.3 (2.0e-01 of it); the last is step 3: 0.125 -> 0.25" in out
    assert main(["doctor", *runs, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["losses"] == {
        "steps": 3,
        "first": {"step": 2, "a": 0.25, "b": 0.3},
        "last": {"step": 3, "a": 0.125, "b": 0.25},
    }


def test_a_run_that_was_continued_elsewhere_says_so(write_run, capsys):
    run = write_run("a", [0.5], START, START, changed(step=4, devices={"everywhere": 1}))
    assert main(["doctor", run, run]) == 0
    out = capsys.readouterr().out
    assert "was started again with changes" in out
    assert "at step 4, 2030-01-01T00:00:00+00:00: devices everywhere: 8 -> 1" in out


def test_wrong_use_is_told(write_run, tmp_path, capsys):
    assert main(["doctor", write_run("a", [])]) == 2
    assert "doctor compares two runs, but got 1" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "a"), str(tmp_path)]) == 2
    assert "it has no card.json" in capsys.readouterr().err
