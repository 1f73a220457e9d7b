"""What a run writes and shows: rows that are JSON, a speed that is that of training."""

import json
from types import SimpleNamespace

import pytest

from vidrec.train import report
from vidrec.train.report import MetricsLog, ProgressLine, read_metrics


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


def test_a_pause_does_not_count_for_the_speed(monkeypatch):
    now = 100.0
    monkeypatch.setattr(report, "time", SimpleNamespace(perf_counter=lambda: now))
    line = ProgressLine("train", 100, 8, 0, show=False)
    now += 2
    assert line.update(10, {"loss": 1.0}, 1.0) == {"clips_per_s": 40.0, "data_wait": 0.5}
    with line.paused():
        now += 1000
    now += 2
    assert line.update(20, {"loss": 1.0}, 1.5) == {"clips_per_s": 40.0, "data_wait": 0.25}
