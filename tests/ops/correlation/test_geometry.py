import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vidrec.ops.correlation.geometry import NOWHERE, TILE, line, outside, tiling


@given(st.integers(1, 7), st.integers(1, 6), st.sampled_from([1, 3, 5, 9, 15]))
def test_what_lies_outside_is_what_counting_finds(height, width, patch):
    found, reach = outside(height, width, patch), patch // 2
    offsets = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    for y, x in np.ndindex(height, width):
        beyond = [
            (index, dy, dx)
            for index, (dy, dx) in enumerate(offsets)
            if not (0 <= y + dy < height and 0 <= x + dx < width)
        ]
        assert found.count[y, x] == len(beyond)
        assert found.x[y, x] == sum(dx for _, _, dx in beyond)
        assert found.y[y, x] == sum(dy for _, dy, _ in beyond)
        assert found.first[y, x] == (beyond[0][0] if beyond else NOWHERE)


# Tiles on a GPU


@given(st.integers(1, 40), st.integers(1, 140), st.sampled_from([1, 3, 7, 15, 29, 71]))
def test_the_tiles_near_one_hold_its_windows(height, width, patch):
    found, reach = tiling(height, width, patch), patch // 2
    assert found.columns * found.rows == TILE
    assert found.strips * found.columns >= width
    for tile in {0, found.tiles // 2, found.tiles - 1}:
        top, first = tile * found.rows, int(found.first_row(tile))
        assert 0 <= first <= first + found.near_tiles * found.rows <= found.tiles * found.rows
        assert first <= max(top - reach, 0)
        assert first + found.near_tiles * found.rows >= min(top + found.rows + reach, height)
    for strip in range(found.strips):
        left, first = strip * found.columns, int(found.first_strip(strip))
        assert 0 <= first <= first + found.near_strips <= found.strips
        assert first * found.columns <= max(left - reach, 0)
        assert (first + found.near_strips) * found.columns >= min(left + found.columns + reach, width)


@given(st.integers(1, 40), st.integers(1, 60), st.sampled_from([1, 3, 7, 15, 29]))
def test_segments_of_a_line_are_on_it_and_hold_the_windows(height, width, patch):
    found, reach = line(height, width, patch), patch // 2
    assert found.length >= height * found.pitch
    assert found.segment >= TILE + 2 * reach
    assert found.margin >= reach * found.pitch + reach
    last = found.margin + (found.length - TILE) + reach * found.pitch - reach
    assert last + found.segment <= found.length + 2 * found.margin
