"""What every implementation must do: the reference is held to the definition, the others to the reference."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quick import jit
from vidrec.ops.correlation import local_correlation, match

STATIC = ("patch", "sigma", "tau", "gaussian", "normalize", "relu", "implementation")
match_now = jit(match, static_argnames=STATIC)
correlation_now = jit(local_correlation, static_argnames=("patch", "implementation"))
FAST = ["dense", "gather"]  # the kernels have tests of their own
WHOLE, CUT = (2, 5, 7, 3), (1, 18, 16, 3)  # maps that are one block of queries, and several


def maps(shape, seed=0, dtype="float32"):
    one, two = jax.random.normal(jax.random.key(seed), (2, *shape))
    return one.astype(dtype), two.astype(dtype)


def both(function, *arrays, implementation):
    """Results of an implementation and of the reference, and the gradients of a weighted sum of them."""
    found = []
    for name in (implementation, "reference"):

        def run(*arrays, name=name):
            values, pullback = jax.vjp(lambda *a: function(*a, implementation=name), *arrays)
            cotangents = jax.tree.map(lambda v: jnp.cos(7 * jnp.arange(v.size, dtype=v.dtype)).reshape(v.shape), values)
            return values, pullback(cotangents)

        found.append(jax.tree.leaves(jit(run)(*arrays)))
    return zip(*found, strict=True)


def assert_equal_up_to(pairs, relative):
    for value, expected in pairs:
        assert value.dtype == expected.dtype
        value, expected = np.asarray(value, np.float32), np.asarray(expected, np.float32)
        np.testing.assert_allclose(value, expected, rtol=0, atol=relative * np.abs(expected).max() + 1e-6)


def test_the_reference_is_the_definition():
    f1, f2 = maps(WHOLE)
    scores = correlation_now(f1, f2, patch=3, implementation="reference")
    for y, x, i, j in np.ndindex(5, 7, 3, 3):
        row, column = y + i - 1, x + j - 1
        inside = 0 <= row < 5 and 0 <= column < 7
        expected = jnp.sum(f1[:, y, x] * f2[:, row, column], -1) if inside else jnp.zeros(2)
        np.testing.assert_allclose(scores[:, y, x, i, j], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize(("shape", "patch"), [(WHOLE, 3), (WHOLE, 15), (CUT, 5), (CUT, 1), ((1, 17, 19, 2), 7)])
def test_correlation_equals_the_reference(implementation, shape, patch):
    def correlate(f1, f2, implementation):
        return local_correlation(f1, f2, patch=patch, implementation=implementation)

    assert_equal_up_to(both(correlate, *maps(shape), implementation=implementation), 1e-5)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (WHOLE, {"patch": 3}),
        (WHOLE, {"patch": 15, "gaussian": "paper"}),
        (CUT, {"patch": 5}),
        (CUT, {"patch": 7, "relu": False, "tau": 0.1}),
        (WHOLE, {"patch": 5, "relu": False, "normalize": False, "tau": 1.0, "sigma": 1.5}),
        (WHOLE, {"patch": 1, "relu": False}),
    ],
)
def test_match_equals_the_reference(implementation, dtype, shape, options):
    def run(f1, f2, implementation):
        return match(f1, f2, **options, implementation=implementation)

    f1, f2 = maps(shape, dtype=dtype)
    assert_equal_up_to(both(run, f1, f2, implementation=implementation), 5e-5 if dtype == "float32" else 1e-2)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_first_of_equal_scores_counts(implementation, relu, sign):
    """All scores within the map are equal; negative ones lose to those outside it, which are zero."""
    ones = jnp.ones((1, 6, 7, 2))

    def run(f1, f2, implementation):
        return match(f1, f2, patch=5, relu=relu, sigma=2.0, tau=0.5, implementation=implementation)

    assert_equal_up_to(both(run, ones, sign * ones, implementation=implementation), 1e-5)


@settings(max_examples=8)
@given(st.integers(0, 4), st.integers(-2, 2), st.integers(-2, 2))
def test_a_shifted_map_is_found(seed, down, right):
    """Cosines of random directions in many dimensions are small, so each position matches its own copy alone."""
    f1 = jax.random.normal(jax.random.key(seed), (1, 8, 9, 96))
    displacement, confidence = match_now(f1, jnp.roll(f1, (down, right), (1, 2)), patch=5)
    inner = np.s_[0, 2:-2, 2:-2]
    np.testing.assert_allclose(displacement[inner] * 2, np.broadcast_to([right, down], (4, 5, 2)), atol=1e-3)
    np.testing.assert_allclose(confidence[inner], 1, atol=1e-5)


@pytest.mark.parametrize("implementation", [*FAST, "reference"])
def test_without_any_score_nothing_moves(implementation):
    f1, f2 = maps(WHOLE)
    f1 = f1.at[0, 2, 3].set(0).at[1].set(0)

    def total(f1, f2):
        displacement, confidence = match(f1, f2, patch=5, implementation=implementation)
        return jnp.sum(displacement) + jnp.sum(confidence), (displacement, confidence)

    gradients, (displacement, confidence) = jit(jax.grad(total, (0, 1), has_aux=True))(f1, f2)
    assert not displacement[1].any()
    assert not confidence[1].any()
    assert not displacement[0, 2, 3].any()
    assert displacement[0].any()
    assert all(bool(jnp.isfinite(gradient).all()) for gradient in gradients)
    assert not gradients[1][1].any()


@pytest.mark.parametrize("implementation", [*FAST, "reference"])
def test_the_confidence_pulls_only_at_the_best_position(implementation):
    f1, f2 = maps((1, 6, 6, 4))

    def confidence(f2):
        return match(f1, f2, patch=3, normalize=False, implementation=implementation)[1][0, 3, 3]

    pulled = jnp.abs(jit(jax.grad(confidence))(f2)[0]).sum(-1) > 0
    scores = correlation_now(f1, f2, patch=3)[0, 3, 3]
    row, column = np.unravel_index(int(scores.argmax()), (3, 3))
    assert float(scores.max()) > 0
    assert np.argwhere(pulled).tolist() == [[2 + row, 2 + column]]


def test_the_paper_s_gaussian_is_narrower_and_lower():
    """exp(-d^2 / sigma^2) / (sqrt(2 pi) sigma) around the best position, written out for one query."""
    f1, f2 = maps((1, 6, 6, 8))
    sigma, tau = 1.5, 0.2
    scores = np.maximum(correlation_now(f1, f2, patch=5, implementation="reference")[0, 2, 3], 0)
    place = np.indices((5, 5)) - 2
    best = place[:, *np.unravel_index(scores.argmax(), (5, 5))]
    distance = ((place - best[:, None, None]) ** 2).sum(0)
    logits = np.exp(-distance / sigma**2) / (np.sqrt(2 * np.pi) * sigma) * scores / tau
    weights = np.exp(logits) / np.exp(logits).sum()
    expected = [(weights * place[1]).sum() / 2, (weights * place[0]).sum() / 2]
    displacement, _ = match_now(f1, f2, patch=5, sigma=sigma, tau=tau, gaussian="paper", normalize=False)
    np.testing.assert_allclose(displacement[0, 2, 3], expected, rtol=1e-5, atol=1e-6)


def test_displacements_stay_in_the_window_and_confidences_are_cosines():
    displacement, confidence = match_now(*maps(CUT), patch=5)
    assert displacement.shape == (*CUT[:3], 2)
    assert float(jnp.abs(displacement).max()) <= 1 + 1e-6
    assert 0 <= float(confidence.min()) <= float(confidence.max()) <= 1 + 1e-6


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"patch": 4}, "patch=4"),
        ({"patch": -1}, "patch=-1"),
        ({"patch": True}, "patch=True must be a Python integer"),
        ({"patch": 3.0}, "patch=3.0 must be a Python integer"),
        ({"sigma": 0.0}, "sigma=0.0"),
        ({"tau": -1.0}, "tau=-1.0"),
        ({"gaussian": "papr"}, "is not one of code, paper"),
        ({"implementation": "xlaa"}, "'xlaa' is not one of"),
    ],
)
def test_wrong_arguments(options, named):
    with pytest.raises(ValueError, match=named):
        match(*maps(WHOLE), **{"patch": 3, **options})


@pytest.mark.parametrize("name", ["patch", "sigma", "tau"])
def test_settings_that_are_traced(name):
    with pytest.raises(ValueError, match=f"{name}.* must be a Python"):
        jax.eval_shape(lambda value: match(*maps(WHOLE), **{"patch": 3, name: value}), 3)


def test_numpy_s_numbers_are_settings():
    found = match_now(*maps(WHOLE), patch=np.int64(3), tau=np.float32(0.5))
    jax.tree.map(np.testing.assert_array_equal, found, match_now(*maps(WHOLE), patch=3, tau=0.5))


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_maps_that_are_not_real(dtype):
    with pytest.raises(ValueError, match=f"f2 is {dtype} and must be of floats or integers"):
        match(jnp.ones(WHOLE), jnp.ones(WHOLE, dtype), patch=3)


@pytest.mark.parametrize("implementation", [*FAST, "reference"])
def test_results_are_float32_where_64_bits_are_on(implementation):
    with jax.enable_x64(True):
        f = jax.ShapeDtypeStruct(WHOLE, jnp.float32)
        for operation in (match, local_correlation):
            found = jax.eval_shape(partial(operation, patch=3, implementation=implementation), f, f)
            assert {value.dtype for value in jax.tree.leaves(found)} == {jnp.dtype("float32")}


def test_integer_features_are_compared_as_floats():
    f1, f2 = (jnp.round(10 * f) for f in maps(WHOLE))
    whole = match_now(f1.astype(jnp.int32), f2.astype(jnp.int32), patch=3)
    jax.tree.map(np.testing.assert_array_equal, whole, match_now(f1, f2, patch=3))


@pytest.mark.parametrize("shape", [(0, 4, 4, 2), (1, 0, 4, 2), (1, 4, 4, 0)])
def test_empty_maps(shape):
    with pytest.raises(ValueError, match=r"must be feature maps \[N, H, W, C\] .* without a size of zero"):
        match(jnp.ones(shape), jnp.ones(shape), patch=3)


def test_maps_of_different_shapes():
    with pytest.raises(ValueError, match=r"f1 \[2, 5, 7, 3\] and f2 \[2, 5, 6, 3\]"):
        local_correlation(maps(WHOLE)[0], maps((2, 5, 6, 3))[1], patch=3)
