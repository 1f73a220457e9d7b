"""Cutting a map into blocks of query rows with the keys near them: what `xla` computes scores of."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidrec.ops.correlation.select import surroundings
from vidrec.ops.correlation.shapes import Array, Bool, Float, Int

Maps = Float[Array, "n h w c"]
Rows = Any  # per-query arrays of one block, [N, rows, W, ...], as a pytree

DENSE = 1024  # a map of so few positions is one block
DENSE_ON_CPU = 256  # ... where scores should stay in the processor's cache
ROWS = 4  # of a block on larger maps, or less


class Block(NamedTuple):
    """One block of queries and its keys. k counts rows of keys, v their columns; y and w are the query's.

    Attributes:
      row: the map's row of the first query.
      keys_row: the map's row of the first key.
      dy: vertical offset from a query to a key.
      dx: horizontal offset.
      inside: whether a key is in the query's window.
    """

    row: Any
    keys_row: Any
    dy: Int[Array, "k y"]
    dx: Int[Array, "v w"]
    inside: Bool[Array, "k v y w"]


def rows_per_block(height: int, width: int) -> int:
    """All rows of a small map, otherwise a number that divides them."""
    if height * width <= (DENSE_ON_CPU if surroundings()[0] == "cpu" else DENSE):
        return height
    return max(rows for rows in range(1, ROWS + 1) if height % rows == 0)


def make_block(row: Any, rows: int, height: int, width: int, patch: int) -> Block:
    """The geometry of the block whose first query stands in `row`, which may be traced."""
    reach = patch // 2
    keys = min(rows + 2 * reach, height)
    keys_row = jnp.clip(row - reach, 0, height - keys)
    dy = keys_row + np.arange(keys)[:, None] - (row + np.arange(rows))
    dx = np.arange(width)[:, None] - np.arange(width)
    inside = (jnp.abs(dy) <= reach)[:, None, :, None] & (np.abs(dx) <= reach)[None, :, None, :]
    return Block(row, keys_row, dy, jnp.asarray(dx), inside)


def over_blocks(
    step: Callable[[Block, Any], tuple[Any, Rows]], carry: Any, size: Sequence[int], patch: int
) -> tuple[Any, Rows]:
    """Runs (block, carry) -> (carry, rows) from top to bottom; returns the last carry and the maps [N, H, W, ...]."""
    height, width = size
    rows = rows_per_block(height, width)
    if rows == height:
        return step(make_block(0, rows, height, width, patch), carry)

    def body(carry: Any, row: Any) -> tuple[Any, Rows]:
        return step(make_block(row, rows, height, width, patch), carry)

    carry, blocks = jax.lax.scan(body, carry, np.arange(0, height, rows))
    return carry, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], height, *x.shape[3:]), blocks)


def take_rows(maps: Maps, first: Any, count: int) -> Maps:
    """Rows first, ..., first + count - 1 of maps."""
    return jax.lax.dynamic_slice_in_dim(maps, first, count, axis=1)


def scores_of(block: Block, f1: Maps, f2: Maps) -> Float[Array, "n k v y w"]:
    """The dot product of every query of the block with every one of its keys, in float32."""
    queries = take_rows(f1, block.row, block.dy.shape[1])
    keys = take_rows(f2, block.keys_row, block.dy.shape[0])
    return product("nkvc,nywc->nkvyw", keys, queries)


def product(equation: str, a: Array, b: Array) -> Float[Array, "..."]:
    """A matrix product in float32, in as many passes as that takes on the device."""
    if a.dtype != b.dtype:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.einsum(equation, a, b, precision="highest", preferred_element_type=jnp.float32)


def add_gradients(
    block: Block, by_scores: Float[Array, "n k v y w"], f1: Maps, f2: Maps, by_f2: Maps
) -> tuple[Maps, Maps]:
    """Returns the sum of the gradients of f2 so far with this block's, and the gradient of its rows of f1."""
    queries = take_rows(f1, block.row, block.dy.shape[1])
    keys = take_rows(f2, block.keys_row, block.dy.shape[0])
    of_keys = product("nkvyw,nywc->nkvc", by_scores, queries)
    old = take_rows(by_f2, block.keys_row, block.dy.shape[0])
    by_f2 = jax.lax.dynamic_update_slice_in_dim(by_f2, old + of_keys, block.keys_row, axis=1)
    return by_f2, product("nkvyw,nkvc->nywc", by_scores, keys)


def by_row(block: Block) -> Int[Array, "k 1 y 1"]:
    """The vertical offsets, to be used with scores."""
    return block.dy[:, None, :, None]


def by_column(block: Block) -> Int[Array, "v 1 w"]:
    """The horizontal offsets, to be used with scores."""
    return block.dx[:, None, :]


def spread(queries: Float[Array, "n y w"]) -> Float[Array, "n 1 1 y w"]:
    """What belongs to queries, to be used with scores."""
    return queries[:, None, None]


def window_index(block: Block, patch: int) -> Int[Array, "k v y w"]:
    """The position of a key in the query's window, row by row, where it is inside."""
    return (by_row(block) + patch // 2) * patch + by_column(block) + patch // 2
