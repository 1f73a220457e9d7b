"""TCM's whole training step, compiled for a TPU slice that is not there, holds the correlation kernels."""

import importlib.util
import os
import subprocess
import sys

import pytest

CHILD = """
import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from tests.configs.recipes import read
from vidrec.train.program import abstract_batch, abstract_state, make_program
from vidrec.train.sharding import make_mesh

topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
config = ConfigDict(read("configs/tcm.py", "ssv1,depth=18"))
config.train.batch_size = 16
config.mesh.fsdp = 2
mesh = make_mesh(config.mesh, topology.devices)
program = make_program(config, mesh, range(config.model.num_classes), 1000)
with jax.set_mesh(mesh):
    compiled = program.train_step.lower(abstract_state(program), abstract_batch(program, 16)).compile()
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
