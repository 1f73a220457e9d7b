"""The correlation as it is usually written: all positions with all others, of which each window's are picked.

The products are [N, H*W, H*W] in memory and the volume [N, H*W, patch^2] beside them. Here as what the other
implementations are measured against.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vidrec.ops.correlation import reference
from vidrec.ops.correlation.shapes import Array, Float


def correlate(
    f1: Float[Array, "n h w c"], f2: Float[Array, "n h w c"], *, patch: int
) -> Float[Array, "n h w {patch} {patch}"]:
    """Scores of every position with the patch x patch positions around it; see `reference.correlate`."""
    n, height, width, channels = f1.shape
    (y, x), (i, j) = np.indices((height, width)).reshape(2, -1, 1), np.indices((patch, patch)).reshape(2, 1, -1)
    row, column = y + i - patch // 2, x + j - patch // 2
    exists = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    key = np.where(exists, row * width + column, 0)
    queries, keys = f1.reshape(n, -1, channels), f2.reshape(n, -1, channels)
    scores = jnp.einsum("nqc,nkc->nqk", queries, keys, precision="highest", preferred_element_type=jnp.float32)
    found = jnp.where(exists, jnp.take_along_axis(scores, jnp.asarray(key)[None], 2), 0)
    return found.reshape(n, height, width, patch, patch)


def match(
    f1: Float[Array, "n h w c"],
    f2: Float[Array, "n h w c"],
    *,
    patch: int,
    sigma: float,
    tau: float,
    amplitude: float,
    relu: bool,
) -> tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]:
    """The displacement (x, y) in pixels and the confidence; see `reference.match`."""
    scores = correlate(f1, f2, patch=patch)
    return reference.estimate(jax.nn.relu(scores) if relu else scores, sigma=sigma, tau=tau, amplitude=amplitude)
