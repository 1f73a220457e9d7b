"""Looking at a run: its card and where its time went, a trace, NaN checks, no jit."""

import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.end_to_end.runs import command, finish, rows, straight
from vidrec.config import fingerprint
from vidrec.data.records import open_records
from vidrec.errors import UsageError
from vidrec.eval.evaluate import make_evaluator
from vidrec.train import card
from vidrec.train.checkpoint import Checkpoints
from vidrec.train.loop import How, train
from vidrec.train.report import read_metrics


@pytest.fixture(scope="module")
def looked_at(tiny_config, tmp_path_factory):
    """A traced run that keeps its best checkpoint, with its outcome and configuration."""
    network = {"model__widths": (8,), "model__stage_sizes": (1,), "model__strides": (1,)}
    settings = {"train__keep": 1, "train__keep_best": "top1", "train__eval_every": 2, "train__checkpoint_every": 100}
    config = tiny_config("tsn_resnet18", **network, **settings)
    run = tmp_path_factory.mktemp("run") / "run"
    return run, train(config, run, make_evaluator, How(profile=2)), config


def test_the_card_says_what_the_run_is_made_of(looked_at, records):
    run, _, config = looked_at
    (entry,) = card.read(run)
    assert entry["fingerprint"] == fingerprint(config)
    assert entry["data"]["train"]["digest"] == open_records(records, "train").digest
    assert entry["data"]["eval"] == {"split": "test", "videos": 12, "digest": open_records(records, "test").digest}
    assert entry["labels"]["classes"] == 2
    assert entry["versions"]["jax"] == jax.__version__
    assert (entry["devices"]["platform"], entry["step"], entry["debug"]) == ("cpu", 0, False)


def test_every_second_is_accounted_for(looked_at):
    run, outcome, _ = looked_at
    speeds = [row for row in read_metrics(run / "metrics.jsonl") if row["kind"] == "speed"]
    kinds = {"compile", "data_wait", "steps", "eval", "checkpoint"}
    assert [row["step"] for row in speeds] == [2, 4, 6, 8]
    assert outcome.seconds.keys() == kinds
    assert all(math.isclose(sum(row[kind] for kind in kinds), 1) for row in speeds)
    assert all(outcome.seconds[kind] > 0 for kind in kinds)
    assert speeds[0]["compile"] > 0  # the step, and the network before it
    assert speeds[1]["compile"] > 0  # of the first evaluation
    assert speeds[2]["compile"] == speeds[3]["compile"] == 0  # nothing is compiled twice


def test_the_best_is_kept_beside_the_newest(looked_at):
    run, _, _ = looked_at
    found = {row["step"]: row["top1"] for row in rows(run) if row["kind"] == "eval"}
    assert sorted(found) == [2, 4, 6, 8]
    best = max((2, 4, 6), key=lambda step: (found[step], -step))  # as it stood when step 8 was saved
    with Checkpoints(run / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [best, 8]


def test_a_trace_of_the_steps_asked_for(looked_at):
    run, _, _ = looked_at
    assert [path.suffixes[-2:] for path in (run / "profile").rglob("*.trace.json.gz")] == [[".json", ".gz"]]
    assert len([*(run / "profile").rglob("*.xplane.pb")]) == 1


def test_a_trace_of_more_steps_than_there_are_is_refused(looked_at, tiny_config, tmp_path):
    run, _, config = looked_at
    again = shutil.copytree(run, tmp_path / "again")
    with pytest.raises(UsageError, match="needs 3 steps, of which the first 2 are not traced, but the run has 0 left"):
        train(config, again, make_evaluator, How(profile=1))


def test_there_is_no_best_by_what_is_not_measured(tiny_config, tmp_path):
    with pytest.raises(UsageError, match="keep_best is top5, which 2 classes do not have"):
        straight(tiny_config(train__keep_best="top5"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


NET = """
import flax.linen as nn
import jax
import jax.numpy as jnp
from vidrec.types import ModelOutput

class Net(nn.Module):
    num_classes: int
    num_frames: int
    shift: float = 0.0
    split: bool = False

    @property
    def clip_length(self):
        return self.num_frames

    @nn.compact
    def __call__(self, clips, train):
        means = clips.mean((1, 2, 3))
        if isinstance(means, jax.core.Tracer):
            print("traced", clips.shape)
        if self.split and train:
            means = means.reshape(-1, 7)
        return ModelOutput(nn.Dense(self.num_classes)(jnp.log(means - self.shift)))  # of negative numbers: NaN
"""


@pytest.fixture
def debug(tmp_path, records):
    """Function of options of the command line -> the process, ended, that trained a network of the user's own."""

    def run(*options, folder="run"):
        (tmp_path / "mine.py").write_text(NET)
        settings = {"train.steps": 2, "data.records": records, "data.eval_split": "test", "model.name": "mine:Net"}
        fields = [f"--config.{name}={value}" for name, value in settings.items()]
        path = Path(__file__).parents[2] / "configs" / "demo.py"
        where = ("--config", f"{path}:tsn", "--workdir", tmp_path / folder)
        process = command("train", *where, *fields, *options, devices=2, folder=tmp_path)
        finish(process)
        return process

    return run


@pytest.mark.slow
def test_a_nan_is_found_where_it_is_made(debug):
    process = debug("--debug", "--config.model.shift=100.0")
    assert process.returncode == 1
    assert "jnp.log(means - self.shift)" in process.errors  # the line of the network
    assert "FloatingPointError: invalid value (nan) encountered in log" in process.errors
    assert "This was in the training step, given clips uint8[2, 8, 32, 32, 3], label int32[2]" in process.errors


@pytest.mark.slow
def test_what_does_not_fit_is_told_with_stage_and_shapes(debug):
    process = debug("--config.train.batch_size=8", "--config.model.split=True")
    assert process.returncode == 1
    assert "means.reshape(-1, 7)" in process.errors
    assert "This was in the training step, given clips uint8[8, 8, 32, 32, 3], label int32[8]" in process.errors


@pytest.mark.slow
def test_debugging_is_small_and_apart_from_real_runs(debug, tmp_path):
    process = debug("--debug", "--config.model.shift=-100.0")
    assert process.returncode == 0, process.errors
    assert "mesh.data: -1 -> 1; train.batch_size: 32 -> 2" in process.errors
    assert "traced (2, 8, 32, 32, 3)" in process.output  # in a step that is compiled as always
    assert card.last(tmp_path / "run")["debug"]
    eager = debug("--no-jit", "--config.model.shift=-100.0", folder="eager")
    assert eager.returncode == 0, eager.errors
    assert "traced (2, 8, 32, 32, 3)" not in eager.output
    compiled, plain = ([row["loss"] for row in rows(tmp_path / name) if "loss" in row] for name in ("run", "eager"))
    np.testing.assert_allclose(plain, compiled, rtol=1e-5)
    real = debug("--config.train.batch_size=8", "--config.model.shift=-100.0")
    assert real.returncode == 2
    assert "holds a run of --debug, with its few clips to a step, which this one is not" in real.errors
