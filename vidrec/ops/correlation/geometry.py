"""What can be said of windows on a map without looking at features: where they end, what lies outside."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vidrec.ops.correlation.shapes import Float, Int

NOWHERE = np.iinfo(np.int32).max  # index of a position that does not exist; larger than any that does


class Outside(NamedTuple):
    """The part of every query's window that lies outside the map, where each score is zero.

    Attributes:
      count: number of positions.
      x: sum of their horizontal offsets, in pixels.
      y: sum of their vertical offsets.
      first: index of the first one (row by row), `NOWHERE` for a window inside the map.
    """

    count: Float[Any, "h w"]
    x: Float[Any, "h w"]
    y: Float[Any, "h w"]
    first: Int[Any, "h w"]


def outside(height: int, width: int, patch: int) -> Outside:
    """Counts and sums, in closed form, the positions outside a map of `height` x `width` for a window of `patch`."""
    rows, sum_y = inside_line(np.arange(height), height, patch)
    columns, sum_x = inside_line(np.arange(width), width, patch)
    return Outside(
        count=(patch**2 - np.outer(rows, columns)).astype(np.float32),
        x=-np.outer(rows, sum_x).astype(np.float32),  # offsets of a whole window sum to zero
        y=-np.outer(sum_y, columns).astype(np.float32),
        first=first_outside(height, width, patch),
    )


def inside_line(place: Any, size: int, patch: int) -> tuple[Any, Any]:
    """For places on a line, which may be traced: how many offsets of -R..R stay on the line, and their sum."""
    xp, reach = numpy_of(place), patch // 2
    low, high = xp.minimum(place, reach), xp.minimum(size - 1 - place, reach)
    return low + high + 1, (high * (high + 1) - low * (low + 1)) * 0.5


def first_outside(height: int, width: int, patch: int) -> Int[np.ndarray, "h w"]:
    """Index (row by row) of the first position of each window that is outside the map."""
    reach = patch // 2
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    after_row_end = np.where(x + reach >= width, width - x + reach, NOWHERE)  # in the window's first row
    below = np.where(y + reach >= height, (height - y + reach) * patch, NOWHERE)
    first = np.minimum(after_row_end, below)
    return np.where((y < reach) | (x < reach), 0, first).astype(np.int32)


def numpy_of(value: Any) -> Any:
    """The module whose functions keep a value what it is: jax.numpy for what is traced, numpy for what is known."""
    return jnp if isinstance(value, jax.Array) else np


def round_up(size: int, multiple: int) -> int:
    """The first multiple that is not less than size."""
    return -(-size // multiple) * multiple


# Tiles on a TPU

LANES = 128  # queries of one tile
SUBLANES = 8  # of one float32 register
PACKED = 16  # sublanes of one bfloat16 register
STEP_BYTES = 1 << 20  # of what a step of the grid reads or writes for its queries, or one tile's


class Tiles(NamedTuple):
    """How a map's queries are cut into tiles of `LANES`, and which keys a tile sees.

    Attributes:
      columns: of a row of queries or keys: the width, padded to a power of two.
      rows: of queries in a tile.
      count: tiles of a map.
      keys: rows of keys a tile sees, its own and the window's reach above and below; the first tile's begin above the
        map.
      staged: rows of keys all tiles see together, those above and below the map included.
    """

    columns: int
    rows: int
    count: int
    keys: int
    staged: int


def tiles(height: int, width: int, patch: int) -> Tiles:
    """Tiles of whole rows for a map of `height` x `width`, `width` at most `LANES`."""
    columns = max(PACKED, 1 << (width - 1).bit_length())
    rows = LANES // columns
    count = -(-height // rows)
    return Tiles(columns, rows, count, rows + patch - 1, rows * count + patch - 1)


def step_sizes(count: int, tile_bytes: int) -> list[int]:
    """How many of `count` tiles a step may have, the most first: a part of them, within `STEP_BYTES` or just one."""
    parts = [size for size in range(count, 0, -1) if count % size == 0]
    return [size for size in parts if size == 1 or size * tile_bytes <= STEP_BYTES]


def vector_memory(shape: Sequence[int], item_bytes: int) -> int:
    """Bytes that an array takes in a TPU's vector memory: its last two dimensions fill whole registers."""
    *outer, sublanes, lanes = shape
    return math.prod(outer) * round_up(sublanes, 4 * SUBLANES // item_bytes) * round_up(lanes, LANES) * item_bytes


# Tiles on a GPU

TILE = 64  # positions: what one warpgroup multiplies at once
CHANNELS = 64  # in one row of swizzled shared memory


class Tiling(NamedTuple):
    """A map cut into strips of columns, each strip into tiles of whole rows; a window takes a range of either.

    In memory a strip is contiguous, row after row, so a tile is 64 consecutive positions and so is every run of
    `rows` rows, wherever it starts. A tile needs the neighbouring strips and some rows above and below.

    Attributes:
      patch: side of the window.
      columns: of a strip.
      rows: of a tile, columns * rows = 64.
      strips: across the map.
      tiles: down a strip.
      near_strips: number of strips that the windows of a tile touch.
      near_tiles: number of tiles' worth of rows that they touch at most.
    """

    patch: int
    columns: int
    rows: int
    strips: int
    tiles: int
    near_strips: int
    near_tiles: int

    @property
    def length(self) -> int:
        """Positions of a strip."""
        return self.tiles * TILE

    def near_rows(self, tile: Any) -> tuple[Any, Any]:
        """The first row near a tile, which may be traced, and for how many tiles' worth of rows the windows go on."""
        xp = numpy_of(tile)
        height, reach = self.tiles * self.rows, self.patch // 2
        first = xp.maximum(tile * self.rows - reach, 0)
        last = xp.minimum((tile + 1) * self.rows + reach, height)
        count = (last - first + self.rows - 1) >> (self.rows.bit_length() - 1)  # rows is a power of two
        return xp.minimum(first, height - count * self.rows), count

    @property
    def products(self) -> int:
        """How many tiles the tiles of a map have near them, all together."""
        return self.strips * self.near_strips * int(self.near_rows(np.arange(self.tiles))[1].sum())

    def first_strip(self, strip: Any) -> Any:
        """The leftmost strip near a strip, which may be traced."""
        return clip(strip - -(-(self.patch // 2) // self.columns), self.strips - self.near_strips)


def clip(index: Any, highest: int) -> Any:
    """The index, at least 0 and at most `highest`; may be traced."""
    xp = numpy_of(index)
    return xp.minimum(xp.maximum(index, 0), highest)


def tiling(height: int, width: int, patch: int) -> Tiling:
    """Strips as narrow as they can be but for 8, 16 or 32 columns: what is computed in vain grows with the tile."""
    columns = next((c for c in (8, 16) if width <= c), 32)
    rows, reach = TILE // columns, patch // 2
    strips, tiles = -(-width // columns), -(-height // rows)
    near_strips = min(strips, 1 + 2 * -(-reach // columns))
    return Tiling(patch, columns, rows, strips, tiles, near_strips, min(tiles, -(-(rows + 2 * reach) // rows)))


class Line(NamedTuple):
    """A map laid out as one line of positions, zeros between its rows, so that every displacement is one step.

    Attributes:
      patch: side of the window.
      pitch: positions from one row to the next; what lies left or right of a row falls on zeros.
      margin: zeros before and after the line, for windows that begin above the map or end below it.
      tiles: of 64 positions.
      segment: positions that the windows of a tile take from one row of offsets.
    """

    patch: int
    pitch: int
    margin: int
    tiles: int
    segment: int

    @property
    def length(self) -> int:
        """Positions of all tiles."""
        return self.tiles * TILE


def line(height: int, width: int, patch: int) -> Line:
    """The line of a map; its margins are such that every segment is inside, though it is rounded up for the copies."""
    reach = patch // 2
    pitch = width + reach
    segment = TILE + round_up(2 * reach, 8)
    return Line(patch, pitch, reach * pitch + reach + 8, -(-height * pitch // TILE), segment)
