"""Starts training in a process of its own, ends it at a chosen step, and compares what two runs left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from vidrec import config as configuration
from vidrec.eval.evaluate import make_evaluator
from vidrec.eval.predict import load
from vidrec.train.loop import Outcome, train
from vidrec.train.report import read_metrics

# argv: configuration as JSON, workdir, step, signal: the process sends itself the signal when that step is dispatched.
CHILD = """
import json, os, sys
from vidrec import config as configuration
from vidrec.eval.evaluate import make_evaluator
from vidrec.train import loop

config, workdir, step, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
make = loop.make_train_step

def killing(*args):
    train_step = make(*args)
    def run(state, batch):
        if number and int(state.step) == step:
            os.kill(os.getpid(), number)
        return train_step(state, batch)
    return run

loop.make_train_step = killing
if __name__ == "__main__":
    from vidrec.train.sharding import start_hosts
    if len(sys.argv) > 5:
        start_hosts(sys.argv[5], int(sys.argv[6]), int(sys.argv[7]))
    loop.train(configuration.from_dict(json.loads(config)), workdir, make_evaluator)
"""


def straight(config, workdir) -> Outcome:
    """Trains in this process."""
    return train(config, workdir, make_evaluator)


def start(config, workdir, *, step=0, number=0, devices=1, hosts=()) -> subprocess.Popen:
    """Trains in a process of its own; with `number` it gets that signal before `step`."""
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    script = Path(workdir).parent / f"child_{Path(workdir).name}.py"
    script.write_text(CHILD)
    arguments = [json.dumps(configuration.to_dict(config)), str(workdir), str(step), str(number), *map(str, hosts)]
    return subprocess.Popen([sys.executable, str(script), *arguments], env=env, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> int:
    """Waits for the process; gives its exit status."""
    _, process.errors = process.communicate(timeout=300)
    return process.returncode


def rows(workdir) -> list[dict]:
    """Metrics that a repeated run repeats: all but speeds."""
    return [row for row in read_metrics(Path(workdir) / "metrics.jsonl") if row["kind"] != "speed"]


def parameters(workdir) -> dict:
    """Parameters and running statistics of the newest checkpoint."""
    return jax.tree.map(np.asarray, load(workdir).variables)


def assert_same_run(a, b) -> None:
    """Bit-identical parameters, statistics and metrics."""
    assert rows(a) == rows(b)
    jax.tree.map(np.testing.assert_array_equal, parameters(a), parameters(b))


def assert_close_run(a, b) -> None:
    """The same to float tolerance: the order of sums differs with the number of devices."""
    for one, other in zip(rows(a), rows(b), strict=True):
        assert {k: one[k] for k in ("kind", "step")} == {k: other[k] for k in ("kind", "step")}
        for name in ("loss", "grad_norm"):
            np.testing.assert_allclose(one.get(name, 0), other.get(name, 0), rtol=2e-3, atol=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4), parameters(a), parameters(b))
