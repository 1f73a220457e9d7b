import jax
import jax.numpy as jnp
import pytest

from tests.quick import jit
from vidrec.ops.correlation import match
from vidrec.ops.correlation.blocks import rows_per_block


@pytest.mark.parametrize(
    ("height", "width", "rows"), [(8, 8, 8), (16, 16, 16), (28, 28, 28), (56, 56, 4), (57, 56, 3), (59, 56, 1)]
)
def test_blocks_divide_the_map(height, width, rows):
    assert rows_per_block(height, width) == rows


def test_the_volume_is_never_in_memory():
    """Differentiated by recomputation and block by block, the estimate needs a small part of what plain sums do."""
    f = jax.ShapeDtypeStruct((4, 56, 56, 16), jnp.float32)

    def memory(implementation):
        def loss(f1, f2):
            displacement, confidence = match(f1, f2, patch=15, implementation=implementation)
            return jnp.sum(displacement) + jnp.sum(confidence)

        return jit(jax.grad(loss, (0, 1))).lower(f, f).compile().memory_analysis().temp_size_in_bytes

    assert memory("dense") < memory("reference") / 5
