import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidrec.losses.twins import correlation, twins_loss

BETA = 0.0039


def views(seed, clips=12, classes=5):
    return jax.random.normal(jax.random.key(seed), (2, clips, classes))


@settings(max_examples=10)
@given(st.integers(0, 2**31 - 1), st.booleans(), st.floats(0.01, 100))
def test_correlation_is_a_matrix_of_cosines(seed, center, scale):
    a, b = views(seed)
    c = correlation(a, b, center=center)
    assert float(jnp.abs(c).max()) <= 1 + 1e-6
    np.testing.assert_allclose(correlation(b, a, center=center), c.T, atol=1e-6)  # views exchanged
    np.testing.assert_allclose(correlation(scale * a, b, center=center), c, atol=1e-5)  # sizes of scores do not count
    np.testing.assert_allclose(correlation(a[::-1], b[::-1], center=center), c, atol=1e-5)  # nor does the order
    expected = np.einsum("bi,bj->ij", *(v - v.mean(0) * center for v in (a, b)))
    lengths = [np.linalg.norm(v - v.mean(0) * center, axis=0) for v in (a, b)]
    np.testing.assert_allclose(c, expected / lengths[0][:, None] / lengths[1], atol=1e-5)


def test_centring_takes_the_mean_away():
    a, b = views(0)
    np.testing.assert_allclose(correlation(a + 3, b, center=True), correlation(a, b, center=True), atol=1e-5)
    assert not np.allclose(correlation(a + 3, b), correlation(a, b), atol=0.1)


def test_loss_is_zero_for_equal_views_of_uncorrelated_classes():
    a = jnp.eye(4)[jnp.arange(12) % 4]
    assert float(twins_loss(a, 2 * a)) == pytest.approx(0, abs=1e-10)
    flipped = float(twins_loss(a, -a))
    assert flipped == pytest.approx(4 * 2**2, abs=1e-5)  # each C[i, i] is -1


def test_loss_counts_what_is_off_the_diagonal_by_beta():
    same = jnp.ones((6, 3))  # all correlations are 1
    assert float(twins_loss(same, same, beta=BETA)) == pytest.approx(BETA * 6, rel=1e-4)
    assert float(twins_loss(same, same, beta=0.0)) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("center", [False, True])
def test_scores_without_any_length_do_no_harm(center):
    zero = jnp.zeros((4, 3))
    loss, gradient = jax.value_and_grad(lambda a: twins_loss(a, zero, center=center))(zero)
    assert float(loss) == 3
    assert np.isfinite(gradient).all()


def test_half_precision_scores_are_summed_in_float32():
    a, b = views(1, clips=300).astype(jnp.bfloat16)
    c = correlation(a, b)
    assert c.dtype == jnp.float32
    np.testing.assert_allclose(c, correlation(a.astype(jnp.float32), b.astype(jnp.float32)), atol=1e-6)
