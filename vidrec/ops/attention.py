"""Attention as plain functions: softmax, and the directed (cosine) one of DirecFormer.

Both return the map beside the result, rows = queries. Products are summed, and maps kept, in float32 whatever the type
of the inputs is.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EPSILON = 1e-12  # added to squared lengths: the cosine with a zero vector is 0, not 0/0

Heads = Float[Array, "*b _s h d"]
Map = Float[Array, "*b h q k"]


def softmax_attention(query: Heads, key: Heads, value: Heads) -> tuple[Heads, Map]:
    """Returns softmax_k(q . k / sqrt(d)) v per head, and that softmax.

    `query` is `[..., Q, heads, d]`, `key` and `value` are `[..., K, heads, d]`; the map is `[..., heads, Q, K]`.
    """
    weights = jax.nn.softmax(dot(query, key) * query.shape[-1] ** -0.5)
    return weigh(weights, value), weights


def cosine_attention(query: Heads, key: Heads, value: Heads, *, scale: float = 1.0) -> tuple[Heads, Map]:
    """Returns `scale` * sum_k cos(q, k) v_k per head, and the cosines (DirecFormer Eq. 5-6 and 9).

    Nothing normalises the weights, each of which lies in [-1, 1]: a negative one says that the key comes before the
    query. (The equations divide q by sqrt(D), which a cosine does not see.) Shapes are those of `softmax_attention`.
    """
    cosines = dot(query, key) * inverse_length(query)[..., :, None] * inverse_length(key)[..., None, :]
    return weigh(cosines if scale == 1.0 else scale * cosines, value), cosines


def dot(query: Heads, key: Heads) -> Map:
    """Inner products per head, in float32."""
    return jnp.einsum("...qhd,...khd->...hqk", query, key, preferred_element_type=jnp.float32)


def weigh(weights: Map, value: Heads) -> Heads:
    """The sum over keys of weight times value, in the type of the values."""
    total = jnp.einsum("...hqk,...khd->...qhd", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    return total.astype(value.dtype)


def inverse_length(x: Heads) -> Float[Array, "*b h _s"]:
    """1 / |x| per head, with the heads before the sequence, in float32."""
    squares = jnp.square(x.astype(jnp.float32)).sum(-1)
    return jax.lax.rsqrt(jnp.moveaxis(squares, -1, -2) + EPSILON)
