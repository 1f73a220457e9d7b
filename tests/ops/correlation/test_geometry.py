import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidrec.ops.correlation.geometry import (
    LANES,
    NOWHERE,
    STEP_BYTES,
    TILE,
    inside_line,
    line,
    outside,
    step_sizes,
    tiles,
    tiling,
    vector_memory,
)


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
        top, (first, count) = tile * found.rows, map(int, found.near_rows(tile))
        assert 0 <= first <= first + count * found.rows <= found.tiles * found.rows
        assert 0 < count <= found.near_tiles
        assert first <= max(top - reach, 0)
        assert first + count * found.rows >= min(top + found.rows + reach, height)
    counts = [int(found.near_rows(tile)[1]) for tile in range(found.tiles)]
    assert found.products == sum(counts) * found.strips * found.near_strips
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


# Tiles on a TPU


@given(st.integers(1, 140), st.integers(1, LANES), st.sampled_from([1, 3, 7, 15, 29]))
def test_tiles_hold_the_map_and_its_windows(height, width, patch):
    found = tiles(height, width, patch)
    assert found.columns * found.rows == LANES
    assert width <= found.columns
    assert found.columns < 2 * max(width, 16)
    assert height <= found.count * found.rows < height + found.rows
    assert found.keys == found.rows + patch - 1
    assert found.staged == (found.count - 1) * found.rows + found.keys


@given(st.integers(1, 60), st.integers(1, 1 << 21))
def test_steps_divide_the_tiles(count, tile_bytes):
    found = step_sizes(count, tile_bytes)
    assert found == sorted(found, reverse=True)
    assert found[-1] == 1
    assert all(count % size == 0 and (size == 1 or size * tile_bytes <= STEP_BYTES) for size in found)


@pytest.mark.parametrize(
    ("shape", "item_bytes", "expected"),
    [((8, 128), 4, 4096), ((1, 1), 4, 4096), ((3, 9, 129), 4, 3 * 16 * 256 * 4), ((28, 28, 64), 2, 28 * 32 * 128 * 2)],
)
def test_arrays_fill_whole_registers(shape, item_bytes, expected):
    assert vector_memory(shape, item_bytes) == expected


@pytest.mark.parametrize(("size", "patch"), [(1, 3), (7, 15), (28, 15)])
def test_a_traced_place_knows_its_window_as_well(size, patch):
    kept = [[d for d in range(-(patch // 2), patch // 2 + 1) if 0 <= place + d < size] for place in range(size)]
    expected = list(map(len, kept)), list(map(sum, kept))
    for places in (np.arange(size), jnp.arange(size), jnp.arange(size, dtype=jnp.float32)):
        np.testing.assert_array_equal(inside_line(places, size, patch), expected)
