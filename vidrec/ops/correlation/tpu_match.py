"""Match estimation as a TPU kernel, and its gradient as another.

The scores never leave the chip's vector memory: a step of the grid scores a few tiles of 128 queries with the keys near
them, finds each query's peak and mean offset, and forgets them; the backward pass computes them again.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vidrec.ops.correlation import tpu_tiles
from vidrec.ops.correlation.geometry import LANES, NOWHERE, SUBLANES, Tiles, inside_line, step_sizes, tiles
from vidrec.ops.correlation.shapes import Array, Float, Int
from vidrec.ops.correlation.tpu_call import Buffer, Call, fitted, tile_bytes
from vidrec.ops.correlation.tpu_tiles import Maps, Ref

# Rows of what is found of a tile's queries. The mean offset from the peak is kept besides that from the query: where
# the peak has nearly all weight it is small, and its rounding is what the gradient's rests on.
X, Y, PEAK, TOTAL, PEAK_COLUMN, PEAK_ROW, FROM_PEAK_X, FROM_PEAK_Y = range(8)
BY_X, BY_Y, BY_PEAK = range(3)  # rows of the gradients that come back
FOUND, PULLS = 8, 3
FAR = 1e30  # more than any logit


class Settings(NamedTuple):
    """What a match is estimated with, see `reference.estimate`; and whether the kernels are interpreted."""

    patch: int
    sigma: float
    tau: float
    amplitude: float
    interpret: Any

    @property
    def sharpness(self) -> float:
        """From g * score to an exponent of two."""
        return self.amplitude / self.tau * math.log2(math.e)

    @property
    def decay(self) -> float:
        """From a squared distance to the Gaussian's exponent of two."""
        return -math.log2(math.e) / (2 * self.sigma**2)


def match(
    f1: Maps,
    f2: Maps,
    *,
    patch: int,
    sigma: float,
    tau: float,
    amplitude: float,
    relu: bool,
    interpret: Any = False,
) -> tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]:
    """The displacement (x, y) in pixels and the confidence; see `reference.match`."""
    if not relu:
        raise ValueError("relu=False has no TPU kernel; use implementation='dense'")
    return matched(f1, f2, Settings(patch, sigma, tau, amplitude, interpret))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matched(f1: Maps, f2: Maps, settings: Settings) -> tuple[Float[Array, "n h w 2"], Float[Array, "n h w"]]:
    """`match` with its own backward pass."""
    return match_forward(f1, f2, settings)[0]


def match_forward(f1: Maps, f2: Maps, settings: Settings) -> tuple[Any, Any]:
    """Returns ((displacement, confidence), what the backward pass needs)."""
    found = find(f1, f2, settings)
    n, height, width, _ = f1.shape
    cut = tiles(height, width, settings.patch)
    rows = found.transpose(2, 0, 1, 3).reshape(FOUND, n, cut.count * cut.rows, cut.columns)[:3, :, :height, :width]
    return (jnp.stack([rows[X], rows[Y]], -1), rows[PEAK]), (f1, f2, found)


def match_backward(settings: Settings, residuals: Any, gradients: Any) -> tuple[Maps, Maps]:
    """Of f1 and f2, from the gradients of displacement and confidence."""
    f1, f2, found = residuals
    n, height, width, _ = f1.shape
    cut = tiles(height, width, settings.patch)
    pulls = jnp.stack([gradients[0][..., 0], gradients[0][..., 1], gradients[1]])
    beyond = ((0, 0), (0, 0), (0, cut.count * cut.rows - height), (0, cut.columns - width))
    pulls = jnp.pad(pulls, beyond).reshape(PULLS, n, cut.count, LANES).transpose(1, 2, 0, 3)
    return push(f1, f2, found, pulls, settings)


matched.defvjp(match_forward, match_backward)


# Forward


def find_call(size: Sequence[int], patch: int, dtype: Any) -> Call:
    """What the forward kernel is given: f1, f2 -> what is found of the queries."""
    height, width, channels = size
    cut = tiles(height, width, patch)

    def build(per_step: int) -> Call:
        """The call with so many tiles a step."""
        return Call(
            cut,
            per_step,
            inputs=[Buffer((*size,), dtype, per_step * cut.rows), Buffer((*size,), dtype)],
            outputs=[Buffer((cut.count, FOUND, LANES), jnp.float32, per_step)],
            scratch=[
                ((LANES, channels), dtype),
                ((cut.staged * cut.columns, channels), dtype),
                ((cut.keys * cut.columns, LANES), jnp.float32),
            ],
        )

    return fitted(build, step_sizes(cut.count, tile_bytes(channels, dtype)))


def find(f1: Maps, f2: Maps, settings: Settings) -> Float[Array, "n t 8 l"]:
    """What is found of every query, by tiles: the rows `X` ... `FROM_PEAK_Y`."""
    call = find_call(f1.shape[1:], settings.patch, f1.dtype)
    costs = {"flops": 2 * f1.shape[-1] + 12, "transcendentals": 1}
    return call(
        forward_kernel, "vidrec_match_forward", f1, f2, **costs, interpret=settings.interpret, settings=settings
    )[0]


def forward_kernel(
    f1_ref: Ref,
    f2_ref: Ref,
    found_ref: Ref,
    queries_ref: Ref,
    keys_ref: Ref,
    scores_ref: Ref,
    *,
    call: Call,
    settings: Settings,
) -> None:
    """One step: f1_ref [1, rows, W, C], f2_ref [1, H, W, C] -> found_ref [1, tiles, 8, LANES]; the rest is scratch."""
    cut, height = call.cut, f2_ref.shape[1]

    def before() -> None:
        """Lays out the keys of a pair."""
        tpu_tiles.stage_keys(f2_ref, keys_ref, cut, settings.patch // 2)
        queries_ref[...] = jnp.zeros_like(queries_ref)

    def per_tile(tile: Array, place: Array) -> None:
        """Matches one tile of queries."""
        tpu_tiles.stage_queries(f1_ref, queries_ref, tile, place, cut, height)
        scores_ref[...] = tpu_tiles.scores_of(queries_ref, keys_ref, tile, cut)
        peak, row, column = find_peak(scores_ref, cut, settings.patch)
        x, y, total = average(scores_ref, peak, row, column, cut, settings)
        at_x, at_y = from_query(row, column, cut, settings.patch)
        for line, value in enumerate((at_x + x, at_y + y, peak, total, column, row, x, y)):
            found_ref[0, place, line : line + 1, :] = value

    tpu_tiles.over_tiles(call, before, per_tile)


def find_peak(
    scores_ref: Ref, cut: Tiles, patch: int
) -> tuple[Float[Array, "1 l"], Float[Array, "1 l"], Float[Array, "1 l"]]:
    """The highest positive score of each query, and the row and column of the first key that has it.

    Without a positive score the peak is zero and its place any: then all logits are equal.
    """
    best = jnp.zeros((cut.columns, LANES), jnp.float32)
    best_row = jnp.zeros((cut.columns, LANES), jnp.int32)
    for row in range(cut.keys):
        scores = scores_ref[tpu_tiles.of_row(row, cut), :]
        higher = scores > best
        if (near := tpu_tiles.near(row, cut, patch)) is not None:
            higher &= near
        best, best_row = jnp.where(higher, scores, best), jnp.where(higher, row, best_row)
    best = jnp.where(jnp.abs(offsets(cut)) <= patch // 2, best, 0)
    peak = jnp.max(best, 0, keepdims=True)
    place = best_row * cut.columns + tpu_tiles.key_column(cut)
    first = jnp.min(jnp.where(best == peak, place, NOWHERE), 0, keepdims=True)
    return peak, (first // cut.columns).astype(jnp.float32), (first % cut.columns).astype(jnp.float32)


def average(
    scores_ref: Ref,
    peak: Float[Array, "1 l"],
    row: Float[Array, "1 l"],
    column: Float[Array, "1 l"],
    cut: Tiles,
    settings: Settings,
) -> tuple[Float[Array, "1 l"], Float[Array, "1 l"], Float[Array, "1 l"]]:
    """The mean offsets x and y from each query's peak in pixels, and the sum of its weights.

    The Gaussian is 1 at the peak and less elsewhere, so the peak's logit is the highest and is taken off all.
    """
    patch = settings.patch
    by_column = column_factor(column, cut, settings)
    top = peak * settings.sharpness
    off = jnp.where(jnp.abs(offsets(cut)) <= patch // 2, top, FAR)
    by_columns = jnp.zeros((cut.columns, LANES), jnp.float32)
    sum_y = jnp.zeros((SUBLANES, LANES), jnp.float32)
    for key_row in range(cut.keys):
        scores = jnp.maximum(scores_ref[tpu_tiles.of_row(key_row, cut), :], 0)
        near = tpu_tiles.near(key_row, cut, patch)
        here = off if near is None else jnp.where(near, off, FAR)
        weights = jnp.exp2(scores * (by_column * row_factor(key_row, row, settings)) - here)  # as in `differentiate`
        by_columns += weights
        sum_y += fold(weights) * (key_row - row)
    total = jnp.sum(by_columns, 0, keepdims=True)
    sum_x = jnp.sum(by_columns * (tpu_tiles.key_column(cut) - column), 0, keepdims=True)
    sum_y = jnp.sum(sum_y, 0, keepdims=True)
    at_x, at_y = from_query(row, column, cut, patch)
    inside, inside_x = inside_line(tpu_tiles.lane_column(cut), cut.columns, patch)
    beside = jnp.exp2(-top) * patch  # weight of one of the window's columns that lie outside the padded map
    outside = beside * (patch - inside)
    total += outside
    return (sum_x - beside * inside_x - outside * at_x) / total, (sum_y - outside * at_y) / total, total


def fold(values: Float[Array, "columns l"]) -> Float[Array, "8 l"]:
    """The sum of whole registers."""
    total = values[:SUBLANES]
    for start in range(SUBLANES, values.shape[0], SUBLANES):
        total += values[start : start + SUBLANES]
    return total


def from_query(row: Array, column: Array, cut: Tiles, patch: int) -> tuple[Float[Array, "1 l"], Float[Array, "1 l"]]:
    """The offsets x and y from each query to a key in a row and column."""
    return column - tpu_tiles.lane_column(cut), row - patch // 2 - tpu_tiles.lane_row(cut)


def offsets(cut: Tiles) -> Int[Array, "columns l"]:
    """Horizontal offset from the query on a lane to the key on a sublane."""
    return tpu_tiles.key_column(cut) - tpu_tiles.lane_column(cut)


def column_factor(column: Array, cut: Tiles, settings: Settings) -> Float[Array, "columns l"]:
    """The Gaussian's part by columns times the sharpness; zero outside the windows."""
    distance = tpu_tiles.key_column(cut).astype(jnp.float32) - column
    factor = jnp.exp2(settings.decay * distance**2) * settings.sharpness
    return jnp.where(jnp.abs(offsets(cut)) <= settings.patch // 2, factor, 0)


def row_factor(key_row: int, row: Array, settings: Settings) -> Float[Array, "1 l"]:
    """The Gaussian's part of one row of keys."""
    return jnp.exp2(settings.decay * (key_row - row) ** 2)


# Backward


def push_call(size: Sequence[int], patch: int, dtype: Any) -> Call:
    """What the backward kernel is given: f1, f2, what was found, its gradients -> the gradients of f1 and f2."""
    height, width, channels = size
    cut = tiles(height, width, patch)
    seen = cut.keys * cut.columns

    def build(per_step: int) -> Call:
        """The call with so many tiles a step."""
        maps = [Buffer((*size,), dtype, per_step * cut.rows), Buffer((*size,), dtype)]
        lines = [Buffer((cut.count, count, LANES), jnp.float32, per_step) for count in (FOUND, PULLS)]
        return Call(
            cut,
            per_step,
            inputs=maps + lines,
            outputs=maps,
            scratch=[
                ((LANES, channels), dtype),
                ((cut.staged * cut.columns, channels), dtype),
                ((seen, LANES), jnp.float32),
                ((seen, LANES), dtype),
                ((cut.staged * cut.columns, channels), jnp.float32),
            ],
        )

    return fitted(build, step_sizes(cut.count, tile_bytes(channels, dtype)))


def push(
    f1: Maps, f2: Maps, found: Float[Array, "n t 8 l"], pulls: Float[Array, "n t 3 l"], settings: Settings
) -> tuple[Maps, Maps]:
    """The gradients of f1 and f2 from those of the rows `X`, `Y` and `PEAK`."""
    call = push_call(f1.shape[1:], settings.patch, f1.dtype)
    arrays = (f1, f2, found, pulls)
    costs = {"flops": 6 * f1.shape[-1] + 12, "transcendentals": 1}
    return tuple(
        call(
            backward_kernel, "vidrec_match_backward", *arrays, **costs, interpret=settings.interpret, settings=settings
        )
    )


def backward_kernel(
    f1_ref: Ref,
    f2_ref: Ref,
    found_ref: Ref,
    pulls_ref: Ref,
    by_f1_ref: Ref,
    by_f2_ref: Ref,
    queries_ref: Ref,
    keys_ref: Ref,
    scores_ref: Ref,
    by_scores_ref: Ref,
    by_keys_ref: Ref,
    *,
    call: Call,
    settings: Settings,
) -> None:
    """One step: the gradients by_f1_ref [1, rows, W, C] and by_f2_ref [1, H, W, C]; the last five are scratch."""
    cut, height, reach = call.cut, f2_ref.shape[1], settings.patch // 2

    def before() -> None:
        """Lays out the keys of a pair and clears their gradient."""
        tpu_tiles.stage_keys(f2_ref, keys_ref, cut, reach)
        queries_ref[...] = jnp.zeros_like(queries_ref)
        by_keys_ref[...] = jnp.zeros_like(by_keys_ref)

    def per_tile(tile: Array, place: Array) -> None:
        """The gradient of one tile of queries, and what it adds to that of the keys."""
        tpu_tiles.stage_queries(f1_ref, queries_ref, tile, place, cut, height)
        scores_ref[...] = tpu_tiles.scores_of(queries_ref, keys_ref, tile, cut)
        found = [found_ref[0, place, line : line + 1, :] for line in range(FOUND)]
        pulls = [pulls_ref[0, place, line : line + 1, :] for line in range(PULLS)]
        differentiate(scores_ref, by_scores_ref, found, pulls, cut, settings)
        by_queries = tpu_tiles.add_gradients(by_scores_ref[...], queries_ref[...], keys_ref, by_keys_ref, tile, cut)
        tpu_tiles.write_queries(by_queries, by_f1_ref, tile, place, cut, height)

    def after() -> None:
        """Writes the gradient of the keys."""
        tpu_tiles.write_keys(by_keys_ref, by_f2_ref, cut, reach)

    tpu_tiles.over_tiles(call, before, per_tile, after)


def differentiate(
    scores_ref: Ref, by_scores_ref: Ref, found: list[Array], pulls: list[Array], cut: Tiles, settings: Settings
) -> None:
    """Writes the gradient of a tile's scores to by_scores_ref [keys * columns, LANES].

    A positive score changes its weight, which pulls the mean offsets to its own; the peak's also changes the
    confidence. The factor is zero outside the window, which is all the masking that is needed.
    """
    by_x, by_y = pulls[BY_X] / found[TOTAL] * math.log(2), pulls[BY_Y] / found[TOTAL] * math.log(2)
    top, row = found[PEAK] * settings.sharpness, found[PEAK_ROW]
    by_column = column_factor(found[PEAK_COLUMN], cut, settings)
    column = tpu_tiles.key_column(cut) - found[PEAK_COLUMN]
    pull_x = (column - found[FROM_PEAK_X]) * by_x
    by_peak = jnp.where(found[PEAK] > 0, pulls[BY_PEAK], 0)
    peak = jnp.where(column == 0, by_peak, 0)
    for key_row in range(cut.keys):
        scores = scores_ref[tpu_tiles.of_row(key_row, cut), :]
        by_row = row_factor(key_row, row, settings)
        if (near := tpu_tiles.near(key_row, cut, settings.patch)) is not None:
            by_row = jnp.where(near, by_row, 0)
        pull_y = (key_row - row - found[FROM_PEAK_Y]) * by_y
        factor = by_column * by_row
        by_scores = factor * jnp.exp2(scores * factor - top) * (pull_x + pull_y) + jnp.where(row == key_row, peak, 0)
        by_scores = jnp.where(scores > 0, by_scores, 0)
        by_scores_ref[tpu_tiles.of_row(key_row, cut), :] = by_scores.astype(by_scores_ref.dtype)
