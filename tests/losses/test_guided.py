"""DirecFormer's share of vidrec/losses/order.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidrec.errors import UsageError
from vidrec.losses.order import draw_orders, guided_loss, order_loss, order_signs, shuffle
from vidrec.losses.permutations import permutation_set


def test_orders_are_drawn_evenly_and_say_their_label():
    permutations = permutation_set(4, 3)
    orders, labels = draw_orders(jax.random.key(0), permutations, 4000)
    assert np.bincount(np.asarray(labels), minlength=4).min() > 900
    known = np.concatenate([np.arange(4)[None], permutations])
    assert np.array_equal(orders, known[np.asarray(labels)])


def test_position_i_gets_the_frame_the_order_names():
    clips = jnp.arange(2 * 4).reshape(2, 4, 1, 1, 1)
    shuffled = shuffle(clips, jnp.asarray([[2, 0, 3, 1], [0, 1, 2, 3]]))
    assert shuffled.reshape(2, 4).tolist() == [[2, 0, 3, 1], [4, 5, 6, 7]]


def test_order_loss_is_a_cross_entropy():
    logits, labels = jnp.zeros((2, 31)).at[0, 4].set(50.0), jnp.asarray([4, 0])
    assert order_loss(logits, labels) == pytest.approx(np.log(31) / 2)


orders_of_eight = st.permutations(range(8)).map(lambda order: jnp.asarray([order]))


@settings(max_examples=25)
@given(orders_of_eight, st.integers(0, 1000))
def test_no_map_is_better_than_the_ideal_one(orders, seed):
    ideal = order_signs(orders)[None, :, None]
    best = guided_loss(ideal, orders)
    assert best == pytest.approx(-9 / 8)  # -(T + 1) / T
    other = jax.random.uniform(jax.random.key(seed), (2, 1, 3, 8, 8), minval=-1, maxval=1)
    assert guided_loss(other, orders) > best
    assert guided_loss(0 * other, orders) == pytest.approx(-1 / 8)
    descent = -jax.grad(guided_loss)(0 * other, orders)
    assert np.array_equal(jnp.sign(descent), jnp.broadcast_to(ideal, descent.shape))  # towards it from anywhere


@settings(max_examples=25)
@given(orders_of_eight)
def test_signs_of_both_rules(orders):
    signs, released = order_signs(orders)[0], order_signs(orders, rule="released")[0]
    off = ~np.eye(8, dtype=bool)
    assert np.array_equal(signs[off], -signs.T[off])  # the paper's tells a direction
    assert np.array_equal(released, released.T)  # the released one does not
    assert (np.diag(signs) == -1).all()
    assert (np.diag(released) == 1).all()
    upper = np.triu_indices(8, 1)
    assert np.array_equal(signs[upper], released[upper])


@pytest.mark.parametrize(("diagonal", "at_zero"), [(-1, -1 / 8), (0, 0), (1, 1 / 8)])
def test_diagonal(diagonal, at_zero):
    orders = jnp.arange(8)[None]
    assert np.diag(order_signs(orders, diagonal=diagonal)[0]).tolist() == [diagonal] * 8
    assert guided_loss(jnp.zeros((1, 1, 1, 8, 8)), orders, diagonal=diagonal) == pytest.approx(at_zero)


def test_one_clip_does_not_see_the_others():
    orders = jnp.asarray([[0, 1, 2], [2, 1, 0]])
    maps = jax.random.uniform(jax.random.key(0), (2, 2, 5, 3, 3))
    each = [guided_loss(maps[:, clip : clip + 1], orders[clip : clip + 1]) for clip in (0, 1)]
    assert guided_loss(maps, orders) == pytest.approx(sum(map(float, each)) / 2)


@pytest.mark.parametrize("slip", [{"rule": "symmetric"}, {"diagonal": 2}, {"rule": "released", "diagonal": 1}])
def test_slips(slip):
    with pytest.raises(UsageError):
        order_signs(jnp.arange(3), **slip)
