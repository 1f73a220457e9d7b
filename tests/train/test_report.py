"""What a run writes and shows: rows that are JSON, a speed that is that of training."""

import json
from types import SimpleNamespace

import pytest

from vidrec.train import report
from vidrec.train.report import Clock, MetricsLog, ProgressLine, read_metrics


def test_rows_behind_the_step_of_a_restart_are_dropped(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write("train", step, {"loss": 1.0 / step})
    with MetricsLog(tmp_path, 2) as log:
        log.write("train", 3, {"loss": 0.25})
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1.0), (2, 0.5), (3, 0.25)]


def test_a_row_is_json_or_an_error(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        with pytest.raises(ValueError, match="JSON"):
            log.write("eval", 1, {"top1": float("nan")})
        log.write("eval", 1, {"top1": 0.5})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["top1"] == 0.5


@pytest.fixture
def passes(monkeypatch):
    """Function that lets seconds pass."""
    now = 100.0

    def let_pass(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(report, "time", SimpleNamespace(perf_counter=lambda: now))
    return let_pass


def test_every_second_is_of_one_kind(passes):
    clock = Clock()
    passes(4)
    with clock.of("eval"):
        passes(2)
        with clock.of("compile"):  # within an evaluation, and not counted as one
            passes(16)
        passes(1)
    assert clock.lap() == {"compile": 16, "data_wait": 0, "steps": 4, "eval": 3, "checkpoint": 0}

    def fail():
        passes(5)
        raise OSError("full")

    with pytest.raises(OSError, match="full"), clock.of("checkpoint"):
        fail()
    passes(1)
    assert clock.lap() == {"compile": 0, "data_wait": 0, "steps": 1, "eval": 0, "checkpoint": 5}
    assert sum(clock.seconds.values()) == 29


def test_the_speed_is_that_of_training_and_the_shares_are_of_everything(passes):
    clock = Clock()
    line = ProgressLine("train", 100, 8, 0, clock, show=False)
    passes(1)
    with clock.of("data_wait"):
        passes(1)
    speed = line.update(10, {"loss": 1.0})
    assert speed == {"clips_per_s": 40, "compile": 0, "data_wait": 0.5, "steps": 0.5, "eval": 0, "checkpoint": 0}
    with clock.of("eval"):
        passes(6)
    passes(2)
    speed = line.update(20, {"loss": 1.0})
    assert speed == {"clips_per_s": 40, "compile": 0, "data_wait": 0, "steps": 0.25, "eval": 0.75, "checkpoint": 0}
