"""The TPU kernels, interpreted: values and gradients of the reference on the same inputs."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.pallas import tpu as pltpu

from tests.quick import jit
from vidrec.ops.correlation import reference, tpu

CODE = {"sigma": 5.0, "tau": 0.01, "amplitude": 1.0}
PAPER = {"sigma": 5 / np.sqrt(2), "tau": 0.01, "amplitude": 1 / (5 * np.sqrt(2 * np.pi))}
SMALL = (2, 7, 9, 4)  # compiles quickly


def features(shape, dtype="float32", seed=0):
    """Two maps of directions, as the op's features are after normalisation."""
    f = jax.random.normal(jax.random.key(seed), (2, *shape))
    f /= jnp.linalg.norm(f, axis=-1, keepdims=True)
    return f[0].astype(dtype), f[1].astype(dtype)


@cache
def differentiated(operation, interpret, **options):
    """Jitted function of two maps: the values of an operation and the gradients of a weighted sum of them."""
    module = reference if interpret is None else tpu
    function = partial(getattr(module, operation), **options)
    if interpret is not None:
        function = partial(function, interpret=interpret)

    def run(f1, f2):
        values, pullback = jax.vjp(function, f1, f2)
        cotangents = jax.tree.map(lambda v: jnp.cos(7 * jnp.arange(v.size, dtype=v.dtype)).reshape(v.shape), values)
        return values, pullback(cotangents)

    return jit(run)


def assert_equals_the_reference(operation, f1, f2, interpret=True, **options):
    if operation == "match":
        options = {**CODE, **options, "relu": True}
    found = differentiated(operation, interpret, **options)(f1, f2)
    expected = differentiated(operation, None, **options)(f1, f2)
    for which, limit in ((0, 2e-6), (1, 1e-5 if f1.dtype == jnp.float32 else 1e-2)):
        for value, right in zip(jax.tree.leaves(found[which]), jax.tree.leaves(expected[which]), strict=True):
            assert value.dtype == right.dtype
            value, right = np.asarray(value, np.float32), np.asarray(right, np.float32)
            np.testing.assert_allclose(value, right, rtol=0, atol=limit * np.abs(right).max() + 1e-6)


@pytest.mark.parametrize(
    ("size", "patch", "dtype", "options"),
    [
        ((28, 28), 3, "float32", CODE),
        pytest.param((5, 3), 7, "float32", PAPER, marks=pytest.mark.slow),
        pytest.param((4, 20), 3, "bfloat16", PAPER, marks=pytest.mark.slow),
        pytest.param((3, 65), 1, "float32", CODE, marks=pytest.mark.slow),
    ],
)
def test_match(size, patch, dtype, options):
    assert_equals_the_reference("match", *features((1, *size, 8), dtype), patch=patch, **options)


@pytest.mark.parametrize(
    ("size", "patch", "dtype"),
    [
        ((4, 20), 3, "bfloat16"),
        pytest.param((5, 3), 7, "float32", marks=pytest.mark.slow),
        pytest.param((3, 65), 1, "float32", marks=pytest.mark.slow),
    ],
)
def test_correlate(size, patch, dtype):
    assert_equals_the_reference("correlate", *features((1, *size, 8), dtype), patch=patch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "patch", "dtype"),
    [
        ((28, 28), 15, "bfloat16"),
        ((13, 17), 15, "float32"),
        ((7, 7), 15, "float32"),
        ((5, 56), 3, "bfloat16"),
    ],
)
@pytest.mark.parametrize("operation", ["match", "correlate"])
def test_more_sizes(operation, size, patch, dtype):
    assert_equals_the_reference(operation, *features((2, *size, 6), dtype), patch=patch)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["match", "correlate"])
def test_a_pair_in_several_steps_of_which_the_last_is_cut(operation):
    shape = (2, 35, 33, 3)
    plan = tpu.CALLS[f"vidrec_{'match' if operation == 'match' else 'volume'}_backward"](shape[1:], 3, jnp.float32)
    assert plan.cut.count == 2 * plan.per_step
    assert shape[1] % plan.cut.rows
    assert_equals_the_reference(operation, *features(shape), patch=3)


@pytest.mark.slow
def test_without_any_score_nothing_moves():
    f1, f2 = features(SMALL)
    f1 = f1.at[0, 2, 3].set(0).at[1].set(0)
    (displacement, confidence), gradients = differentiated("match", True, **CODE, patch=5, relu=True)(f1, f2)
    assert not displacement[1].any()
    assert not confidence[1].any()
    assert not displacement[0, 2, 3].any()
    assert displacement[0].any()
    assert all(bool(jnp.isfinite(gradient).all()) for gradient in gradients)
    assert not gradients[1][1].any()
    assert_equals_the_reference("match", f1, f2, patch=5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_first_of_equal_scores_counts(sign):
    ones = jnp.ones(SMALL)
    assert_equals_the_reference("match", ones, sign * ones, patch=5)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (2, -1), (-2, 2)])
def test_a_single_match_is_found_where_it_is(right, down):
    f1 = jnp.zeros(SMALL).at[0, 3, 4, 1].set(1)
    f2 = jnp.zeros(SMALL).at[0, 3 + down, 4 + right, 1].set(1)
    displacement, confidence = differentiated("match", True, **CODE, patch=5, relu=True)(f1, f2)[0]
    np.testing.assert_allclose(displacement[0, 3, 4], [right, down], atol=1e-6)
    assert confidence[0, 3, 4] == 1
    assert int((confidence != 0).sum()) == 1


@pytest.mark.slow
@settings(max_examples=5)
@given(
    st.sampled_from(["match", "correlate"]),
    st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 20), st.integers(1, 5)),
    st.sampled_from([1, 3]),
    st.integers(0, 9),
)
def test_small_maps_of_any_shape(operation, shape, patch, seed):
    assert_equals_the_reference(operation, *features(shape, seed=seed), patch=patch)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["match", "correlate"])
def test_nothing_is_read_before_it_is_written(operation):
    """A simulation of the memory and its transfers, which starts with NaN everywhere and raises if two cores race."""
    interpret = pltpu.InterpretParams(detect_races=True, num_cores_or_threads=2)
    assert_equals_the_reference(operation, *features(SMALL), patch=3, interpret=interpret)


def test_what_is_not_supported():
    assert tpu.unsupported(28, 28, 64, 15, "bfloat16") is None
    assert tpu.unsupported(56, 56, 64, 15, jnp.bfloat16) is None
    assert tpu.unsupported(20, 128, 64, 15, "float32") is None  # compiled by test_tpu_compile
    assert "MiB" in str(tpu.unsupported(21, 128, 64, 15, "float32"))
    assert tpu.unsupported(7, 7, 512, 3, "float32") is None
    assert "float16" in str(tpu.unsupported(28, 28, 64, 15, "float16"))
    assert "up to 128 wide, and this one is 129" in str(tpu.unsupported(28, 129, 64, 15, "bfloat16"))


def test_negative_scores_that_count():
    with pytest.raises(ValueError, match="relu=False has no TPU kernel"):
        tpu.match(*features(SMALL), patch=3, **CODE, relu=False)
