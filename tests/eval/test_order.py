import itertools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import quick
from tests.models.families import clips_for, make
from vidrec.errors import UsageError, VidrecError
from vidrec.eval.order import (
    RULES,
    chance,
    common_length,
    hamiltonian_path,
    order_accuracy,
    recover_order,
    time_attention,
    video_order,
)
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


def test_dynamic_programming_equals_brute_force_at_eight_frames():
    weights = np.random.default_rng(0).normal(size=(4, 8, 8))
    paths = np.array(list(itertools.permutations(range(8))))
    sums = weights[:, paths[:, :-1], paths[:, 1:]].sum(-1)
    assert np.array_equal(hamiltonian_path(weights), paths[sums.argmax(1)])


@pytest.mark.parametrize("rule", RULES)
def test_a_random_map_gives_chance(rule):
    rng = np.random.default_rng(1)
    orders = np.stack([rng.permutation(8) for _ in range(2000)])
    accuracies = order_accuracy(recover_order(rng.normal(size=(2000, 8, 8)), rule), orders)
    assert accuracies.mean() == pytest.approx(chance(8), abs=4 * accuracies.std() / np.sqrt(2000))


@pytest.mark.parametrize("rule", RULES)
def test_ties_are_broken_the_same_way_however_clips_come(rule):
    """A map that says nothing leaves the clip as it is shown; maps with many ties do not depend on their neighbours."""
    ties = np.random.default_rng(0).integers(-1, 2, (30, 6, 6)).astype(float)
    together = recover_order(ties, rule)
    alone = np.stack([recover_order(one, rule) for one in ties])
    assert np.array_equal(together, alone)
    assert np.array_equal(recover_order(ties[::-1].astype(np.float32), rule), together[::-1])
    nothing = recover_order(np.zeros((6, 6)), rule)
    assert np.array_equal(nothing, recover_order(np.zeros((6, 6)), rule))
    orders = np.array(list(itertools.permutations(range(6))))
    assert order_accuracy(np.broadcast_to(nothing, orders.shape), orders).mean() == pytest.approx(chance(6))


def test_a_video_s_shuffling_is_its_own_and_stays():
    assert video_order("clip07.mp4", 8).tolist() == [4, 7, 5, 2, 6, 3, 0, 1]
    orders = {tuple(video_order(f"video {number}", 4)) for number in range(300)}
    assert len(orders) == 24


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "where", "fields"),
    [
        ("direcformer", ("blocks_1", "time_attention"), {"time_cls_key": True}),  # a cls key is no frame
        ("timesformer", ("blocks_1", "time_attention"), {}),
        ("ttsn", ("ett_attention",), {}),
    ],
)
def test_the_last_attention_in_time_is_found(family, where, fields):
    model = make(family, **fields)
    clips = clips_for(model)
    shapes = jax.eval_shape(model.init, jax.random.key(0), clips)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: 0.2 * rng.random(leaf.shape, np.float32) + 0.1, shapes)

    @quick.jit
    def run(variables, clips):
        return time_attention(model, variables, clips), model.apply(variables, clips, mutable=["intermediates"])[1]

    found, state = run(variables, clips)
    expected = flatten_dict(state["intermediates"])[where][0][..., -4:].reshape(2, -1, 4, 4).mean(1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(expected) > 1e-4


def test_networks_without_attention_in_time_are_told():
    model = make("tsn")
    clips = clips_for(model)
    with pytest.raises(UsageError, match=r"ResNet\) has no attention in time .* DirecFormer and TimeSformer have"):
        jax.eval_shape(lambda x: time_attention(model, model.init(jax.random.key(0), x), x), clips)
