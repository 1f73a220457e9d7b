"""TCM's whole training step, compiled for a TPU slice that is not there, holds the correlation kernels."""

import importlib.util
import os
import subprocess
import sys

import pytest

CHILD = """
import jax
import jax.numpy as jnp
from jax.experimental import topologies

from tests.configs.recipes import network, read
from vidrec.train.optim import make_optimizer
from vidrec.train.sharding import batch_sharded, replicated
from vidrec.train.state import initial_state, initial_variables
from vidrec.train.step import make_train_step
from vidrec.train.tasks import make_task
from vidrec.types import Batch

topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
mesh = topologies.make_mesh(topology, (8,), ("data",))
config = read("configs/tcm.py", "ssv1,depth=18")
model = network(config)
optimizer = make_optimizer(config.optim, lambda step: 0.1)
clips, size = 16, config.data.image_size
key = jax.random.key(0)  # made on this machine
with jax.set_mesh(mesh):
    state = jax.eval_shape(lambda key: initial_state(initial_variables(model, key, size), optimizer), key)
    whole, split = replicated(mesh), batch_sharded(mesh)
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), state)
    batch = Batch(
        jax.ShapeDtypeStruct((clips, model.clip_length, size, size, 3), jnp.uint8, sharding=split),
        *(jax.ShapeDtypeStruct((clips,), dtype, sharding=split) for dtype in (jnp.int32, jnp.int32, jnp.bool_)),
    )
    step = make_train_step(make_task(model, config).loss, optimizer, mesh, seed=0)
    compiled = step.lower(state, batch).compile()
text = compiled.as_text()
print([name for name in ("vidrec_match_forward", "vidrec_match_backward") if name in text])
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler, libtpu, is not installed")
def test_the_step_of_a_slice_of_eight_chips_holds_the_kernels():
    # A program for devices that are not there cannot be kept in the cache of compiled ones.
    here = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    compiler = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_OPTIMIZATION_LEVEL": "O0"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env={**here, "JAX_PLATFORMS": "cpu", **compiler},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "['vidrec_match_forward', 'vidrec_match_backward']"
