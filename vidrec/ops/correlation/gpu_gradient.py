"""The gradient of a tile of scores, and what it takes of each query: the arithmetic of `match`'s backward pass.

Positions are columns and rows of the map, not offsets from the query, so (p - mean) . gradient is a difference of
numbers as large as the map is wide. In float32 this leaves an error of about 2e-4 of the gradient's size on a map 70
wide where gradients cancel (true values of about 1e-25).
"""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from vidrec.ops.correlation.geometry import Tiling
from vidrec.ops.correlation.gpu_forward import LOG2_E, Sharpness, bell
from vidrec.ops.correlation.gpu_tiles import QUERIES, Ref, by_row, key_column, spread
from vidrec.ops.correlation.shapes import Array, Float


class Known(NamedTuple):
    """What is known of a query before the backward pass; one value each.

    Attributes:
      peak_x: the map's column of its peak.
      peak_y: the map's row.
      total: log2 of the sum of its weights.
      by_x: gradient of its mean position's column.
      by_y: gradient of the row.
      mean: the mean position times its gradient.
      by_peak: gradient of the highest score, zero where no score is positive.
    """

    peak_x: Any
    peak_y: Any
    total: Any
    by_x: Any
    by_y: Any
    mean: Any
    by_peak: Any


KNOWN = len(Known._fields)


def known_of(
    found: Float[Array, "n s 6 l"],
    positions: tuple[Float[Array, "s l"], Float[Array, "s l"]],
    by_offset: Float[Array, "n s l 2"],
    by_peak: Float[Array, "n s l"],
) -> Float[Array, "n s 7 l"]:
    """`Known` of every query, from what the forward pass found and the gradients of its results.

    The gradients of the mean take the factor ln 2 that turns `Sharpness.scale` into the derivative of a logit.
    """
    offset_x, offset_y, peak, peak_x, peak_y, total = (found[:, :, i] for i in range(found.shape[2]))
    x, y = positions
    by_x, by_y = (by_offset[..., i] / LOG2_E for i in range(2))
    mean = (offset_x + x) * by_x + (offset_y + y) * by_y
    return jnp.stack(Known(peak_x, peak_y, total, by_x, by_y, mean, jnp.where(peak > 0, by_peak, 0)), 2)


# In a kernel


def load_known(memory: Ref) -> Known:
    """What is known of 64 queries, as vectors."""
    return Known(*(plgpu.load(memory.at[row], layout=QUERIES) for row in range(KNOWN)))


class Columns(NamedTuple):
    """What the gradient of a score takes from the columns of its query and of its key.

    Attributes:
      x: the key's column.
      gaussian: the column's factor, zero beyond the window.
      by_peak: the gradient of the highest score in the peak's column, zero elsewhere.
    """

    x: Float[Array, "64 columns"]
    gaussian: Float[Array, "64 columns"]
    by_peak: Float[Array, "64 columns"]

    @classmethod
    def of(cls, query: Known, x: Float[Array, "64"], strip: Any, tiling: Tiling, sharpness: Sharpness) -> "Columns":
        """For queries of columns x and the keys of a strip."""
        columns = tiling.columns
        key_x = key_column(strip, tiling)
        peak_x = spread(query.peak_x, columns)
        gaussian = bell(key_x, peak_x, sharpness)
        return cls(
            key_x,
            jnp.where(jnp.abs(key_x - spread(x, columns)) <= tiling.patch // 2, gaussian, 0.0),
            jnp.where(key_x == peak_x, spread(query.by_peak, columns), 0.0),
        )


def by_scores(
    scores: Float[Array, "64 64"],
    query: Known,
    y: Float[Array, "64"],
    columns: Columns,
    first_key_row: Any,
    tiling: Tiling,
    sharpness: Sharpness,
) -> Float[Array, "64 64"]:
    """The gradient of scores: logit' (p - mean) . gradient of the mean, and the highest score's at the peak alone.

    Scores that are not positive, those of keys outside the map among them, get the factor zero and so no gradient.
    """
    along_y = partial(spread, columns=tiling.columns)
    rows = []
    for r, score in enumerate(by_row(scores, tiling)):
        key_y = (first_key_row + r).astype(jnp.float32)
        gaussian = sharpness.scale * bell(key_y, query.peak_y, sharpness)
        gaussian = jnp.where(jnp.abs(key_y - y) <= tiling.patch // 2, gaussian, 0.0)
        factor = jnp.where(score > 0, columns.gaussian * along_y(gaussian), 0.0)
        weight = jnp.exp2(factor * score - along_y(query.total))
        pull = columns.x * along_y(query.by_x) + along_y(key_y * query.by_y - query.mean)
        at_peak = columns.by_peak * along_y(jnp.where(query.peak_y == key_y, 1.0, 0.0))
        rows.append((factor * weight * pull + at_peak).astype(jnp.bfloat16))
    return jnp.concatenate(rows, 1) if len(rows) > 1 else rows[0]
