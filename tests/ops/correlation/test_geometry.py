import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vidrec.ops.correlation.geometry import NOWHERE, outside


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
