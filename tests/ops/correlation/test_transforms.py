"""Kernels under JAX's transformations: vmap, recomputation, export, and a mesh of several devices."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from tests.quick import jit
from vidrec.ops.correlation import local_correlation, match, reference, tpu

SETTINGS = {"patch": 5, "sigma": 5.0, "tau": 0.1, "amplitude": 1.0, "relu": True}
KERNEL = partial(tpu.match, interpret=True)
ONE, TWO = jax.random.normal(jax.random.key(0), (2, 2, 1, 6, 7, 8))


def gradients(function):
    """The gradients of both maps, of a sum over displacement and confidence."""

    def loss(f1, f2):
        displacement, confidence = function(f1, f2, **SETTINGS)
        return jnp.sum(jnp.sin(displacement)) + jnp.sum(confidence)

    return jax.grad(loss, (0, 1))


def test_vmap_is_more_pairs():
    found, expected = (
        jit(jax.vmap(gradients(function), (0, None)))(ONE, TWO[0]) for function in (KERNEL, reference.match)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)


@pytest.mark.slow
def test_recomputation_changes_nothing():
    def recomputed(f1, f2, **settings):
        return jax.checkpoint(partial(KERNEL, **settings))(f1, f2)

    plain, again = (jit(gradients(function))(ONE[0], TWO[0]) for function in (KERNEL, recomputed))
    jax.tree.map(np.testing.assert_array_equal, plain, again)


@pytest.mark.parametrize(
    ("platform", "kind", "cores", "lowered", "marker"),
    [("tpu", "TPU v5 lite", 1, "tpu", "tpu_custom_call"), ("gpu", "NVIDIA H200", 132, "cuda", "mosaic_gpu")],
)
def test_export_takes_the_kernels_of_the_platform(platform, kind, cores, lowered, marker):
    device = AbstractDevice(device_kind=kind, num_cores=cores, platform=platform)
    mesh = AbstractMesh((1,), ("data",), axis_types=(AxisType.Auto,), abstract_device=device)
    maps = jax.ShapeDtypeStruct((2, 8, 8, 16), jnp.bfloat16)

    def loss(f1, f2):
        return sum(jnp.sum(found) for found in match(f1, f2, patch=5))

    with jax.sharding.use_abstract_mesh(mesh):
        there, here = (
            jax.export.export(jax.jit(jax.grad(loss, (0, 1))), platforms=(name,))(maps, maps).mlir_module()
            for name in (lowered, "cpu")
        )
    for kernel in (marker, "vidrec_match_forward", "vidrec_match_backward"):
        assert kernel in there
        assert kernel not in here


@pytest.mark.parametrize("operation", [match, local_correlation])
def test_the_number_of_pairs_may_be_symbolic(operation):
    f1, f2 = ONE[:, 0], TWO[:, 0]
    maps = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("n"), *f1.shape[1:]), f1.dtype)

    def run(*maps):
        values, pull = jax.vjp(partial(operation, patch=3), *maps)
        return values, pull(values)

    found = jax.export.export(jit(run))(maps, maps).call(f1, f2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, jit(run)(f1, f2))


CHILD = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from vidrec.ops.correlation import api, local_correlation, match

def loss(f1, f2, implementation):
    displacement, confidence = match(f1, f2, patch=5, tau=0.1, implementation=implementation)
    return jnp.sum(jnp.sin(displacement)) + jnp.sum(confidence)

gradients = jax.grad(loss, (0, 1))
f1, f2 = jax.random.normal(jax.random.key(0), (2, 4, 14, 12, 3))  # several blocks of queries
expected = jax.jit(lambda *maps: gradients(*maps, "dense"))(f1, f2)

def assert_right(found):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)

# One map varies, the other does not or is a constant.
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
split, once = PartitionSpec("data"), f2[:1]
for operation in (local_correlation, lambda *maps, **settings: match(*maps, **settings)[1]):
    correlate = lambda a, b: operation(a, b, patch=5).sum(tuple(range(3, operation(a, b, patch=5).ndim)))
    run = lambda *maps: jax.shard_map(correlate, mesh=mesh, in_specs=(split, PartitionSpec()), out_specs=split)(*maps)
    halves = lambda b: sum(correlate(f1[i : i + 1], b).sum() for i in range(2))
    found = jax.jit(jax.grad(lambda b: run(f1[:2], b).sum()))(once)
    np.testing.assert_allclose(found, jax.grad(halves)(once), atol=1e-4)

# Of an explicit axis any name will do, and one map may be a constant.
for kinds in ((AxisType.Auto, AxisType.Explicit), (AxisType.Explicit, AxisType.Auto)):
    mixed = jax.make_mesh((1, 2), ("data", "x"), axis_types=kinds)
    found = match(np.asarray(f1), jax.device_put(f2, NamedSharding(mixed, PartitionSpec("x"))), patch=5)[1]
    np.testing.assert_allclose(found, match(f1, f2, patch=5)[1], atol=1e-5)
    assert kinds[1] == AxisType.Auto or found.sharding.spec[0] == "x"

# What is traced is for a TPU, what runs is the other branch, on each device's half of the pairs.
here = api.surroundings
api.surroundings = lambda *features: ("tpu", "TPU v4", here(*features)[2])
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    maps = jax.device_put((f1, f2), NamedSharding(mesh, split))
    step = jax.jit(lambda *maps: gradients(*maps, None))
    assert "shard_map" in str(jax.make_jaxpr(step)(*maps))  # told by the arrays
    found = step(*maps)
    assert_right(found)
    assert found[0].sharding.spec[0] == "data", found[0].sharding
    with jax.set_mesh(mesh):
        assert_right(step(*jax.device_put((f1, f2), NamedSharding(mesh, PartitionSpec()))))
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
for checked in (True, False):  # a kernel cannot be in a shard_map that checks what varies
    specs = {"in_specs": split, "out_specs": split, "check_vma": checked}
    part = jax.shard_map(lambda *maps: gradients(*maps, None), mesh=mesh, **specs)
    assert ("pallas_call" in str(jax.make_jaxpr(part)(f1, f2))) != checked
    assert_right(jax.jit(part)(f1, f2))
"""


@pytest.mark.slow
def test_each_device_of_a_mesh_has_its_own_pairs():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
