"""What can be said of windows on a map without looking at features: where they end, what lies outside."""

from typing import Any, NamedTuple

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
    (rows, sum_y), (columns, sum_x) = inside_1d(height, patch), inside_1d(width, patch)
    return Outside(
        count=(patch**2 - np.outer(rows, columns)).astype(np.float32),
        x=-np.outer(rows, sum_x).astype(np.float32),  # offsets of a whole window sum to zero
        y=-np.outer(sum_y, columns).astype(np.float32),
        first=first_outside(height, width, patch),
    )


def inside_1d(size: int, patch: int) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " s"]]:
    """For each place on a line: how many offsets of -R..R stay on the line, and their sum."""
    place, reach = np.arange(size), patch // 2
    low, high = np.minimum(place, reach), np.minimum(size - 1 - place, reach)
    return low + high + 1, (high * (high + 1) - low * (low + 1)) // 2


def first_outside(height: int, width: int, patch: int) -> Int[np.ndarray, "h w"]:
    """Index (row by row) of the first position of each window that is outside the map."""
    reach = patch // 2
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    after_row_end = np.where(x + reach >= width, width - x + reach, NOWHERE)  # in the window's first row
    below = np.where(y + reach >= height, (height - y + reach) * patch, NOWHERE)
    first = np.minimum(after_row_end, below)
    return np.where((y < reach) | (x < reach), 0, first).astype(np.int32)
