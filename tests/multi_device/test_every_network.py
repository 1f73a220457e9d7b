"""A training step of each kind of network and task gives the same on one device and on eight, however they share it."""

import os
import subprocess
import sys

import pytest

CHILD = """
import sys

import jax
import numpy as np

from tests.models.families import CLASSES, FAMILIES, IMAGE_SIZE
from vidrec.config import base
from vidrec.data.feed import to_devices
from vidrec.train.program import make_program
from vidrec.train.sharding import batch_sharded, make_mesh
from vidrec.train.tasks import task_fields
from vidrec.types import Batch

family, task, *meshes = sys.argv[1:]
name, small = FAMILIES[family]
c = base()
c.model.update(name=name, **{"dropout": 0.0, **({"drop_path": 0.0} if "patch_size" in small else {}), **small})
c.task.update(name=task, **task_fields(task))
c.data.image_size = IMAGE_SIZE
c.optim.update(clip_norm=0.0, weight_decay=0.0)  # so that the momentum after one step is the gradient itself
c.train.update(batch_size=8, steps=1)
c.optim.lr = 0.1


def step(sizes):
    c.mesh.update(dict(zip(("data", "fsdp", "model"), sizes, strict=True)))
    mesh = make_mesh(c.mesh)
    program = make_program(c, mesh, range(CLASSES), 8)
    shape = (8, program.spec.frames * program.task.views, IMAGE_SIZE, IMAGE_SIZE, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batch = Batch(clips, np.arange(8, dtype=np.int32) % CLASSES, np.arange(8, dtype=np.int32), np.ones(8, bool))
    with jax.set_mesh(mesh):
        state = program.make_state(jax.random.key(0))
        drawn = jax.device_get(state)
        state, metrics, record = program.train_step(state, to_devices(batch, batch_sharded(mesh)))
        for axis in [axis for axis in ("fsdp", "model") if mesh.shape[axis] > 1]:
            spread = [leaf for leaf in jax.tree.leaves(state) if axis in leaf.sharding.spec]
            assert sum(leaf.size for leaf in spread) > 0.5 * sum(leaf.size for leaf in jax.tree.leaves(state)), axis
        assert record.tolist() == list(range(8))
        return drawn, jax.device_get((state, metrics))


def close(a, b):
    # Sums of another order differ by a share of the array's largest value.
    np.testing.assert_allclose(b, a, rtol=2e-3, atol=max(2e-4, 1e-3 * abs(a).max()))


start, alone = step((1, 1, 1))
gradients = jax.tree.leaves(alone[0].opt_state)
assert max(abs(gradient).max() for gradient in gradients) > 1e-3
for sizes in meshes:
    drawn, shared = step(tuple(map(int, sizes.split("x"))))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), start, drawn)
    jax.tree.map(close, alone, shared)
"""
PAPERS = [("stm", "twins"), ("tefe", "supervised"), ("tcm", "supervised"), ("ttsn", "tss")]
PAPERS += [("direcformer", "order")]


def run(family, task, *meshes):
    flags = "--xla_backend_optimization_level=0"  # compiling takes far longer than running
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-c", CHILD, family, task, *meshes]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "task"), PAPERS)
def test_a_papers_network_on_every_mesh(family, task):
    run(family, task, "8x1x1", "4x2x1", "2x4x1")


@pytest.mark.slow
def test_a_network_of_shifted_channels():
    run("tsm", "supervised", "4x2x1")


@pytest.mark.slow
def test_a_transformer_split_over_the_model_axis():
    run("direcformer", "order", "4x1x2", "2x2x2")
