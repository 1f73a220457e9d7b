import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.quick import jit
from vidrec.errors import UsageError
from vidrec.ops.shift import shift_taps, temporal_shift, temporal_taps

shift = jit(temporal_shift, static_argnums=1)
frames_and_channels = st.tuples(st.integers(1, 5), st.sampled_from([1, 7, 16]))
few = settings(max_examples=12)  # every new shape is compiled


def make_clips(frames: int, channels: int) -> np.ndarray:
    return np.arange(1, 1 + 8 * frames * channels, dtype=np.float32).reshape(2, frames, 2, 2, channels)


@few
@given(frames_and_channels, st.sampled_from([2, 3, 8]))
def test_shift_moves_and_keeps_channels(shape, fold_div):
    x = make_clips(*shape)
    fold, out = x.shape[-1] // fold_div, np.asarray(shift(x, fold_div))
    assert np.array_equal(out[:, :-1, ..., :fold], x[:, 1:, ..., :fold])
    assert not out[:, -1, ..., :fold].any()
    assert np.array_equal(out[:, 1:, ..., fold : 2 * fold], x[:, :-1, ..., fold : 2 * fold])
    assert not out[:, 0, ..., fold : 2 * fold].any()
    assert np.array_equal(out[..., 2 * fold :], x[..., 2 * fold :])


@few
@given(frames_and_channels, st.sampled_from([2, 3, 8]))
def test_shift_back_in_time_is_the_shift_with_the_parts_swapped(shape, fold_div):
    x = make_clips(*shape)
    fold = x.shape[-1] // fold_div
    swapped = np.r_[fold : 2 * fold, :fold, 2 * fold : x.shape[-1]]
    back = np.asarray(shift(x[:, ::-1], fold_div))[:, ::-1]
    assert np.array_equal(back, np.asarray(shift(x[..., swapped], fold_div))[..., swapped])


@few
@given(frames_and_channels)
def test_the_gradient_of_the_shift_is_the_opposite_shift(shape):
    x = make_clips(*shape)
    cotangent = np.cos(x)
    gradient = jit(jax.grad(lambda x: jnp.sum(temporal_shift(x) * cotangent)))(x)
    assert np.array_equal(gradient, np.asarray(shift(cotangent[:, ::-1], 8))[:, ::-1])


def test_shift_refuses_parts_that_do_not_fit():
    with pytest.raises(UsageError, match="fold_div is 1"):
        temporal_shift(jnp.zeros((1, 2, 1, 1, 4)), 1)


@few
@given(frames_and_channels)
def test_taps_weigh_the_frames_before_now_and_after(shape):
    x = make_clips(*shape)
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
    for i in range(3):
        taps = np.zeros((3, x.shape[-1]), np.float32)
        taps[i] = 2
        assert np.array_equal(jit(temporal_taps)(x, taps), 2 * padded[:, i : i + x.shape[1]])


def test_taps_of_each_clip():
    x = jax.random.normal(jax.random.key(0), (3, 5, 2, 2, 4))
    taps = jax.random.normal(jax.random.key(1), (3, 3, 4))
    each = jnp.concatenate([temporal_taps(x[b : b + 1], taps[b]) for b in range(3)])
    np.testing.assert_allclose(temporal_taps(x, taps), each, rtol=1e-6)


def test_a_kernel_that_shifts():
    x = make_clips(3, 16).astype(np.float32)
    taps = shift_taps(16, after=slice(4), before=slice(4, 8))
    assert taps.shape == (3, 1, 16)
    assert np.array_equal(temporal_taps(x, taps[:, 0]), temporal_shift(x, 4))
