"""The backward pass of `match` on a GPU: scores are computed again, once for each of the two gradients.

Both kernels make the same tiles of the scores' gradient, [64 queries, 64 keys]. One keeps its queries and sums over
the keys near them; the other keeps its keys and sums over the queries near them, so nothing is added to memory that
another block writes, and results do not depend on the order of blocks.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from vidrec.ops.correlation.geometry import CHANNELS, TILE, Tiling, round_up
from vidrec.ops.correlation.gpu_forward import Sharpness
from vidrec.ops.correlation.gpu_gradient import KNOWN, Columns, by_scores, load_known
from vidrec.ops.correlation.gpu_tiles import (
    Place,
    Ref,
    Stream,
    block_kernel,
    copy_tile,
    cost_of,
    place,
    positions_of,
    product,
    query_position,
    slots_for,
    strips_of,
    tile_bytes,
    tile_memory,
)
from vidrec.ops.correlation.shapes import Array, Float

BARRIERS = 1024  # bytes, and whatever else a block needs a little shared memory for


def gradient(
    f1: Float[Array, "n s l c"],
    f2: Float[Array, "n s l c"],
    known: Float[Array, "n s 7 l"],
    tiling: Tiling,
    sharpness: Sharpness,
    interpret: Any,
    keep_queries: bool,
) -> Float[Array, "n s l c"]:
    """The gradient of f1 (`keep_queries`) or of f2; a block makes 64 channels of it for one tile."""
    pairs, strips, _, channels = f1.shape
    blocks, tiles = channels // CHANNELS, pairs * strips * tiling.tiles
    slots = slots_for(channels, tiling, passes=1)
    lists = 1 if keep_queries else slots  # of what is known: with the tile that stays or with those that stream
    body = by_f1_block if keep_queries else by_f2_block
    run = block_kernel(
        partial(body, tiling=tiling, sharpness=sharpness),
        name=f"vidrec_match_backward_by_{'f1' if keep_queries else 'f2'}",
        blocks=tiles * blocks,
        cost=cost_of(
            pairs * tiling.products * blocks,
            1,
            13 + 2 * CHANNELS,
            1 if keep_queries else 2,
            channels,
            (f1, f2, known, f1),
        ),
        out_type=jax.ShapeDtypeStruct(f1.shape, f1.dtype),
        scratch_types=[
            tile_memory(blocks),
            tile_memory(blocks, slots),
            tile_memory(1),
            plgpu.SMEM((lists, KNOWN, TILE), jnp.float32),
            plgpu.Barrier(num_arrivals=blocks + keep_queries),
            plgpu.Barrier(num_arrivals=blocks + (not keep_queries), num_barriers=slots),
        ],
        interpret=interpret,
    )
    return run(f1, f2, known)


def shared_memory(channels: int, tiling: Tiling) -> int:
    """Bytes that a block of the kernel by f2 takes: with many channels the most of all."""
    channels = round_up(channels, CHANNELS)
    slots = slots_for(channels, tiling, passes=1)
    return (1 + slots) * tile_bytes(channels) + tile_bytes(CHANNELS) + slots * KNOWN * TILE * 4 + BARRIERS


def by_f1_block(
    f1: Ref,
    f2: Ref,
    known: Ref,
    out: Ref,
    queries: Ref,
    keys: Ref,
    staged: Ref,
    facts: Ref,
    queries_ready: Ref,
    keys_ready: Ref,
    *,
    tiling: Tiling,
    sharpness: Sharpness,
) -> None:
    """64 channels of the gradient of one tile of queries."""
    here, channel_block = place_of_channels(tiling, queries.shape[0])
    first_row = here.tile * tiling.rows
    copy_tile(f1, here, first_row, tiling, queries, queries_ready)
    copy_known(known, here, first_row, tiling, facts.at[0], queries_ready)

    def start(near: Any) -> None:
        """Copies a tile of keys into its slot."""
        at = Place(here.pair, near.strip, None)
        copy_tile(f2, at, near.row, tiling, keys.at[near.slot], keys_ready.at[near.slot])

    stream = Stream(start, keys_ready, here, tiling, keys.shape[0], passes=1)
    plgpu.barrier_wait(queries_ready)
    query = load_known(facts.at[0])
    y, x = query_position(first_row, here.strip, tiling)

    def sums(total: Ref) -> Array:
        """Adds up what the keys give to each query's gradient."""

        def strip(number: Any, carry: None) -> None:
            """All tiles of one strip of keys."""
            columns = Columns.of(query, x, tiling.first_strip(here.strip) + number, tiling, sharpness)

            def tile(near: Any, carry: None) -> None:
                """Adds one tile of keys."""
                scores = product(queries, keys.at[near.slot])
                stage(by_scores(scores, query, y, columns, near.row, tiling, sharpness), staged)
                plgpu.wgmma(total, staged.at[0], keys.at[near.slot, channel_block])
                plgpu.wgmma_wait(0)

            stream.over(0, number, tile, None)

        strips_of(tiling, strip, None)
        return total[...]

    total = pl.run_scoped(sums, plgpu.WGMMAAccumulatorRef((TILE, CHANNELS), jnp.float32))
    write(total, staged, out, here, channel_block)


def by_f2_block(
    f1: Ref,
    f2: Ref,
    known: Ref,
    out: Ref,
    keys: Ref,
    queries: Ref,
    staged: Ref,
    facts: Ref,
    keys_ready: Ref,
    queries_ready: Ref,
    *,
    tiling: Tiling,
    sharpness: Sharpness,
) -> None:
    """64 channels of the gradient of one tile of keys."""
    here, channel_block = place_of_channels(tiling, keys.shape[0])
    first_row = here.tile * tiling.rows
    copy_tile(f2, here, first_row, tiling, keys, keys_ready)

    def start(near: Any) -> None:
        """Copies a tile of queries, with what is known of them, into its slot."""
        at = Place(here.pair, near.strip, None)
        copy_tile(f1, at, near.row, tiling, queries.at[near.slot], queries_ready.at[near.slot])
        copy_known(known, at, near.row, tiling, facts.at[near.slot], queries_ready.at[near.slot])

    stream = Stream(start, queries_ready, here, tiling, queries.shape[0], passes=1)
    plgpu.barrier_wait(keys_ready)

    def sums(total: Ref) -> Array:
        """Adds up what the queries give to each key's gradient."""

        def tile(near: Any, carry: None) -> None:
            """Adds one tile of queries."""
            query = load_known(facts.at[near.slot])
            y, x = query_position(near.row, near.strip, tiling)
            columns = Columns.of(query, x, here.strip, tiling, sharpness)
            scores = product(queries.at[near.slot], keys)
            stage(by_scores(scores, query, y, columns, first_row, tiling, sharpness), staged)
            plgpu.wgmma(total, staged.at[0].transpose((1, 0)), queries.at[near.slot, channel_block])
            plgpu.wgmma_wait(0)

        strips_of(tiling, lambda number, carry: stream.over(0, number, tile, carry), None)
        return total[...]

    total = pl.run_scoped(sums, plgpu.WGMMAAccumulatorRef((TILE, CHANNELS), jnp.float32))
    write(total, staged, out, here, channel_block)


# Steps of both kernels


def place_of_channels(tiling: Tiling, blocks: int) -> tuple[Place, Any]:
    """This block's tile, and which 64 channels of its gradient it makes."""
    block = lax.axis_index("block")
    return place(tiling, lax.div(block, blocks)), lax.rem(block, blocks)


def copy_known(known: Ref, at: Place, row: Any, tiling: Tiling, memory: Ref, ready: Ref) -> None:
    """Starts the copy of what is known of the 64 queries from `row` of a strip."""
    first = pl.multiple_of(row * tiling.columns, 8)
    plgpu.copy_gmem_to_smem(known.at[at.pair, at.strip, :, pl.ds(first, TILE)], memory, ready)


def stage(by_scores: Float[Array, "64 64"], staged: Ref) -> None:
    """Writes a tile of the scores' gradient to shared memory, where the tensor cores find it."""
    staged[0] = by_scores
    plgpu.commit_smem()


def write(total: Float[Array, "64 64"], staged: Ref, out: Ref, here: Place, channel_block: Any) -> None:
    """Writes 64 channels of the gradient of a tile."""
    staged[0] = total.astype(jnp.bfloat16)
    plgpu.commit_smem()
    channels = pl.ds(pl.multiple_of(channel_block * CHANNELS, CHANNELS), CHANNELS)
    plgpu.copy_smem_to_gmem(staged.at[0], out.at[here.pair, here.strip, positions_of(here.tile), channels])
    plgpu.wait_smem_to_gmem(0)
