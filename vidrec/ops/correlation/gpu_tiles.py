"""What the GPU kernels share: maps as strips of columns, tiles of 64 positions by channel, and what a window spans.

A kernel's block is one warpgroup (128 threads). It keeps one tile of a map and streams the tiles near it through
shared memory; scores are products of two tiles, [64 queries, 64 keys], in registers. Whatever belongs to a query is a
vector along their rows, whatever depends on the key's column alone is computed once per strip.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from vidrec.ops.correlation.geometry import CHANNELS, TILE, Tiling
from vidrec.ops.correlation.shapes import Array, Float

Ref = Any  # a pallas reference: memory that a kernel reads and writes by index

SCORES = plgpu.Layout.WGMMA  # of [64, columns] over the threads of a warpgroup
QUERIES = SCORES.reduce(1)  # of [64], one value per row
RESIDENT = 65536  # bytes of shared memory for streamed tiles, so that three blocks share a multiprocessor
COUNTED = "cost_estimate" in inspect.signature(plgpu.kernel).parameters  # older versions of jax take no estimate
# The hardware's exp2 rather than a function of many steps. Sums over keys stay within a warp and need no scratch.
PARAMETERS = plgpu.CompilerParams(approx_math=True, reduction_scratch_bytes=0)


def to_strips(maps: Float[Array, "n h w c"], tiling: Tiling) -> Float[Array, "n s l c"]:
    """Maps as strips, padded with zeros to whole tiles."""
    n, height, width, channels = maps.shape
    rows, columns = tiling.tiles * tiling.rows, tiling.columns
    below, right = rows - height, tiling.strips * columns - width
    padded = jnp.pad(maps, ((0, 0), (0, below), (0, right), (0, 0)))
    strips = padded.reshape(n, rows, tiling.strips, columns, channels).swapaxes(1, 2)
    return strips.reshape(n, tiling.strips, tiling.length, channels)


def from_strips(strips: Float[Array, "n s l c"], height: int, width: int, tiling: Tiling) -> Float[Array, "n h w c"]:
    """The inverse of `to_strips`."""
    n, channels = strips.shape[0], strips.shape[-1]
    rows = strips.reshape(n, tiling.strips, -1, tiling.columns, channels).swapaxes(1, 2)
    return rows.reshape(n, -1, tiling.strips * tiling.columns, channels)[:, :height, :width]


def pad_channels(features: Float[Array, "n s l c"]) -> Float[Array, "n s l c2"]:
    """Features with zeros up to a multiple of 64 channels, which change no score."""
    return jnp.pad(features, ((0, 0), (0, 0), (0, 0), (0, -features.shape[-1] % CHANNELS)))


# In a kernel


class Place(NamedTuple):
    """Where a block's tile is: index of the pair of maps, of the strip and of the tile in the strip."""

    pair: Any
    strip: Any
    tile: Any


def place(tiling: Tiling, block: Any) -> Place:
    """Of the tile with this number, counted down strips, across the map and over pairs."""
    strip, tile = lax.div(block, tiling.tiles), lax.rem(block, tiling.tiles)
    return Place(lax.div(strip, tiling.strips), lax.rem(strip, tiling.strips), tile)


def tile_memory(blocks: int, *leading: int) -> Any:
    """Shared memory for the features of tiles, `[..., blocks, 64, 64]`, laid out for the tensor cores."""
    tiling = plgpu.TilingTransform((8, CHANNELS))  # pyright: ignore[reportAbstractUsage]
    transforms = (tiling, plgpu.SwizzleTransform(128))  # pyright: ignore[reportAbstractUsage]
    return plgpu.SMEM((*leading, blocks, TILE, CHANNELS), jnp.bfloat16, transforms=transforms)


def copy_tile(features: Ref, at: Place, row: Any, tiling: Tiling, memory: Ref, ready: Ref) -> None:
    """Starts the copy of the 64 positions from `row` of a strip; `ready` counts one arrival per 64 channels."""
    first = pl.multiple_of(row * tiling.columns, 8)
    for block in range(memory.shape[0]):
        channels = pl.ds(block * CHANNELS, CHANNELS)
        plgpu.copy_gmem_to_smem(features.at[at.pair, at.strip, pl.ds(first, TILE), channels], memory.at[block], ready)


class Near(NamedTuple):
    """One of the tiles near a block's.

    Attributes:
      slot: where its features are in shared memory.
      strip: its strip.
      row: the map's row of its first position.
    """

    slot: Any
    strip: Any
    row: Any


class Stream:
    """The tiles near a block's, strip by strip and row by row, each in one of some slots of shared memory.

    Where all of them fit they are read once, however often the kernel goes through them.
    """

    def __init__(
        self, start: Callable[[Near], None], ready: Ref, here: Place, tiling: Tiling, slots: int, passes: int
    ) -> None:
        """`start` begins the copy of a tile into its slot, of which `ready` has one barrier each."""
        self.start, self.ready, self.here, self.tiling, self.slots = start, ready, here, tiling, slots
        self.first_row, self.chunks = tiling.near_rows(here.tile)
        self.stays = slots >= tiling.near_strips * tiling.near_tiles
        self.steps = tiling.near_strips * self.chunks
        self.total = self.steps if self.stays else passes * self.steps
        for step in range(slots):
            self.start_if_any(step)

    def start_if_any(self, step: Any) -> None:
        """Begins the copy of the tile that a step reads, if there is such a step."""

        def start() -> None:
            """Sends for the tile of a step."""
            again = step >= self.steps  # of a second pass
            in_pass = jnp.where(again, step - self.steps, step)
            if self.tiling.near_strips == 1:  # saves a division
                self.start(self.near(step, 0, in_pass))
            else:
                self.start(self.near(step, lax.div(in_pass, self.chunks), lax.rem(in_pass, self.chunks)))

        pl.when(step < self.total)(start)

    def near(self, step: Any, strip: Any, chunk: Any) -> Near:
        """The tile that a step reads: which strip of those near, and which of its tiles."""
        row = self.first_row + chunk * self.tiling.rows
        return Near(lax.rem(jnp.int32(step), self.slots), self.tiling.first_strip(self.here.strip) + strip, row)

    def over(self, number: int, strip: Any, body: Callable[[Near, Any], Any], carry: Any) -> Any:
        """Runs (tile, carry) -> carry for the tiles of the strip in pass `number`."""

        def step_body(chunk: Any, carry: Any) -> Any:
            """Waits for one tile, uses it, and sends for a later one."""
            step = strip * self.chunks + chunk
            if not self.stays:
                step += number * self.steps
            near = self.near(step, strip, chunk)
            if number == 0 or not self.stays:
                plgpu.barrier_wait(self.ready.at[near.slot])
            carry = body(near, carry)
            if not self.stays:
                self.start_if_any(step + self.slots)
            return carry

        return lax.fori_loop(0, self.chunks, step_body, carry)


def positions_of(tile: Any) -> Any:
    """The slice of a strip's positions that a tile has."""
    return pl.ds(pl.multiple_of(tile * TILE, TILE), TILE)


def slots_for(channels: int, tiling: Tiling, passes: int) -> int:
    """How many near tiles to keep in shared memory: all of them for two passes if that is little; two at least."""
    budget = RESIDENT if passes > 1 else RESIDENT // 2
    return min(tiling.near_strips * tiling.near_tiles, max(2, budget // tile_bytes(channels)))


def tile_bytes(channels: int) -> int:
    """Of the features of a tile."""
    return 2 * TILE * channels


def product(queries: Ref, keys: Ref) -> Float[Array, "64 64"]:
    """Scores of a tile of queries with a tile of keys, in float32; both are `[blocks, 64, 64]` in shared memory."""

    def multiply(scores: Ref) -> Array:
        """The product, added up channel block by channel block."""
        for block in range(queries.shape[0]):
            plgpu.wgmma(scores, queries.at[block], keys.at[block].transpose((1, 0)))
        return scores[...]

    return pl.run_scoped(multiply, plgpu.WGMMAAccumulatorRef((TILE, TILE), jnp.float32))


def by_row(scores: Float[Array, "64 64"], tiling: Tiling) -> list[Float[Array, "64 columns"]]:
    """A tile of scores cut by the keys' rows."""
    columns = tiling.columns
    return [lax.slice(scores, (0, r * columns), (TILE, (r + 1) * columns)) for r in range(tiling.rows)]


def spread(vector: Float[Array, "64"], columns: int) -> Float[Array, "64 columns"]:
    """What belongs to queries, to be used with scores."""
    return lax.broadcast_in_dim(vector, (TILE, columns), (0,))


def query_position(row: Any, strip: Any, tiling: Tiling) -> tuple[Float[Array, "64"], Float[Array, "64"]]:
    """The map's row and column of each query of a tile that begins in `row`."""
    index = plgpu.broadcasted_iota(jnp.int32, (TILE,), 0, layout=QUERIES)
    y = lax.div(index, tiling.columns) + row
    x = lax.rem(index, tiling.columns) + strip * tiling.columns
    return y.astype(jnp.float32), x.astype(jnp.float32)


def key_column(strip: Any, tiling: Tiling) -> Float[Array, "64 columns"]:
    """The map's column of each key of a row of scores."""
    column = plgpu.broadcasted_iota(jnp.int32, (TILE, tiling.columns), 1, layout=SCORES)
    return (column + strip * tiling.columns).astype(jnp.float32)


def filled(value: float, *shape: int) -> Array:
    """An array of one value, as scores or as a vector of queries."""
    return plgpu.layout_cast(jnp.full(shape, value, jnp.float32), SCORES if len(shape) == 2 else QUERIES)


def strips_of(tiling: Tiling, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """Runs (strip, carry) -> carry for the strips near the block's, from the left."""
    if tiling.near_strips == 1:
        return body(0, carry)
    return lax.fori_loop(0, tiling.near_strips, body, carry)


def block_kernel(body: Callable, *, name: str, blocks: int, cost: pl.CostEstimate, **settings: Any) -> Callable:
    """A kernel of `blocks` warpgroups."""
    if COUNTED:
        settings["cost_estimate"] = cost
    return plgpu.kernel(
        body, grid=(blocks,), grid_names=("block",), compiler_params=PARAMETERS, kernel_name=name, **settings
    )


def cost_of(
    tiles: int, products: int, operations: int, exponentials: int, channels: int, arrays: Any
) -> pl.CostEstimate:
    """Of so many tiles of scores, each worth some products over the channels and some work per score."""
    scores = tiles * TILE**2
    return pl.CostEstimate(
        flops=scores * (2 * products * channels + operations),
        transcendentals=scores * exponentials,
        bytes_accessed=sum(array.size * array.dtype.itemsize for array in arrays),
    )
