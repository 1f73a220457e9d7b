"""Twins Training's loss (STM, journal version, Eq. 8 and 9): two views of a video agree, classes stay apart.

The matrix of correlations between the scores of two views, over the batch, is pulled to the identity.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def correlation(
    y_a: Float[Array, "b k"], y_b: Float[Array, "b k"], *, center: bool = False, epsilon: float = 1e-12
) -> Float[Array, "k k"]:
    """Returns C, Eq. 8: C[i, j] is the cosine, over the batch, of class i in one view and class j in the other.

    Entries lie in -1..1, float32; exchanging the views transposes C. Under jit the batch is the whole global one,
    however many devices share it: the only thing they exchange is one sum of `[K, K]`.

    Args:
      y_a: class scores of one view, `[B, K]`.
      y_b: class scores of the other view of the same videos, in the same order.
      center: subtract each class's mean first, as the public code of Barlow Twins does; Eq. 8 does not.
      epsilon: added to a sum of squares, so that a class without any score has correlation 0.
    """
    a, b = unit_columns(y_a, center, epsilon), unit_columns(y_b, center, epsilon)
    return jnp.matmul(a.T, b, precision=jax.lax.Precision.HIGHEST)  # TPU would multiply in bfloat16


def twins_loss(
    y_a: Float[Array, "b k"], y_b: Float[Array, "b k"], *, beta: float = 0.0039, center: bool = False
) -> Float[Array, ""]:
    """Returns L_cor, Eq. 9: the sum of (1 - C[i, i])^2 plus `beta` times the sum of all other C[i, j]^2.

    With fewer clips than classes C cannot be the identity, so the second sum has a floor above 0. See `correlation`.
    """
    c = correlation(y_a, y_b, center=center)
    diagonal = jnp.diagonal(c)
    others = jnp.square(c) * (1 - jnp.eye(len(c)))
    return jnp.square(1 - diagonal).sum() + beta * others.sum()


def unit_columns(y: Float[Array, "b k"], center: bool, epsilon: float) -> Float[Array, "b k"]:
    """Every column (class) divided by its length, in float32."""
    y = y.astype(jnp.float32)
    y = y - y.mean(0) if center else y
    return y * jax.lax.rsqrt(jnp.square(y).sum(0) + epsilon)
