"""The sets by their properties; tests/parity compares them with generated ones."""

import numpy as np
import pytest

from vidrec.errors import UsageError
from vidrec.losses.permutations import RULES, permutation_set


def distances(permutations):
    pairs = (permutations[:, None] != permutations[None]).sum(-1)
    return pairs[np.triu_indices(len(permutations), 1)]


def places(permutations):
    """How often each frame stands at each position."""
    return np.stack([np.bincount(column, minlength=permutations.shape[1]) for column in permutations.T])


def test_the_default_set_is_balanced_and_as_far_apart_as_can_be():
    chosen = permutation_set(8, 1000)
    assert (chosen.shape, chosen.dtype) == ((1000, 8), np.int8)
    assert (places(chosen) == 125).all()
    assert distances(chosen).mean() == pytest.approx(7.007007, abs=1e-6)
    assert distances(chosen).min() == 2


def test_the_smallest_distances_leave_one_frame_in_its_place():
    chosen = permutation_set(8, 1000, rule="min")
    assert distances(chosen).mean() == pytest.approx(5.455255, abs=1e-6)
    assert places(chosen).max() == 1000


def test_random_permutations_are_less_balanced():
    chosen = permutation_set(8, 1000, rule="random")
    assert 6.9 < distances(chosen).mean() < 7.007
    assert places(chosen).min() < 120 < 130 < places(chosen).max()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("frames", "count"), [(4, 23), (8, 30), (16, 100)])
def test_permutations_are_whole_different_and_not_the_identity(rule, frames, count):
    chosen = permutation_set(frames, count, rule=rule)
    assert chosen.shape == (count, frames)
    assert (np.sort(chosen, 1) == np.arange(frames)).all()
    assert len(np.unique(chosen, axis=0)) == count
    assert (chosen != np.arange(frames)).any(1).all()


def test_sixteen_frames():
    chosen = permutation_set(16, 1000)
    assert abs(places(chosen) - 1000 / 16).max() < 2
    assert distances(chosen).mean() > 15.01


def test_a_set_depends_on_its_seed_alone():
    again = permutation_set.__wrapped__(8, 30)
    assert np.array_equal(permutation_set(8, 30), again)
    assert not np.array_equal(permutation_set(8, 30, seed=1), again)
    with pytest.raises(ValueError, match="read-only"):
        permutation_set(8, 30)[0, 0] = 1


@pytest.mark.parametrize(
    ("frames", "count", "rule", "named"),
    [
        (4, 24, "max", "24 orders of 4 frames cannot be chosen: there are 23"),
        (8, 40320, "max", "there are 40319"),
        (8, 0, "max", "num_orders"),
        (1, 1, "max", "num_frames"),
        (0, 1, "max", "num_frames"),
        (8, 10, "mx", "did you mean 'max'"),
    ],
)
def test_impossible_sets(frames, count, rule, named):
    with pytest.raises(UsageError, match=named):
        permutation_set(frames, count, rule=rule)
