"""The correlation and its match estimation spelled out: slices and sums. The other implementations must equal this."""

import jax
import jax.numpy as jnp

from vidrec.ops.correlation.shapes import Array, Float, Int


def correlate(
    f1: Float[Array, "n h w c"],
    f2: Float[Array, "n h w c"],
    *,
    patch: int,
    dilation_patch: int = 1,
    kernel: int = 1,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Float[Array, "n h2 w2 p p"]:
    """Scores of every position with the patch x patch positions around it, zero outside the map (TCM Eq. 1).

    S[n, y, x, i, j] = <f1[n, y, x], f2[n, y + i - R, x + j - R]>, R = patch // 2, in float32. The further settings
    are those of FlowNet's correlation layer: spacing of the window's positions, size, stride, zero padding and
    dilation of a sum over neighbours.
    """
    f1, f2 = f1.astype(jnp.float32), f2.astype(jnp.float32)
    reach = patch // 2 * dilation_patch
    around = jnp.pad(f2, ((0, 0), (reach, reach), (reach, reach), (0, 0)))

    def shifted(offset: Int[Array, "2"]) -> Float[Array, "n h w"]:
        """The scores of one offset."""
        return jnp.sum(f1 * jax.lax.dynamic_slice(around, (0, offset[0], offset[1], 0), f2.shape), -1)

    offsets = dilation_patch * jnp.indices((patch, patch)).reshape(2, -1).T
    scores = jnp.moveaxis(jax.lax.map(shifted, offsets), 0, -1)
    return sum_neighbours(scores.reshape(*f1.shape[:3], patch, patch), kernel, stride, padding, dilation)


def sum_neighbours(
    scores: Float[Array, "n h w p p"], kernel: int, stride: int, padding: int, dilation: int
) -> Float[Array, "n h2 w2 p p"]:
    """Sums scores over kernel x kernel positions of the map, as a convolution with ones does."""
    padded = jnp.pad(scores, ((0, 0), (padding, padding), (padding, padding), (0, 0), (0, 0)))
    height, width = (n - dilation * (kernel - 1) for n in padded.shape[1:3])
    taps = range(0, dilation * kernel, dilation)
    parts = (padded[:, i : i + height : stride, j : j + width : stride] for i in taps for j in taps)
    return sum(parts, jnp.zeros((), scores.dtype))


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
    """The displacement (x, y) in pixels and the confidence; see `estimate`."""
    scores = correlate(f1, f2, patch=patch)
    return estimate(jax.nn.relu(scores) if relu else scores, sigma=sigma, tau=tau, amplitude=amplitude)


def estimate(
    scores: Float[Array, "n h w p p"], *, sigma: float, tau: float, amplitude: float = 1.0
) -> tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]:
    """Kernel soft-argmax over each window (TCM Eq. 3 to 5): mean offset (x, y) in pixels, and the highest score.

    The weights are softmax(amplitude * g * scores / tau) with g = exp(-|p - p*|^2 / (2 sigma^2)) around the first
    maximum p*, a constant for the gradient.
    """
    patch = scores.shape[-1]
    offset = jnp.arange(patch) - patch // 2
    logits = amplitude * around_peak(scores, sigma) / tau
    weight = jnp.exp(logits - jnp.max(logits, (-2, -1), keepdims=True))
    sum_x, sum_y = jnp.sum(weight * offset, (-2, -1)), jnp.sum(weight * offset[:, None], (-2, -1))
    displacement = jnp.stack([sum_x, sum_y], -1) / jnp.sum(weight, (-2, -1))[..., None]
    return displacement, highest(scores.reshape(*scores.shape[:-2], patch**2))


def around_peak(scores: Float[Array, "*n p p"], sigma: float) -> Float[Array, "*n p p"]:
    """The scores times exp(-|p - p*|^2 / (2 sigma^2)), p* the first maximum (TCM Eq. 3); no gradient to the factor."""
    patch = scores.shape[-1]
    place = jnp.arange(patch)
    row, column = jnp.divmod(jnp.argmax(scores.reshape(*scores.shape[:-2], -1), -1)[..., None, None], patch)
    distance = (place[:, None] - row) ** 2 + (place - column) ** 2
    return jnp.exp(-distance / (2 * sigma**2)) * scores


def highest(scores: Float[Array, "*n p"]) -> Float[Array, "*n"]:
    """The maximum; its gradient goes to the first place that has it."""
    return jnp.take_along_axis(scores, jnp.argmax(scores, -1)[..., None], -1)[..., 0]
