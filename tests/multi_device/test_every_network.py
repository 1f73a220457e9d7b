"""A training step of each kind of network and task gives the same on one device and on eight."""

import os
import subprocess
import sys

import pytest

from tests.models.families import FAMILIES

CHILD = """
import sys

import jax
import numpy as np

from tests.models.families import CLASSES, IMAGE_SIZE, make
from vidrec.config import base
from vidrec.data.feed import to_devices
from vidrec.models.registry import init_options
from vidrec.train.optim import make_optimizer
from vidrec.train.sharding import batch_sharded, make_mesh, replicated
from vidrec.train.state import initial_state, initial_variables
from vidrec.train.step import make_train_step
from vidrec.train.tasks import make_task, task_fields
from vidrec.types import Batch

family, name = sys.argv[1:]
model = make(family)
c = base()
c.task.update(name=name, **task_fields(name))
task = make_task(model, c)
rng = np.random.default_rng(0)
clips = rng.integers(0, 256, (8, task.views * model.clip_length, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
batch = Batch(clips, np.arange(8, dtype=np.int32) % CLASSES, np.arange(8, dtype=np.int32), np.ones(8, bool))
optimizer = make_optimizer(c.optim, lambda step: 0.1)
draw = jax.jit(lambda key: initial_variables(model, key, IMAGE_SIZE), compiler_options=init_options())
variables = jax.tree.map(np.asarray, draw(jax.random.key(0)))
ends = []
for devices in (1, 8):
    mesh = make_mesh(devices)
    with jax.set_mesh(mesh):
        state = jax.device_put(initial_state(variables, optimizer), replicated(mesh))
        step = make_train_step(task.loss, optimizer, mesh, seed=0)
        state, metrics, _ = step(state, to_devices(batch, batch_sharded(mesh)))
        ends.append(jax.tree.map(np.asarray, (state, metrics)))
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), *ends)
"""
CASES = [
    *((family, "supervised") for family in FAMILIES if not family.startswith(("ttsn", "direcformer"))),
    ("ttsn", "tss"),
    ("ttsn-tsn", "tss"),
    ("direcformer", "order"),
    ("tsm", "twins"),
    ("timesformer", "twins"),
]


@pytest.mark.parametrize(
    ("family", "task"),
    [pytest.param(*case, marks=[] if case[0] == "tsn" else pytest.mark.slow) for case in CASES],
)
def test_devices(family, task):
    flags = "--xla_backend_optimization_level=0"  # compiling takes far longer than running
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, family, task], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
