"""The correlation volume on a GPU, by plain arithmetic, for features of any type: they are float32 in the kernels.

A map is one line of positions with zeros between its rows, so that a displacement is a step along the line. A block is
one warpgroup with a tile of 64 positions; for each row of offsets it reads the segment of the line that the windows
touch, and goes over the offsets in the row. The volume is in memory as [N, patch^2, positions]. More than 64 channels
are several volumes, added.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from vidrec.ops.correlation.batching import fold_pairs
from vidrec.ops.correlation.geometry import CHANNELS, TILE, Line, line, round_up
from vidrec.ops.correlation.gpu_tiles import QUERIES, SCORES, Ref, block_kernel, filled, spread
from vidrec.ops.correlation.shapes import Array, Float

Maps = Float[Array, "n h w c"]

GAP = 8  # channels of zeros after each position: rows of shared memory then begin in different banks
SLOTS = 2  # segments in shared memory: one is read while the next is copied


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def volume(f1: Maps, f2: Maps, patch: int, interpret: Any) -> Float[Array, "n h w p p"]:
    """All scores by window position; see `reference.correlate`."""
    height, width = f1.shape[1:3]
    layout = line(height, width, patch)
    groups = zip(*(channel_groups(to_line(f, layout)) for f in (f1, f2)), strict=True)
    score = fold_pairs(partial(products, layout=layout, interpret=interpret))
    scores = sum_of([score(one, two) for one, two in groups])
    rows = scores[:, :, : height * layout.pitch].reshape(-1, patch, patch, height, layout.pitch)
    return rows[..., :width].transpose(0, 3, 4, 1, 2)


def volume_forward(f1: Maps, f2: Maps, patch: int, interpret: Any) -> tuple[Array, tuple[Maps, Maps]]:
    """Returns (the scores, what the backward pass needs)."""
    return volume(f1, f2, patch, interpret), (f1, f2)


def volume_backward(
    patch: int, interpret: Any, residuals: tuple[Maps, Maps], by_volume: Float[Array, "n h w p p"]
) -> tuple[Maps, Maps]:
    """Of f1 and f2: each position's window of one, weighted with the gradient of the score it shares with it."""
    f1, f2 = residuals
    height, width = f1.shape[1:3]
    layout = line(height, width, patch)
    by_scores = by_volume.reshape(*by_volume.shape[:3], patch**2)
    weights = to_line(by_scores, layout).swapaxes(1, 2)

    def of(features: Maps, mirrored: bool) -> Maps:
        """The gradient of one of the two maps, from the other."""
        groups = channel_groups(to_line(features, layout))
        weigh = fold_pairs(partial(weighted, layout=layout, mirrored=mirrored, interpret=interpret))
        sums = [weigh(group, weights) for group in groups]
        gradient = jnp.concatenate(sums, -1)[:, : height * layout.pitch, : features.shape[-1]]
        rows = gradient.reshape(-1, height, layout.pitch, features.shape[-1])
        return rows[:, :, :width].astype(features.dtype)

    return of(f2, mirrored=False), of(f1, mirrored=True)


volume.defvjp(volume_forward, volume_backward)


def to_line(maps: Maps, layout: Line) -> Float[Array, "n m c"]:
    """Maps as lines with margins."""
    n, height, width, channels = maps.shape
    rows = jnp.pad(maps, ((0, 0), (0, 0), (0, layout.pitch - width), (0, 0)))
    positions = rows.reshape(n, height * layout.pitch, channels)
    after = layout.margin + layout.length - positions.shape[1]
    after += -(layout.margin + positions.shape[1] + after) % 8
    return jnp.pad(positions, ((0, 0), (layout.margin, after), (0, 0)))


def channel_groups(features: Float[Array, "n m c"]) -> list[Float[Array, "n m g"]]:
    """Features, float32, in groups of 64 channels or of as many as there are, zeros to a multiple of 8 and the gap."""
    starts = range(0, features.shape[-1], CHANNELS)
    groups = [features[..., first : first + CHANNELS].astype(jnp.float32) for first in starts]
    return [jnp.pad(g, ((0, 0), (0, 0), (0, -g.shape[-1] % 8 + GAP))) for g in groups]


def sum_of(arrays: list[Array]) -> Array:
    """The sum of one array or more."""
    return sum(arrays[1:], start=arrays[0])


def shared_memory(layout: Line) -> int:
    """Bytes that a block of the mirrored backward kernel takes at 64 channels: the most of all."""
    features = SLOTS * layout.segment * (CHANNELS + GAP)
    return 4 * (features + SLOTS * slot_rows(layout.patch) * layout.segment + TILE * CHANNELS) + 1024


def slot_rows(patch: int) -> int:
    """Rows of weights in a slot: rows are multiples of 32 bytes long, and copies begin at multiples of 128."""
    return round_up(patch, 4)


# Kernels


def products(
    f1: Float[Array, "n m g"], f2: Float[Array, "n m g"], layout: Line, interpret: Any
) -> Float[Array, "n p2 l"]:
    """Scores of one group of channels."""
    pairs, _, channels = f1.shape
    patch = layout.patch
    out = jax.ShapeDtypeStruct((pairs, patch**2, layout.length), jnp.float32)
    run = block_kernel(
        partial(products_block, layout=layout),
        name="vidrec_volume_forward",
        blocks=pairs * layout.tiles,
        cost=cost_of_offsets(out.size, channels, (f1, f2, out)),
        out_type=out,
        scratch_types=[
            plgpu.SMEM((TILE, channels), jnp.float32),
            plgpu.SMEM((SLOTS, layout.segment, channels), jnp.float32),
            plgpu.SMEM((SLOTS, patch, TILE), jnp.float32),
            plgpu.Barrier(),
            plgpu.Barrier(num_barriers=SLOTS),
        ],
        interpret=interpret,
    )
    return run(f1, f2)


def products_block(
    f1: Ref, f2: Ref, out: Ref, own: Ref, around: Ref, scores: Ref, own_ready: Ref, ready: Ref, *, layout: Line
) -> None:
    """The scores of one tile."""
    patch, channels = layout.patch, own.shape[1] - GAP
    pair, first = tile_place(layout)
    plgpu.copy_gmem_to_smem(f1.at[pair, pl.ds(first + layout.margin, TILE), :], own, own_ready)

    def start(row: Any) -> None:
        """Copies a row of keys into its slot."""
        copy_segment(f2.at[pair], around, ready, row, first, layout)

    start_rows(start, patch)
    plgpu.barrier_wait(own_ready)
    queries = load_tile(own, 0, channels)

    def offset_row(row: Any, carry: None) -> None:
        """The scores of one row of offsets."""
        slot = lax.rem(row, SLOTS)
        plgpu.barrier_wait(ready.at[slot])
        plgpu.wait_smem_to_gmem(SLOTS - 1, wait_read_only=True)

        def offset(column: Any, carry: None) -> None:
            """The scores of one offset."""
            score = jnp.sum(queries * load_tile(around.at[slot], column, channels), axis=1)
            scores[slot, column] = score

        lax.fori_loop(0, patch, offset, None)
        plgpu.commit_smem()
        target = out.at[pair, pl.ds(row * patch, patch), pl.ds(pl.multiple_of(first, TILE), TILE)]
        plgpu.copy_smem_to_gmem(scores.at[slot], target)
        pl.when(row + SLOTS < patch)(lambda: start(row + SLOTS))

    lax.fori_loop(0, patch, offset_row, None)
    plgpu.wait_smem_to_gmem(0)


def weighted(
    features: Float[Array, "n m g"], weights: Float[Array, "n p2 m"], layout: Line, mirrored: bool, interpret: Any
) -> Float[Array, "n l g"]:
    """Sums over each window of one group of channels, times weights.

    The weight of a position for an offset is the window's own, or, `mirrored`, the one that the position there has for
    the opposite offset: where the gradient of the position's score goes.
    """
    pairs, _, channels = features.shape
    patch = layout.patch
    out = jax.ShapeDtypeStruct((pairs, layout.length, channels - GAP), jnp.float32)
    run = block_kernel(
        partial(weighted_block, layout=layout, mirrored=mirrored),
        name="vidrec_volume_backward",
        blocks=pairs * layout.tiles,
        cost=cost_of_offsets(pairs * patch**2 * layout.length, channels, (features, weights, out)),
        out_type=out,
        scratch_types=[
            plgpu.SMEM((SLOTS, layout.segment, channels), jnp.float32),
            plgpu.SMEM((SLOTS, slot_rows(patch), layout.segment if mirrored else TILE), jnp.float32),
            plgpu.SMEM((TILE, channels - GAP), jnp.float32),
            plgpu.Barrier(num_arrivals=2, num_barriers=SLOTS),
        ],
        interpret=interpret,
    )
    return run(features, weights)


def weighted_block(
    features: Ref,
    weights: Ref,
    out: Ref,
    around: Ref,
    factors: Ref,
    result: Ref,
    ready: Ref,
    *,
    layout: Line,
    mirrored: bool,
) -> None:
    """The sums of one tile."""
    patch, channels = layout.patch, result.shape[1]
    pair, first = tile_place(layout)

    def start(row: Any) -> None:
        """Copies a row of features, and the weights that go with it, into its slot."""
        copy_segment(features.at[pair], around, ready, row, first, layout)
        slot = lax.rem(jnp.int32(row), SLOTS)
        offsets = patch - 1 - row if mirrored else row
        begin = segment_start(row, first, layout) if mirrored else first + layout.margin
        target = factors.at[slot, pl.ds(0, patch)]
        source = weights.at[pair, pl.ds(offsets * patch, patch), pl.ds(begin, factors.shape[2])]
        plgpu.copy_gmem_to_smem(source, target, ready.at[slot])

    start_rows(start, patch)

    def offset_row(row: Any, total: Array) -> Array:
        """Adds one row of offsets."""
        slot = lax.rem(row, SLOTS)
        plgpu.barrier_wait(ready.at[slot])

        def offset(column: Any, total: Array) -> Array:
            """Adds one offset."""
            place = factors.at[slot, patch - 1 - column, pl.ds(column, TILE)] if mirrored else factors.at[slot, column]
            factor = plgpu.load(place, layout=QUERIES, optimized=False)
            return total + spread(factor, channels) * load_tile(around.at[slot], column, channels)

        total = lax.fori_loop(0, patch, offset, total)
        pl.when(row + SLOTS < patch)(lambda: start(row + SLOTS))
        return total

    total = lax.fori_loop(0, patch, offset_row, filled(0, TILE, channels))
    result[...] = total
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(result, out.at[pair, pl.ds(pl.multiple_of(first, TILE), TILE), :])
    plgpu.wait_smem_to_gmem(0)


def cost_of_offsets(count: int, channels: int, arrays: Any) -> pl.CostEstimate:
    """Of `count` pairs of positions."""
    traffic = sum(array.size * array.dtype.itemsize for array in arrays)
    return pl.CostEstimate(flops=2 * count * (channels - GAP), transcendentals=0, bytes_accessed=traffic)


# In a kernel


def tile_place(layout: Line) -> tuple[Any, Any]:
    """This block's pair of maps and the first position of its tile."""
    block = lax.axis_index("block")
    return lax.div(block, layout.tiles), lax.rem(block, layout.tiles) * TILE


def segment_start(row: Any, first: Any, layout: Line) -> Any:
    """The place, on a line with margins, of the first position that a row of offsets takes from a tile."""
    reach = layout.patch // 2
    return first + layout.margin + (row - reach) * layout.pitch - reach


def copy_segment(features: Ref, around: Ref, ready: Ref, row: Any, first: Any, layout: Line) -> None:
    """Starts the copy of the segment of a row of offsets."""
    slot = lax.rem(jnp.int32(row), SLOTS)
    source = features.at[pl.ds(segment_start(row, first, layout), layout.segment), :]
    plgpu.copy_gmem_to_smem(source, around.at[slot], ready.at[slot])


def start_rows(start: Any, patch: int) -> None:
    """Starts the copies of the first rows of offsets."""
    for row in range(min(SLOTS, patch)):
        start(row)


def load_tile(memory: Ref, first: Any, channels: int) -> Float[Array, "64 channels"]:
    """64 positions from `first`."""
    return plgpu.load(memory.at[pl.ds(first, TILE), pl.ds(0, channels)], layout=SCORES, optimized=False)
