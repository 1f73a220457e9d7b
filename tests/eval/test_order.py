import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidrec.errors import VidrecError
from vidrec.eval.order import RULES, chance, common_length, hamiltonian_path, order_accuracy, recover_order
from vidrec.losses.order import order_signs


def weight(weights, path):
    return sum(weights[a, b] for a, b in itertools.pairwise(path))


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_path_is_the_best_of_all(nodes, seed):
    weights = np.random.default_rng(seed).normal(size=(nodes, nodes))
    path = hamiltonian_path(weights)
    best = max(weight(weights, other) for other in itertools.permutations(range(nodes)))
    assert sorted(path) == list(range(nodes))
    assert weight(weights, path) == pytest.approx(best)


def test_the_diagonal_is_not_used():
    weights = np.random.default_rng(0).normal(size=(5, 5))
    assert np.array_equal(hamiltonian_path(weights), hamiltonian_path(weights + 9 * np.eye(5)))


def test_several_graphs_at_once():
    weights = np.random.default_rng(0).normal(size=(3, 2, 5, 5)).astype(np.float32)
    paths = hamiltonian_path(weights)
    assert paths.shape == (3, 2, 5)
    for index in np.ndindex(3, 2):
        assert np.array_equal(paths[index], hamiltonian_path(weights[index]))
    assert hamiltonian_path(weights[:0]).shape == (0, 2, 5)


@settings(max_examples=25)
@given(st.permutations(range(8)))
def test_the_ideal_map_gives_the_order_back_by_every_rule(order):
    order = np.asarray(order)
    ideal = np.asarray(order_signs(order))
    for rule in RULES:
        path = recover_order(ideal, rule)
        assert np.array_equal(order[path], np.arange(8))
        assert order_accuracy(path, order) == 100


def test_magnitudes_that_grow_with_distance_hide_the_order_from_the_raw_rule_only():
    """A[t, u] = o_u - o_t: every path between the same two frames has the same sum."""
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permutation(8) for _ in range(50)])
    maps = (orders[:, None, :] - orders[:, :, None]) / 8 + 0.01 * rng.normal(size=(50, 8, 8))
    accuracy = {rule: order_accuracy(recover_order(maps, rule), orders).mean() for rule in RULES}
    assert accuracy["raw"] < 75
    assert min(accuracy["sign"], accuracy["antisym"], accuracy["borda"]) > 99


def test_accuracy_of_paths_without_knowledge_is_chance():
    rng = np.random.default_rng(0)
    orders, paths = (np.stack([rng.permutation(8) for _ in range(4000)]) for _ in range(2))
    assert order_accuracy(paths, orders).mean() == pytest.approx(chance(8), abs=0.7)
    assert chance(8) == pytest.approx(47.129, abs=1e-3)  # all 40,320 orders
    assert chance(16) == pytest.approx(36.1, abs=0.3)
    assert chance(2) == 75


@settings(max_examples=40)
@given(st.permutations(range(7)))
def test_common_length_is_that_of_the_longest_common_subsequence(sequence):
    table = np.zeros((8, 8), int)
    for i, j in itertools.product(range(7), range(7)):
        table[i + 1, j + 1] = table[i, j] + 1 if sequence[i] == j else max(table[i, j + 1], table[i + 1, j])
    assert common_length(np.asarray(sequence)) == table[-1, -1]


def test_slips():
    with pytest.raises(VidrecError, match="did you mean 'sign'"):
        recover_order(np.zeros((3, 3)), "signs")
    with pytest.raises(VidrecError, match="20 are the most"):
        hamiltonian_path(np.zeros((21, 21)))
    with pytest.raises(VidrecError, match="finite"):
        hamiltonian_path(np.full((3, 3), np.nan))
