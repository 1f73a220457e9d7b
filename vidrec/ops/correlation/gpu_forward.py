"""The forward pass of `match` on a GPU: the peak of every window first, then the sums around it."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import mosaic_gpu as plgpu

from vidrec.ops.correlation.geometry import CHANNELS, TILE, Tiling, inside_line
from vidrec.ops.correlation.gpu_tiles import (
    Place,
    Ref,
    Stream,
    block_kernel,
    by_row,
    copy_tile,
    cost_of,
    filled,
    key_column,
    place,
    positions_of,
    product,
    query_position,
    slots_for,
    spread,
    strips_of,
    tile_memory,
)
from vidrec.ops.correlation.shapes import Array, Float

LOG2_E = math.log2(math.e)  # the hardware's exponential has base two
FOUND = 6  # per query: x and y of the mean offset, the highest score, its column and row, log2 of the sum of weights


class Sharpness(NamedTuple):
    """How scores become weights: 2^(scale * 2^-(narrow * distance to the peak)^2 * score).

    Attributes:
      narrow: sqrt(log2(e) / 2) / sigma.
      scale: log2(e) * amplitude / tau.
    """

    narrow: float
    scale: float


def bell(place: Array, peak: Array, sharpness: Sharpness) -> Array:
    """One coordinate's factor of the Gaussian."""
    distance = place * sharpness.narrow - peak * sharpness.narrow
    return jnp.exp2(-(distance * distance))


class Peak(NamedTuple):
    """The highest score of each query's window, at least zero; the map's column and row of the first that has it."""

    score: Float[Array, "64"]
    x: Float[Array, "64"]
    y: Float[Array, "64"]


class Sums(NamedTuple):
    """Sums of the weights of a window, and of the weights times the offsets."""

    total: Float[Array, "64"]
    x: Float[Array, "64"]
    y: Float[Array, "64"]


def find(
    f1: Float[Array, "n s l c"],
    f2: Float[Array, "n s l c"],
    size: tuple[int, int],
    tiling: Tiling,
    sharpness: Sharpness,
    interpret: Any,
) -> Float[Array, "n s 6 l"]:
    """What is found of every query of strips of features (bfloat16) cut from maps of `size`; see `FOUND`."""
    pairs, strips, length, channels = f1.shape
    blocks, tiles = channels // CHANNELS, pairs * strips * tiling.tiles
    slots = slots_for(channels, tiling, passes=2)
    out = jax.ShapeDtypeStruct((pairs, strips, FOUND, length), jnp.float32)
    run = block_kernel(
        partial(find_block, size=size, tiling=tiling, sharpness=sharpness),
        name="vidrec_match_forward",
        blocks=tiles,
        cost=cost_of(pairs * tiling.products, 2, 12, 1, channels, (f1, f2, out)),
        out_type=out,
        scratch_types=[
            tile_memory(blocks),
            tile_memory(blocks, slots),
            plgpu.SMEM((FOUND, TILE), jnp.float32),
            plgpu.Barrier(num_arrivals=blocks),
            plgpu.Barrier(num_arrivals=blocks, num_barriers=slots),
        ],
        interpret=interpret,
    )
    return run(f1, f2)


def find_block(
    f1: Ref,
    f2: Ref,
    out: Ref,
    queries: Ref,
    keys: Ref,
    found: Ref,
    queries_ready: Ref,
    keys_ready: Ref,
    *,
    size: tuple[int, int],
    tiling: Tiling,
    sharpness: Sharpness,
) -> None:
    """One tile of queries."""
    here = place(tiling, lax.axis_index("block"))
    first_row = here.tile * tiling.rows
    copy_tile(f1, here, first_row, tiling, queries, queries_ready)

    def start(near: Any) -> None:
        """Copies a tile of keys into its slot."""
        at = Place(here.pair, near.strip, None)
        copy_tile(f2, at, near.row, tiling, keys.at[near.slot], keys_ready.at[near.slot])

    stream = Stream(start, keys_ready, here, tiling, keys.shape[0], passes=2)
    y, x = query_position(first_row, here.strip, tiling)
    plgpu.barrier_wait(queries_ready)
    scores = partial(product, queries)
    peak = find_peak(stream, keys, scores, y, x)
    sums = sum_weights(stream, keys, scores, y, x, peak, size, sharpness)
    top = peak.score * sharpness.scale
    sums = add_outside(sums, jnp.exp2(-top), y, x, size, tiling.patch)
    values = (sums.x / sums.total, sums.y / sums.total, peak.score, peak.x, peak.y, top + jnp.log2(sums.total))
    for row, value in enumerate(values):
        found[row] = value
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(found, out.at[here.pair, here.strip, :, positions_of(here.tile)])
    plgpu.wait_smem_to_gmem(0)


def find_peak(stream: Stream, keys: Ref, scores: Any, y: Float[Array, "64"], x: Float[Array, "64"]) -> Peak:
    """The first pass: in registers the highest score of each column and its row, per query."""
    tiling = stream.tiling
    reach, columns = tiling.patch // 2, tiling.columns

    def tile(near: Any, carry: Any) -> Any:
        """Takes each column's best score, and its row, on over one tile."""
        best, best_y = carry
        for r, score in enumerate(by_row(scores(keys.at[near.slot]), tiling)):
            key_y = (near.row + r).astype(jnp.float32)
            within = jnp.where(jnp.abs(y - key_y) <= reach, 1.0, 0.0)  # others become zero, which is never higher
            score = score * spread(within, columns)
            higher = score > best
            best, best_y = jnp.where(higher, score, best), jnp.where(higher, key_y, best_y)
        return best, best_y

    def strip(number: Any, peak: Peak) -> Peak:
        """Takes the first of the highest scores on over one strip."""
        nothing = filled(0, TILE, columns), filled(0, TILE, columns)
        best, best_y = stream.over(0, number, tile, nothing)
        key_x = key_column(tiling.first_strip(stream.here.strip) + number, tiling)
        best = jnp.where(jnp.abs(key_x - spread(x, columns)) <= reach, best, 0.0)
        return first_peak(peak, best, key_x, best_y)

    return strips_of(tiling, strip, Peak(filled(0, TILE), filled(0, TILE), filled(0, TILE)))


def first_peak(
    peak: Peak, best: Float[Array, "64 columns"], key_x: Float[Array, "64 columns"], best_y: Float[Array, "64 columns"]
) -> Peak:
    """The peak so far or the one of a strip further right: the higher, of equal ones the upper, then the left one."""
    columns, far = best.shape[1], 1e9
    score = jnp.max(best, axis=1)
    rows = jnp.where(best == spread(score, columns), best_y, far)
    y = jnp.min(rows, axis=1)
    x = jnp.min(jnp.where(rows == spread(y, columns), key_x, far), axis=1)
    upper = jnp.where(score == peak.score, jnp.where(y < peak.y, 1.0, 0.0), 0.0)
    better = jnp.where(score > peak.score, 1.0, upper) > 0
    return Peak(*(jnp.where(better, new, old) for new, old in zip(Peak(score, x, y), peak, strict=True)))


def sum_weights(
    stream: Stream,
    keys: Ref,
    scores: Any,
    y: Float[Array, "64"],
    x: Float[Array, "64"],
    peak: Peak,
    size: tuple[int, int],
    sharpness: Sharpness,
) -> Sums:
    """The second pass, over positions inside the map: sums of each column in registers, then over the columns.

    The Gaussian is a column's factor times a row's, and what lies beyond the window gets the factor zero: its weight
    cannot overflow, and leaves the sums with a factor that they need anyway.
    """
    tiling = stream.tiling
    reach, columns = tiling.patch // 2, tiling.columns
    height, width = size
    top = spread(peak.score * -sharpness.scale, columns)

    def strip(number: Any, sums: Sums) -> Sums:
        """Adds one strip to the weighted sums."""
        key_x = key_column(tiling.first_strip(stream.here.strip) + number, tiling)
        dx = key_x - spread(x, columns)
        inside = jnp.where(jnp.abs(dx) <= reach, jnp.where(key_x < width, 1.0, 0.0), 0.0)
        along_x = inside * bell(key_x, spread(peak.x, columns), sharpness)

        def tile(near: Any, carry: Any) -> Any:
            """Adds one tile to the weighted sums of each column."""
            total, total_y = carry
            for r, score in enumerate(by_row(scores(keys.at[near.slot]), tiling)):
                key_y = (near.row + r).astype(jnp.float32)
                dy = key_y - y
                within = jnp.where(jnp.abs(dy) <= reach, jnp.where(key_y < height, 1.0, 0.0), 0.0)
                along_y = within * sharpness.scale * bell(key_y, peak.y, sharpness)
                logit = along_x * spread(along_y, columns) * jnp.maximum(score, 0.0)
                weight = jnp.exp2(logit + top)
                total = total + weight * spread(within, columns)
                total_y = total_y + weight * spread(within * dy, columns)
            return total, total_y

        total, total_y = stream.over(1, number, tile, (filled(0, TILE, columns), filled(0, TILE, columns)))
        total = total * inside
        here = Sums(jnp.sum(total, 1), jnp.sum(total * dx, 1), jnp.sum(total_y * inside, 1))
        return Sums(*(a + b for a, b in zip(sums, here, strict=True)))

    return strips_of(tiling, strip, Sums(filled(0, TILE), filled(0, TILE), filled(0, TILE)))


def add_outside(
    sums: Sums,
    weight: Float[Array, "64"],
    y: Float[Array, "64"],
    x: Float[Array, "64"],
    size: tuple[int, int],
    patch: int,
) -> Sums:
    """Adds the positions of the windows that are outside the map, all of one weight; see `geometry.outside`."""
    height, width = size
    rows, sum_y = inside_line(jnp.minimum(y, height - 1.0), height, patch)  # queries that pad the map are its last
    columns, sum_x = inside_line(jnp.minimum(x, width - 1.0), width, patch)
    return Sums(
        sums.total + weight * (patch**2 - rows * columns),
        sums.x - weight * (rows * sum_x),
        sums.y - weight * (sum_y * columns),
    )
