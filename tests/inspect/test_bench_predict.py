"""The benchmark of prediction."""

import json
import sys

import pytest

from tests.inspect.sides import peer, small
from vidrec.cli import main
from vidrec.errors import UsageError, VidrecError
from vidrec.inspect import bench_beside, bench_predict, peaks
from vidrec.train.state import count_parameters

TOY = ["bench", "predict", "--config", "configs/stm.py:toy"]


@pytest.fixture(scope="module")
def parameters() -> int:
    return count_parameters(bench_predict.fresh(small()).variables["params"])


def test_clips_a_video_and_frames(tmp_path, parameters, monkeypatch):
    """Every batch size has its two rows; a file takes at least as long as its network; the stream keeps what it can."""
    monkeypatch.setattr(bench_beside, "peak_of", lambda device: peaks.Peak(1e9, 1e9, 1e9))
    python = peer(tmp_path, parameters, 0.5)
    report = bench_predict.measure(small(), batch_sizes=(1, 2), rounds=1, torch_python=python)
    assert [(row["name"], row["batch_size"]) for row in report["rows"]] == [
        ("vidrec", 1), ("PyTorch 9.9", 1), ("vidrec", 2), ("PyTorch 9.9", 2),
    ]  # fmt: skip
    for ours, theirs in (report["rows"][:2], report["rows"][2:]):
        assert ours["clips_per_second"] * ours["ms"] == pytest.approx(1000 * ours["batch_size"])
        assert theirs["mfu"] == pytest.approx(ours["flops"] / 0.5 / 1e9)
        assert ours["times_torch"] == pytest.approx(500 / ours["ms"])
    assert report["rows"][2]["flops"] == 2 * report["rows"][0]["flops"]
    video = report["video"]
    assert video["decode_share"] * video["ms"] == pytest.approx(video["decode_ms"])
    assert video["frames"] == 48
    assert report["online"]["kept"] == "stem to stage 2"
    told = json.loads((tmp_path / "told").read_text())
    assert "training" not in told
    assert (told["network"], told["size"], told["batch_size"]) == ("tsn_resnet50", [8, 8], 2)
    shown = bench_predict.text(json.loads(json.dumps(report, allow_nan=False)))
    assert "stem to stage 2 computed once" in shown
    assert "\nNot " not in shown


def test_without_pyav_the_rest_is_reported(tmp_path, parameters, monkeypatch):
    """Clips and frames; a line says how to get it."""
    monkeypatch.setitem(sys.modules, "av", None)
    python = peer(tmp_path, parameters, 0.5)
    report = bench_predict.measure(small(), batch_sizes=(1,), rounds=1, torch_python=python)
    assert report["video"] is None
    assert report["rows"][0]["ms"] > 0
    assert report["online"]["ms"] > 0
    shown = bench_predict.text(report).splitlines()
    assert shown[-1] == "Not of a video file: writing and reading one needs PyAV: pip install 'vidrec[video]'."
    assert not any(line.startswith("a video file") for line in shown)


def test_some_clips_are_to_be_predicted():
    with pytest.raises(UsageError, match="at least 1"):
        bench_predict.measure(small(), batch_sizes=())


def test_other_networks_than_the_same_are_not_compared(tmp_path, parameters):
    with pytest.raises(VidrecError, match="cannot be compared"):
        bench_predict.measure(small(), batch_sizes=(1,), rounds=1, torch_python=peer(tmp_path, parameters + 1, 0.5))
    with pytest.raises(UsageError, match="nothing to run: there is no tsn_resnet18"):
        bench_predict.measure(small("--config.model.name=tsn_resnet18"), torch_python=sys.executable)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--batch-size", "0"], "at least 1"),
        (["--rounds", "0"], "at least 1"),
        ([], "--config.model.num_classes=N"),
        (["--config.model.num_classes=8", "--torch-python", "x"], "nothing to run"),
    ],
)
def test_wrong_usage_is_one_sentence(options, told, capsys):
    assert main([*TOY, *options]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
