"""What the TPU kernels share: maps staged in VMEM, products of a tile of queries with its keys, windows as masks.

Keys lie on sublanes and queries on lanes, so that sums over keys are sums of registers and whatever belongs to a query
is one row of 128 lanes. The staged keys have rows of zeros above and below the map and columns of zeros to its right:
positions outside the map score zero like any other, every tile sees its keys at the same distances, and only what lies
further left or right needs a closed form.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from vidrec.ops.correlation.geometry import LANES, Tiles
from vidrec.ops.correlation.shapes import Array, Bool, Float, Int
from vidrec.ops.correlation.tpu_call import Call

Maps = Float[Array, "n h w c"]
Ref = Any  # a pallas reference: memory that a kernel reads and writes by index


def over_tiles(
    call: Call,
    before: Callable[[], None],
    body: Callable[[Array, Array], None],
    after: Callable[[], None] | None = None,
) -> None:
    """Runs body(tile, place) for each of this step's tiles, before() in a pair's first step and after() in its last.

    tile counts from the top of the map, place from the top of the step's blocks.
    """
    step = pl.program_id(1)
    pl.when(step == 0)(before)

    def per_tile(place: Array, _: None) -> None:
        """One tile of this step."""
        body(step * call.per_step + place, place)

    jax.lax.fori_loop(0, call.per_step, per_tile, None)
    if after is not None:
        pl.when(step == pl.num_programs(1) - 1)(after)


def stage_keys(f_ref: Ref, keys_ref: Ref, cut: Tiles, reach: int) -> None:
    """Copies a map [1, H, W, C] to keys_ref [staged * columns, C], with zeros around it."""
    _, height, width, _ = f_ref.shape
    clear(keys_ref, 0, reach * cut.columns)
    clear(keys_ref, (reach + height) * cut.columns, keys_ref.shape[0])
    for y in range(height):
        row = (reach + y) * cut.columns
        keys_ref[row : row + width, :] = f_ref[0, y]
        clear(keys_ref, row + width, row + cut.columns)


def clear(ref: Ref, start: int, stop: int) -> None:
    """Writes zeros to rows of ref [rows, lanes], which may be none."""
    if start < stop:
        ref[start:stop, :] = jnp.zeros((stop - start, ref.shape[1]), ref.dtype)


def stage_queries(f_ref: Ref, queries_ref: Ref, tile: Array, place: Array, cut: Tiles, height: int) -> None:
    """Copies a tile's rows of a block [1, rows, W, C] to queries_ref [LANES, C]; zeros for what is below the map.

    The columns that pad a row stay as they were.
    """
    _, rows, width, _ = f_ref.shape
    for row in range(cut.rows):
        values = f_ref[0, jnp.minimum(place * cut.rows + row, rows - 1)]
        if height % cut.rows:
            values = jnp.where(tile * cut.rows + row < height, values, jnp.zeros_like(values))
        queries_ref[row * cut.columns : row * cut.columns + width, :] = values


def write_queries(
    values: Float[Array, "l c"], out_ref: Ref, tile: Array, place: Array, cut: Tiles, height: int
) -> None:
    """Copies what belongs to a tile's queries to its rows of a block [1, rows, W, C], without what pads them."""
    width = out_ref.shape[2]
    for row in range(cut.rows):
        here = values[row * cut.columns : row * cut.columns + width].astype(out_ref.dtype)

        def write(y: Array = place * cut.rows + row, here: Array = here) -> None:
            """Writes one row."""
            out_ref[0, y] = here

        if height % cut.rows:
            pl.when(tile * cut.rows + row < height)(write)
        else:
            write()


def write_keys(values_ref: Ref, out_ref: Ref, cut: Tiles, reach: int) -> None:
    """Copies what belongs to staged keys to a map [1, H, W, C]: the inverse of `stage_keys`."""
    _, height, width, _ = out_ref.shape
    for y in range(height):
        row = (reach + y) * cut.columns
        out_ref[0, y] = values_ref[row : row + width, :].astype(out_ref.dtype)


def window(tile: Array, cut: Tiles) -> Any:
    """The slice of staged keys that a tile sees."""
    return pl.ds(pl.multiple_of(tile * LANES, LANES), cut.keys * cut.columns)


def of_row(row: int, cut: Tiles) -> Any:
    """The slice of a tile's keys or scores that one row of keys has."""
    return pl.ds(row * cut.columns, cut.columns)


def product(a: Array, b: Array, contract: tuple[int, int]) -> Float[Array, "a b"]:
    """The matrix product over one dimension of each, in float32; float32 factors take the passes they need."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision=precision, preferred_element_type=jnp.float32)


def scores_of(queries_ref: Ref, keys_ref: Ref, tile: Array, cut: Tiles) -> Float[Array, "k l"]:
    """The products of a tile's queries with all keys it sees."""
    return product(keys_ref[window(tile, cut), :], queries_ref[...], (1, 1))


def add_gradients(
    by_scores: Float[Array, "k l"],
    queries: Float[Array, "l c"],
    keys_ref: Ref,
    by_keys_ref: Ref,
    tile: Array,
    cut: Tiles,
) -> Float[Array, "l c"]:
    """Returns the gradient of a tile's queries, from that of its scores; adds that of its keys to by_keys_ref."""
    seen = window(tile, cut)
    by_keys_ref[seen, :] += product(by_scores, queries, (1, 0))
    return product(keys_ref[seen, :], by_scores, (0, 0)).T  # this way round the smaller factor is turned


def lane_row(cut: Tiles) -> Int[Array, "1 l"]:
    """The row, in its tile, of the query on each lane."""
    return jax.lax.broadcasted_iota(jnp.int32, (1, LANES), 1) // cut.columns


def lane_column(cut: Tiles) -> Int[Array, "1 l"]:
    """The column of the query on each lane."""
    return jax.lax.broadcasted_iota(jnp.int32, (1, LANES), 1) % cut.columns


def key_column(cut: Tiles) -> Int[Array, "columns l"]:
    """The column of the key on each sublane."""
    return jax.lax.broadcasted_iota(jnp.int32, (cut.columns, LANES), 0)


def near(row: int, cut: Tiles, patch: int) -> Bool[Array, "1 l"] | None:
    """Which queries have a row of keys in their windows; None if all have."""
    if cut.rows - 1 <= row < patch:
        return None
    below = row - lane_row(cut)
    return (below >= 0) & (below < patch)
