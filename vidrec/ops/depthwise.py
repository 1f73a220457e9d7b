"""A 3x3 convolution of each channel on its own, as shifted multiply-adds with a backward pass of the same kind.

Grouped convolutions are slow on the few channels this is for, and the backward pass that differentiation would make
takes twice as long on a CPU.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def depthwise_conv(x: Float[Array, "*b h w c"], kernel: Float[Array, "3 3 c"]) -> Float[Array, "*b h w c"]:
    """Returns y[h, w, c] = sum of kernel[i, j, c] x[h + i - 1, w + j - 1, c], zero outside the map, in x's type."""
    taps = [tap * part for tap, part in zip(kernel.astype(x.dtype).reshape(9, -1), shifted(x), strict=True)]
    return sum(taps[1:], taps[0])


def shifted(x: Float[Array, "*b h w c"]) -> list[Float[Array, "*b h w c"]]:
    """The nine maps x[h + i - 1, w + j - 1], row by row."""
    height, width = x.shape[-3:-1]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
    return [padded[..., i : i + height, j : j + width, :] for i in range(3) for j in range(3)]


def forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    """Returns (the result, what the backward pass needs)."""
    return depthwise_conv(x, kernel), (x, kernel)


def backward(residuals: tuple[Array, Array], by_y: Array) -> tuple[Array, Array]:
    """Of x: the same with the kernel turned round; of the kernel: nine sums, in float32."""
    x, kernel = residuals
    # Without the barriers what leads to x and by_y, and the taps below, are computed anew for each of their many uses.
    x, by_y = jax.lax.optimization_barrier((x, by_y))
    by_x = jax.lax.optimization_barrier(depthwise_conv(by_y, kernel[::-1, ::-1]))
    axes = tuple(range(x.ndim - 1))
    by_kernel = jnp.stack([jnp.sum(part.astype(jnp.float32) * by_y, axes) for part in shifted(x)])
    return by_x, by_kernel.reshape(kernel.shape).astype(kernel.dtype)


depthwise_conv.defvjp(forward, backward)
