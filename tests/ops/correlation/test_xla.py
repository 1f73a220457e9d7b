import jax
import jax.numpy as jnp
import pytest

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
    monkeypatch.setattr(blocks, "surroundings", lambda: (platform, "", None))
    assert blocks.rows_per_block(height, width) == rows


def test_the_volume_is_never_in_memory():
    """Differentiated by recomputation and block by block, the estimate needs a small part of what plain sums do."""
    f = jax.ShapeDtypeStruct((4, 56, 56, 16), jnp.float32)

    def memory(implementation):
        def loss(f1, f2):
            displacement, confidence = match(f1, f2, patch=15, implementation=implementation)
            return jnp.sum(displacement) + jnp.sum(confidence)

        return jit(jax.grad(loss, (0, 1))).lower(f, f).compile().memory_analysis().temp_size_in_bytes

    assert memory("dense") < memory("reference") / 5
