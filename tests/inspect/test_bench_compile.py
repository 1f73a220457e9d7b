"""The benchmark of compiling."""

import json
import os

import pytest

from tests.inspect.sides import small
from vidrec.cli import main
from vidrec.errors import UsageError
from vidrec.inspect import bench_compile


def test_both_steps_without_and_with_the_cache(monkeypatch):
    """The second process finds in the folder what the first one left there, and both compile the same."""
    seen, elsewhere = [], bench_compile.elsewhere

    def watched(config, cache):
        before = set(os.listdir(cache))
        seen.append((before, elsewhere(config, cache), set(os.listdir(cache))))
        return seen[-1][1]

    monkeypatch.setattr(bench_compile, "elsewhere", watched)
    report = bench_compile.measure(small("--config.eval.batch_size=4"))
    (empty, first, filled), (found, second, _) = seen
    assert not empty
    assert found == filled != set()
    assert report["cache_bytes"] > 0
    train, evaluation = report["rows"]
    assert [(row["step"], row["batch_size"]) for row in (train, evaluation)] == [("train", 2), ("eval", 4)]
    assert [row["cached_s"] for row in report["rows"]] == [row["compile_s"] for row in second["rows"]]
    for size in ("stablehlo_lines", "instructions"):
        assert train[size] > evaluation[size] > 0
        assert [row[size] for row in first["rows"]] == [row[size] for row in second["rows"]]
    lines = bench_compile.text(json.loads(json.dumps(report, allow_nan=False))).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["train", "eval"]


def test_what_the_other_process_refuses_is_refused_here(capsys):
    with pytest.raises(UsageError, match=r"train.batch_size is 3"):
        bench_compile.measure(small("--config.train.batch_size=3", "--config.train.accumulate=2"))
    assert main(["bench", "compile", "--config", "configs/stm.py:toy"]) == 2
    error = capsys.readouterr().err
    assert "--config.model.num_classes=N" in error
    assert "Traceback" not in error
