import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidrec.ops.attention import cosine_attention, softmax_attention


def heads(seed, tokens, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), (2, tokens, 3, 4), dtype)


@pytest.mark.parametrize("attention", [softmax_attention, cosine_attention])
def test_result_is_the_map_times_the_values(attention):
    query, key, value = heads(0, 5), heads(1, 6), heads(2, 6)
    result, weights = attention(query, key, value)
    assert result.shape == query.shape
    assert weights.shape == (2, 3, 5, 6)
    for head in range(3):
        np.testing.assert_allclose(result[:, :, head], weights[:, head] @ value[:, :, head], rtol=1e-5, atol=1e-6)


def test_maps_by_hand():
    query, key, value = heads(0, 5), heads(1, 6), heads(2, 6)
    q, k = np.asarray(query[1, 3, 2]), np.asarray(key[1, :, 2])
    scores = np.exp(k @ q / 2)
    np.testing.assert_allclose(softmax_attention(query, key, value)[1][1, 2, 3], scores / scores.sum(), rtol=1e-5)
    cosines = k @ q / np.linalg.norm(k, axis=1) / np.linalg.norm(q)
    np.testing.assert_allclose(cosine_attention(query, key, value)[1][1, 2, 3], cosines, rtol=1e-5)


@settings(max_examples=15)
@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_cosines_do_not_see_lengths_and_stay_in_range(a, b):
    query, key, value = heads(0, 4), heads(1, 4), heads(2, 4)
    _, weights = cosine_attention(query, key, value)
    _, scaled = cosine_attention(a * query, b * key, value)
    np.testing.assert_allclose(scaled, weights, atol=1e-5)
    assert jnp.abs(weights).max() <= 1 + 1e-6


def test_scale_weighs_the_sum_and_not_the_map():
    query, key, value = heads(0, 4), heads(1, 4), heads(2, 4)
    result, weights = cosine_attention(query, key, value)
    quarter, same = cosine_attention(query, key, value, scale=0.25)
    np.testing.assert_allclose(quarter, result / 4, rtol=1e-5)
    assert np.array_equal(same, weights)


def test_zero_vectors_have_finite_cosines_and_gradients():
    zero, value = jnp.zeros((1, 3, 1, 4)), jnp.ones((1, 3, 1, 4))
    result, weights = cosine_attention(zero, value, value)
    assert not weights.any()
    assert not result.any()
    gradients = jax.grad(lambda q, k: cosine_attention(q, k, value)[0].sum(), (0, 1))(zero, zero)
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("attention", [softmax_attention, cosine_attention])
def test_half_precision_sums_in_float32(attention):
    parts = [heads(seed, 300, jnp.bfloat16) for seed in range(3)]
    result, weights = attention(*parts)
    exact, exact_weights = attention(*(part.astype(jnp.float32) for part in parts))
    assert (result.dtype, weights.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(weights, exact_weights, atol=1e-5)
    np.testing.assert_allclose(result.astype(jnp.float32), exact, rtol=0.02, atol=0.02 * float(jnp.abs(exact).max()))
