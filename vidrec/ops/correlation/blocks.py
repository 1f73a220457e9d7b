"""Cutting a map into blocks of query rows with the keys near them: what `xla` computes scores of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidrec.ops.correlation.select import surroundings
from vidrec.ops.correlation.shapes import Array, Bool, Float, Int

Maps = Float[Array, "n h w c"]
Queries = Any  # arrays [N, queries, ...] of one block, as a pytree

DENSE = 1024  # a map of so few positions is one block
DENSE_ON_CPU = 128  # ... where scores should stay in the processor's cache
ROWS = 4  # of a block on larger maps, or less


class Block(NamedTuple):
    """One block of queries and its keys. k counts rows of keys, v their columns; q the queries, row by row.

    Attributes:
      row: the map's row of the first query, which may be traced.
      rows: of queries.
      keys_row: the map's row of the first key.
      dy: vertical offset from a query to a key.
      dx: horizontal offset.
      inside: whether a key is in the query's window.
    """

    row: Any
    rows: int
    keys_row: Any
    dy: Int[Array, "k q"]
    dx: Int[Array, "v q"]
    inside: Bool[Array, "k v q"]


def rows_per_block(maps: Maps) -> int:
    """All rows of small maps, otherwise a number that divides them."""
    height, width = maps.shape[1:3]
    if height * width <= (DENSE_ON_CPU if surroundings(maps)[0] == "cpu" else DENSE):
        return height
    return max(rows for rows in range(1, ROWS + 1) if height % rows == 0)


def make_block(row: Any, rows: int, height: int, width: int, patch: int) -> Block:
    """The geometry of the block whose first query stands in `row`, which may be traced."""
    reach = patch // 2
    keys = min(rows + 2 * reach, height)
    keys_row = jnp.clip(row - reach, 0, height - keys)
    y, x = np.divmod(np.arange(rows * width), width)
    dy = keys_row + np.arange(keys)[:, None] - (row + y)
    dx = np.arange(width)[:, None] - x
    inside = (jnp.abs(dy) <= reach)[:, None] & (np.abs(dx) <= reach)
    return Block(row, rows, keys_row, dy, jnp.asarray(dx), inside)


def over_blocks(step: Callable[[Block, Any], tuple[Any, Queries]], carry: Any, f1: Maps, patch: int) -> tuple[Any, Any]:
    """Runs (block, carry) -> (carry, queries) over f1 from top to bottom; the last carry, and maps [N, H, W, ...]."""
    height, width = f1.shape[1:3]
    rows = rows_per_block(f1)
    if rows == height:
        carry, whole = step(make_block(0, rows, height, width, patch), carry)
        return carry, jax.tree.map(lambda x: x.reshape(x.shape[0], height, width, *x.shape[2:]), whole)

    def body(carry: Any, row: Any) -> tuple[Any, Queries]:
        """One block of rows."""
        return step(make_block(row, rows, height, width, patch), carry)

    carry, blocks = jax.lax.scan(body, carry, np.arange(0, height, rows))
    return carry, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], height, width, *x.shape[3:]), blocks)


def take_queries(maps: Float[Array, "n h w ..."], block: Block) -> Float[Array, "n q ..."]:
    """What belongs to the block's queries."""
    rows = jax.lax.dynamic_slice_in_dim(maps, block.row, block.rows, axis=1)
    return rows.reshape(rows.shape[0], -1, *rows.shape[3:])


def take_keys(maps: Maps, block: Block) -> Float[Array, "n k v c"]:
    """What belongs to the block's keys."""
    return jax.lax.dynamic_slice_in_dim(maps, block.keys_row, len(block.dy), axis=1)


def scores_of(block: Block, f1: Maps, f2: Maps) -> Float[Array, "n k v q"]:
    """The dot product of every query of the block with every one of its keys, in float32."""
    return product("nkvc,nqc->nkvq", take_keys(f2, block), take_queries(f1, block))


def product(equation: str, a: Array, b: Array) -> Float[Array, "..."]:
    """A matrix product in float32, in as many passes as that takes on the device."""
    if a.dtype != b.dtype:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.einsum(equation, a, b, precision="highest", preferred_element_type=jnp.float32)


def add_gradients(
    block: Block, by_scores: Float[Array, "n k v q"], f1: Maps, f2: Maps, by_f2: Maps
) -> tuple[Maps, Float[Array, "n q c"]]:
    """Returns the sum of the gradients of f2 so far with this block's, and the gradient of its queries."""
    of_keys = take_keys(by_f2, block) + product("nkvq,nqc->nkvc", by_scores, take_queries(f1, block))
    by_f2 = jax.lax.dynamic_update_slice_in_dim(by_f2, of_keys, block.keys_row, axis=1)
    return by_f2, product("nkvq,nkvc->nqc", by_scores, take_keys(f2, block))


def by_row(block: Block) -> Int[Array, "k 1 q"]:
    """The vertical offsets, to be used with scores."""
    return block.dy[:, None]


def by_column(block: Block) -> Int[Array, "v q"]:
    """The horizontal offsets, to be used with scores."""
    return block.dx


def spread(queries: Float[Array, "n q"]) -> Float[Array, "n 1 1 q"]:
    """What belongs to queries, to be used with scores."""
    return queries[:, None, None]


def window_index(block: Block, patch: int) -> Int[Array, "k v q"]:
    """The position of a key in the query's window, row by row, where it is inside."""
    return (by_row(block) + patch // 2) * patch + by_column(block) + patch // 2
