from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding, PartitionSpec

from tests.quick import jit
from vidrec.ops.correlation import blocks, match


@pytest.mark.parametrize(
    ("platform", "height", "width", "rows"),
    [
        ("cpu", 8, 8, 8),
        ("cpu", 16, 16, 4),
        ("cpu", 57, 56, 3),
        ("cpu", 29, 28, 1),
        ("gpu", 28, 28, 28),
        ("gpu", 56, 56, 4),
    ],
)
def test_blocks_divide_the_map(platform, height, width, rows, monkeypatch):
    monkeypatch.setattr(blocks, "surroundings", lambda maps: (platform, "", None))
    assert blocks.rows_per_block(jax.ShapeDtypeStruct((1, height, width, 8), jnp.float32)) == rows


def test_blocks_are_those_of_the_device_that_maps_are_sharded_over():
    device = AbstractDevice(device_kind="TPU v4", num_cores=1, platform="tpu")
    mesh = AbstractMesh((1,), ("data",), axis_types=(AxisType.Auto,), abstract_device=device)
    maps = jax.ShapeDtypeStruct((1, 28, 28, 8), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec()))
    rows = []
    jax.eval_shape(lambda f: rows.append(blocks.rows_per_block(f)), maps)
    assert rows == [28]


def test_what_is_not_a_number_is_not_hidden():
    """On maps so wide that a processor takes several columns at once, and compares them otherwise."""
    f1, f2 = jax.random.normal(jax.random.key(0), (2, 1, 8, 8, 4))
    f1 = f1.at[0, 3, 3, 0].set(jnp.nan)
    displacement, confidence = jit(partial(match, patch=3, implementation="dense"))(f1, f2)
    for values in (displacement[..., 0], confidence):
        np.testing.assert_array_equal(np.argwhere(np.isnan(values)), [[0, 3, 3]])


def test_the_volume_is_never_in_memory():
    """Differentiated by recomputation and block by block, the estimate needs a small part of what plain sums do."""
    f = jax.ShapeDtypeStruct((4, 56, 56, 16), jnp.float32)

    def memory(implementation):
        def loss(f1, f2):
            displacement, confidence = match(f1, f2, patch=15, implementation=implementation)
            return jnp.sum(displacement) + jnp.sum(confidence)

        return jit(jax.grad(loss, (0, 1))).lower(f, f).compile().memory_analysis().temp_size_in_bytes

    assert memory("dense") < memory("reference") / 5
