"""The benchmark of the training step."""

import json
import sys

import jax
import pytest

from tests.inspect.sides import RECIPE, peer, small
from vidrec.cli import main
from vidrec.errors import UsageError, VidrecError
from vidrec.inspect import bench_beside, bench_step, peaks
from vidrec.inspect.flops import matrix_flops
from vidrec.inspect.steps import program_for, trace_train, useful_flops
from vidrec.train.sharding import make_mesh


@pytest.fixture(scope="module")
def parameters() -> int:
    read = small()
    program = program_for(read, make_mesh(read.mesh))
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(program.make_state, jax.random.key(0)).params))


def test_both_are_measured_in_one_run(tmp_path, parameters, monkeypatch):
    monkeypatch.setattr(bench_beside, "peak_of", lambda device: peaks.Peak(1e9, 1e9, 1e9))
    report = bench_step.measure(small(), steps=2, rounds=2, torch_python=peer(tmp_path, parameters, 0.5))
    ours, theirs = report["rows"]
    assert theirs["clips_per_second"] == pytest.approx(2 / 0.5)
    assert theirs["mfu"] == pytest.approx(report["flops"] / 0.5 / 1e9)
    assert ours["clips_per_second"] * ours["ms"] == pytest.approx(2 * 1000)
    assert report["times_torch"] == pytest.approx(ours["clips_per_second"] / theirs["clips_per_second"])
    assert ours["memory_bytes"] > 4 * 2 * parameters  # weights and momentum, at least
    told = json.loads((tmp_path / "told").read_text())
    assert (told["network"], told["classes"], told["batch_size"], told["steps"]) == ("tsn_resnet50", 101, 2, 2)
    assert "times as fast as PyTorch" in bench_step.text(json.loads(json.dumps(report, allow_nan=False)))


def test_other_networks_than_the_same_are_not_compared(tmp_path, parameters):
    with pytest.raises(VidrecError, match="cannot be compared"):
        bench_step.measure(small(), steps=1, rounds=1, torch_python=peer(tmp_path, parameters + 1, 0.5))
    for overrides in (["--config.optim.name=adamw"], ["--config.model.name=tsn_resnet18"]):
        with pytest.raises(UsageError, match="nothing to run"):
            bench_step.measure(small(*overrides), torch_python=sys.executable)


def test_numbers_that_cannot_be(capsys):
    assert main(["bench", "step", "--config", RECIPE, "--steps", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err


def test_recomputation_is_no_useful_work():
    mesh = make_mesh(small().mesh)
    traced = {
        remat: trace_train(program_for(read, mesh), 2)
        for remat in ("none", "block")
        for read in [small(f"--config.model.remat={remat}")]
    }
    done = {remat: sum(matrix_flops(step.jaxpr).values()) for remat, step in traced.items()}
    assert done["block"] > done["none"]
    assert useful_flops(small("--config.model.remat=block"), mesh, traced["block"]) == done["none"]
    assert useful_flops(small(), mesh, traced["none"]) == done["none"]


def test_limits_of_devices_by_their_names():
    class Device:
        def __init__(self, platform: str, kind: str, cores: int = 1):
            self.platform, self.device_kind, self.num_cores = platform, kind, cores

    assert peaks.peak_of(Device("cpu", "cpu")) is None
    assert peaks.peak_of(Device("gpu", "NVIDIA H200")) == peaks.Peak(989.4e12, 4.8e12, 141e9)
    assert peaks.peak_of(Device("gpu", "NVIDIA H100 PCIe")).flops == 756e12
    assert peaks.peak_of(Device("gpu", "NVIDIA A100-SXM4-80GB")).memory == 80e9
    v5e, v5p = peaks.peak_of(Device("tpu", "TPU v5 lite")), peaks.peak_of(Device("tpu", "TPU v5", cores=2))
    assert (v5e.flops, v5p.flops) == (197e12, 459e12)
    assert peaks.peak_of(Device("tpu", "TPU v99")) is None
