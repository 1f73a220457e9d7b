"""Compiles the GPU kernels for an H200 that is not there; the assembler's report goes to the error stream.

Run as a program: height, width, patch, channels, data type, operation.
"""

import sys

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from tests.ops.correlation.gpu_target import H200
from vidrec.ops.correlation import gpu

OPERATIONS = {
    "match": lambda f1, f2, patch: gpu.match(f1, f2, patch=patch, sigma=5.0, tau=0.01, amplitude=1.0, relu=True),
    "correlate": lambda f1, f2, patch: gpu.correlate(f1, f2, patch=patch),
}


def forward_and_backward(f1, f2, patch, operation):
    values, pullback = jax.vjp(lambda f1, f2: OPERATIONS[operation](f1, f2, patch), f1, f2)
    return values, pullback(jax.tree.map(jnp.ones_like, values))


def main(height, width, patch, channels, dtype, operation):
    topology = topologies.get_topology_desc("h200", "cuda", target_config=H200, topology="1x1x1")
    mesh = jax.sharding.Mesh(topology.devices, ("batch",))
    replicated = jax.sharding.NamedSharding(mesh, jax.P())
    maps = jax.ShapeDtypeStruct((2, int(height), int(width), int(channels)), dtype, sharding=replicated)
    with jax.set_mesh(mesh):
        run = jax.jit(forward_and_backward, static_argnums=(2, 3))
        run.lower(maps, maps, int(patch), operation).compile()


if __name__ == "__main__":
    main(*sys.argv[1:])
