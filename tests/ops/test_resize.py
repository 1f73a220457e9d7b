import numpy as np
import pytest

from vidrec.ops.resize import nearest_index


@pytest.mark.parametrize(("old", "new"), [(4, 6), (6, 14), (5, 12), (14, 28), (3, 7), (8, 4), (1, 2), (14, 9)])
def test_nearest_is_the_floor_of_the_exact_place(old, new):
    assert nearest_index(old, new).tolist() == [i * old // new for i in range(new)]


def test_rounding_is_that_of_float32():
    exact = np.arange(46) * 14 // 46
    places = nearest_index(14, 46)
    assert np.flatnonzero(places != exact).tolist() == [23]
    assert (places[23], exact[23]) == (6, 7)
    for size in range(1, 40):
        for target in range(1, 80):
            assert 0 <= nearest_index(size, target).min() <= nearest_index(size, target).max() < size
