"""The correlation on two processes, each with its own half of the pairs."""

import os
import socket
import subprocess
import sys

import pytest

CHILD = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from vidrec.ops.correlation import match

number, address = int(sys.argv[1]), sys.argv[2]
maps = np.random.default_rng(0).normal(size=(2, 4, 14, 12, 3)).astype(np.float32)

def loss(f1, f2):
    displacement, confidence = match(f1, f2, patch=5, tau=0.1)
    return jnp.sum(jnp.sin(displacement)) + jnp.sum(confidence)

jax.distributed.initialize(address, 2, number)
expected = [np.asarray(gradient) for gradient in jax.jit(jax.grad(loss, (0, 1)))(*maps)]
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
own = slice(2 * number, 2 * number + 2)
sharded = [jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("data")), m[own]) for m in maps]
with jax.set_mesh(mesh):
    step = jax.jit(jax.grad(loss, (0, 1)))
    assert "all-gather" not in step.lower(*sharded).compile().as_text()
    found = step(*sharded)
for one, whole in zip(found, expected):
    (part,) = one.addressable_shards
    np.testing.assert_allclose(part.data, whole[own], atol=1e-5)
print("equal")
"""


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(number), address], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number in range(2)
    ]  # fmt: skip
    for process in processes:
        said, errors = process.communicate(timeout=300)
        assert (process.returncode, said.split()[-1:]) == (0, ["equal"]), errors[-2000:]
