"""The implementation "dense", for any device: matrix products of a few rows of queries with the keys near them.

The scores of one block of rows, [N, keys, W, rows * W], are all that is ever in memory. Positions outside the map score
zero and are not enumerated: their part of every sum is known (`geometry.outside`). The backward pass computes a
block's scores again from the features.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidrec.ops.correlation.blocks import (
    Block,
    Maps,
    add_gradients,
    by_column,
    by_row,
    over_blocks,
    scores_of,
    spread,
    take_queries,
    window_index,
)
from vidrec.ops.correlation.geometry import NOWHERE, Outside, outside
from vidrec.ops.correlation.shapes import Array, Float, Int

# The volume


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def volume(f1: Maps, f2: Maps, patch: int) -> Float[Array, "n h w p p"]:
    """All scores by window position; see `reference.correlate`."""
    reach = patch // 2

    def step(block: Block, carry: None) -> tuple[None, Array]:
        """The volume of one block."""
        scores = scores_of(block, f1, f2)
        n, keys, width, queries = scores.shape
        offset = np.arange(patch)[:, None] - reach
        key, column = offset - block.dy[0], offset - block.dx[0]  # [i, q], [j, q]: of the window's rows and columns
        exists = ((key >= 0) & (key < keys))[:, None] & (column >= 0) & (column < width)
        index = jnp.where(exists, key[:, None] * width + column, 0)
        taken = jnp.take_along_axis(scores.reshape(n, -1, queries), index.reshape(1, -1, queries), 1)
        found = jnp.where(exists, taken.reshape(n, patch, patch, queries), 0)
        return carry, jnp.moveaxis(found, -1, 1)

    return over_blocks(step, None, f1, patch)[1]


def volume_forward(f1: Maps, f2: Maps, patch: int) -> tuple[Float[Array, "n h w p p"], tuple[Maps, Maps]]:
    """Returns (the scores, what the backward pass needs)."""
    return volume(f1, f2, patch), (f1, f2)


def volume_backward(patch: int, residuals: tuple[Maps, Maps], by_volume: Float[Array, "n h w p p"]) -> tuple:
    """Puts the gradient of each window position to its key: the inverse of the forward pass's choice."""
    f1, f2 = residuals

    def step(block: Block, by_f2: Maps) -> tuple[Maps, Maps]:
        """The gradients of one block."""
        here = jnp.moveaxis(take_queries(by_volume, block), 1, -1)
        n, queries = here.shape[0], here.shape[-1]
        index = jnp.where(block.inside, window_index(block, patch), 0)
        taken = jnp.take_along_axis(here.reshape(n, -1, queries), index.reshape(1, -1, queries), 1)
        by_scores = jnp.where(block.inside, taken.reshape(n, *index.shape), 0)
        return add_gradients(block, by_scores, f1, f2, by_f2)

    by_f2, by_f1 = over_blocks(step, jnp.zeros_like(f2, jnp.float32), f1, patch)
    return by_f1.astype(f1.dtype), by_f2.astype(f2.dtype)


volume.defvjp(volume_forward, volume_backward)


def correlate(f1: Maps, f2: Maps, *, patch: int) -> Float[Array, "n h w p p"]:
    """Scores of every position with the patch x patch positions around it; see `reference.correlate`."""
    return volume(f1, f2, patch)


# Match estimation


class Settings(NamedTuple):
    """What a match is estimated with: see `reference.estimate`."""

    patch: int
    sigma: float
    tau: float
    amplitude: float
    relu: bool


class Found(NamedTuple):
    """What is known of every query, `[N, H, W]` each, or `[N, q]` of a block: enough for the backward pass.

    Attributes:
      x: mean horizontal offset in pixels.
      y: mean vertical offset.
      peak: the highest score.
      peak_x: horizontal offset of the first highest score.
      peak_y: its vertical offset.
      top: what is taken off the logits before the exponential.
      total: sum of exp(logit - top) over the window.
    """

    x: Float[Array, "n *q"]
    y: Float[Array, "n *q"]
    peak: Float[Array, "n *q"]
    peak_x: Int[Array, "n *q"]
    peak_y: Int[Array, "n *q"]
    top: Float[Array, "n *q"]
    total: Float[Array, "n *q"]


def match(
    f1: Maps, f2: Maps, *, patch: int, sigma: float, tau: float, amplitude: float, relu: bool
) -> tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]:
    """The displacement (x, y) in pixels and the confidence; see `reference.match`."""
    return matched(f1, f2, Settings(patch, sigma, tau, amplitude, relu))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matched(f1: Maps, f2: Maps, settings: Settings) -> tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]:
    """`match` with its own backward pass."""
    return match_forward(f1, f2, settings)[0]


def match_forward(f1: Maps, f2: Maps, settings: Settings) -> tuple[Any, tuple[Maps, Maps, Found]]:
    """Returns ((displacement, confidence), what the backward pass needs)."""
    edge = outside(f1.shape[1], f1.shape[2], settings.patch)

    def step(block: Block, carry: None) -> tuple[None, Found]:
        """The match of one block."""
        here = Outside(*(take_queries(jnp.asarray(values)[None], block)[0] for values in edge))
        return carry, find(block, scores_of(block, f1, f2), here, settings)

    _, found = over_blocks(step, None, f1, settings.patch)
    return (jnp.stack([found.x, found.y], -1), found.peak), (f1, f2, found)


def find(block: Block, scores: Float[Array, "n k v q"], edge: Outside, settings: Settings) -> Found:
    """The peak and the weighted mean of the offsets of every query of a block."""
    peak, peak_y, peak_x = find_peak(block, scores, edge, settings)
    logits = gaussian(block, peak_y, peak_x, settings) * rectified(scores, settings)
    logits = jnp.where(block.inside, logits, -jnp.inf)
    if settings.relu:  # the Gaussian is 1 at the peak and less elsewhere, so this is the highest logit
        top = peak * (settings.amplitude / settings.tau)
    else:
        top = jnp.maximum(logits.max((1, 2)), jnp.where(edge.count > 0, 0, -jnp.inf))
    weights = jnp.exp(logits - spread(top))
    beyond = jnp.exp(jnp.where(edge.count > 0, -top, 0))
    along_y, along_x = weights.sum(2), weights.sum(1)  # [N, k, q], [N, v, q]
    inside = along_y.sum(1)
    sum_y = (along_y * block.dy).sum(1)
    sum_x = (along_x * block.dx).sum(1)
    total = inside + beyond * edge.count
    # XLA's maximum loses NaN on some CPUs; the sum has it, or has it from infinite scores, whose maximum is right.
    peak = jnp.where(jnp.isnan(total) & (peak < jnp.inf), total, peak)
    y = (sum_y + beyond * edge.y) / total
    x = (sum_x + beyond * edge.x) / total
    return Found(x, y, peak, peak_x, peak_y, top, total)


def rectified(scores: Float[Array, "*n"], settings: Settings) -> Float[Array, "*n"]:
    """The scores, or their positive part."""
    return jnp.maximum(scores, 0) if settings.relu else scores


def find_peak(
    block: Block, scores: Float[Array, "n k v q"], edge: Outside, settings: Settings
) -> tuple[Float[Array, "n q"], Int[Array, "n q"], Int[Array, "n q"]]:
    """The highest score of each window, and the vertical and horizontal offset of the first position that has it."""
    reach = settings.patch // 2
    peak = jnp.max(scores, (1, 2), where=block.inside, initial=-jnp.inf)
    is_peak = block.inside & (scores == spread(peak))
    first = jnp.min(jnp.where(is_peak, window_index(block, settings.patch), NOWHERE), (1, 2))
    if settings.relu:  # where no score is positive, all count as zero and the place of the peak changes nothing
        peak = jnp.maximum(peak, 0)
    else:
        first = jnp.where((peak < 0) & (edge.count > 0), NOWHERE, first)
        first = jnp.where((peak <= 0), jnp.minimum(first, edge.first), first)
        peak = jnp.where(edge.count > 0, jnp.maximum(peak, 0), peak)
    return peak, first // settings.patch - reach, first % settings.patch - reach


def gaussian(
    block: Block, peak_y: Int[Array, "n q"], peak_x: Int[Array, "n q"], settings: Settings
) -> Float[Array, "n k v q"]:
    """amplitude / tau * exp(-|p - p*|^2 / (2 sigma^2)), which is a row's factor times a column's."""
    scale = -1 / (2 * settings.sigma**2)
    along_y = jnp.exp(scale * (by_row(block) - spread(peak_y)) ** 2) * (settings.amplitude / settings.tau)
    return along_y * jnp.exp(scale * (by_column(block) - spread(peak_x)) ** 2)


def match_backward(settings: Settings, residuals: Any, gradients: Any) -> tuple[Maps, Maps]:
    """Of f1 and f2, from the gradients of displacement and confidence; scores are computed again, block by block."""
    f1, f2, found = residuals

    def step(block: Block, by_f2: Maps) -> tuple[Maps, Maps]:
        """The gradients of one block."""
        here, by_offset, by_peak = jax.tree.map(partial(take_queries, block=block), (found, *gradients))
        by_scores = gradient(block, scores_of(block, f1, f2), here, by_offset, by_peak, settings)
        return add_gradients(block, by_scores, f1, f2, by_f2)

    by_f2, by_f1 = over_blocks(step, jnp.zeros_like(f2, jnp.float32), f1, settings.patch)
    return by_f1.astype(f1.dtype), by_f2.astype(f2.dtype)


def gradient(
    block: Block,
    scores: Float[Array, "n k v q"],
    found: Found,
    by_displacement: Float[Array, "n q 2"],
    by_confidence: Float[Array, "n q"],
    settings: Settings,
) -> Float[Array, "n k v q"]:
    """Of the scores: logit' (p - mean) . by_displacement / total, and the confidence's at the peak alone."""
    by_x, by_y = jnp.moveaxis(by_displacement / found.total[..., None], -1, 0)
    factor = gaussian(block, found.peak_y, found.peak_x, settings)
    weights = jnp.exp(factor * rectified(scores, settings) - spread(found.top))
    pull_y = (by_row(block) - spread(found.y)) * spread(by_y)
    pull_x = (by_column(block) - spread(found.x)) * spread(by_x)
    at_peak = (by_row(block) == spread(found.peak_y)) & (by_column(block) == spread(found.peak_x))
    by_scores = factor * weights * (pull_y + pull_x) + at_peak * spread(by_confidence)
    alive = block.inside & (scores > 0) if settings.relu else block.inside
    return jnp.where(alive, by_scores, 0)


matched.defvjp(match_forward, match_backward)
