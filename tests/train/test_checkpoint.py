"""Checkpoints: what is kept, and that what a crash leaves half-written is never taken for one."""

import signal
import subprocess
import sys

import jax
import numpy as np

from vidrec.train.checkpoint import Checkpoints, Snapshot, abstract

# A process that writes steps 1 and 2, and is killed when the second is to appear under its name.
KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from vidrec.train.checkpoint import Checkpoints, Snapshot

rename = os.rename
def killed(source, target, *rest, **options):
    if Path(target).name == "2":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(source, target, *rest, **options)

with Checkpoints(sys.argv[1], writer=True) as checkpoints:
    for step in (1, 2):
        os.rename = os.replace = killed
        variables = {"params": {"w": np.full(4, step, np.float32)}, "batch_stats": {}}
        checkpoints.save(step, Snapshot(variables, None, {"step": step}, {}, ["a"]))
"""


def snapshot(step: int) -> Snapshot:
    variables = {"params": {"w": np.arange(16, dtype=np.float32).reshape(8, 2) + step}, "batch_stats": {}}
    return Snapshot(variables, None, {"step": step}, {"seed": 0}, ["left", "right"])


def test_the_newest_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path, keep=2, writer=True) as checkpoints:
        for step in range(1, 5):
            checkpoints.save(step, snapshot(step))
        assert checkpoints.steps() == [3, 4]
        checkpoints.keep_also(3)
        for step in (5, 6):
            checkpoints.save(step, snapshot(step))
        assert checkpoints.steps() == [3, 5, 6]
        checkpoints.keep_also(6)
        checkpoints.save(7, snapshot(7))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "7"]


def test_a_half_written_checkpoint_is_not_restored(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert "1" in left
    assert "2" not in left
    assert len(left) > 1  # the folder that was to become 2
    with Checkpoints(tmp_path) as reader:
        assert reader.steps() == [1]
    assert {path.name for path in tmp_path.iterdir()} == left  # a reader touches nothing
    with Checkpoints(tmp_path, writer=True) as writer:
        assert writer.latest() == 1
        shapes = {"params": {"w": jax.ShapeDtypeStruct((4,), np.float32)}, "batch_stats": {}}
        variables, _ = writer.restore(1, abstract(shapes, jax.sharding.SingleDeviceSharding(jax.devices()[0])))
        np.testing.assert_array_equal(variables["params"]["w"], np.ones(4))
        writer.save(2, Snapshot(variables, None, {"step": 2}, {}, ["a"]))
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}
