"""The GPU kernels against the reference, interpreted on a CPU or, where there is one, on a Hopper GPU."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.sharding import AbstractDevice, AbstractMesh

from tests.quick import jit
from vidrec.ops.correlation import gpu, gpu_volume, reference
from vidrec.ops.correlation.geometry import line, tiling
from vidrec.ops.correlation.gpu_tiles import from_strips, slots_for, to_strips

H200 = AbstractMesh(
    (1,), ("batch",), abstract_device=AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")
)
SETTINGS = {"sigma": 2.0, "tau": 0.05, "amplitude": 0.8, "relu": True}


def interpreted():
    """Whether to interpret the kernels: unless there is a GPU that runs them."""
    hopper = getattr(jax.devices()[0], "compute_capability", None) == "9.0"
    return None if hopper else plgpu.InterpretGPUParams()


def cosines(shape, seed=0, dtype="bfloat16"):
    """Two maps of unit vectors."""
    features = np.random.default_rng(seed).normal(size=(2, *shape))
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return tuple(jnp.asarray(f, dtype) for f in features)


@partial(jit, static_argnums=(0,))
def values_and_gradients(function, f1, f2):
    """Of the values weighted by fixed numbers."""
    values, pullback = jax.vjp(function, f1, f2)
    weights = jax.tree.map(lambda v: jnp.cos(7 * jnp.arange(v.size, dtype=v.dtype)).reshape(v.shape), values)
    return values, pullback(weights)


def assert_equal_up_to(found, expected, relative):
    for value, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        value, right = np.asarray(value, np.float32), np.asarray(right, np.float32)
        np.testing.assert_allclose(value, right, rtol=0, atol=relative * np.abs(right).max() + 1e-7)


def assert_as_the_reference(operation, f1, f2, **options):
    """The reference computes in float32 from the same values; gradients are rounded to the features' type."""
    kernels, right = getattr(gpu, operation), getattr(reference, operation)
    found, gradients = values_and_gradients(partial(kernels, **options, interpret=interpreted()), f1, f2)
    wide = (f.astype(jnp.float32) for f in (f1, f2))
    expected, expected_gradients = values_and_gradients(partial(right, **options), *wide)
    assert_equal_up_to(found, expected, 1e-5)
    assert all(gradient.dtype == f1.dtype for gradient in gradients)
    assert_equal_up_to(gradients, expected_gradients, 1e-5 if f1.dtype == jnp.float32 else 8e-3)
    return found


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((1, 14, 14, 64), 7),  # 16 columns and 4 rows to a tile
        pytest.param((1, 9, 13, 20), 5, marks=pytest.mark.slow),
        pytest.param((1, 3, 70, 8), 5, marks=pytest.mark.slow),  # three strips of 32 columns
        # more near tiles than shared memory keeps, and several groups of channels
        pytest.param((1, 10, 10, 160), 9, marks=pytest.mark.slow),
    ],
)
def test_match_equals_the_reference(shape, patch):
    assert_as_the_reference("match", *cosines(shape), patch=patch, **SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "patch"), [((2, 28, 28, 64), 15), ((1, 28, 28, 64), 29)])
def test_match_equals_the_reference_on_a_network_s_maps(shape, patch):
    assert_as_the_reference("match", *cosines(shape), patch=patch, **SETTINGS)


@pytest.mark.parametrize(("height", "width"), [(14, 14), (5, 70), (9, 13)])
def test_strips_hold_the_maps(height, width):
    maps = np.random.default_rng(0).normal(size=(2, height, width, 3))
    tiles = tiling(height, width, 5)
    strips = to_strips(jnp.asarray(maps, jnp.float32), tiles)
    assert strips.shape == (2, tiles.strips, tiles.length, 3)
    np.testing.assert_array_equal(from_strips(strips, height, width, tiles), maps.astype(np.float32))


def test_some_sizes_stream_and_some_stay():
    """What the sizes above are chosen for."""
    for channels, size, patch, stays in [(64, 14, 7, True), (192, 10, 9, False)]:
        tiles = tiling(size, size, patch)
        assert (slots_for(channels, tiles, passes=2) == tiles.near_strips * tiles.near_tiles) == stays


def match_now(f1, f2, patch, **settings):
    options = SETTINGS | settings
    return jit(partial(gpu.match, patch=patch, **options, interpret=interpreted()))(f1, f2)


def test_windows_larger_than_the_map_and_maps_without_any_score():
    f1, f2 = cosines((2, 5, 6, 8))
    f1 = f1.at[1].set(0)
    displacement, confidence = assert_as_the_reference("match", f1, f2, patch=15, **SETTINGS)
    assert displacement[0].any()
    assert not displacement[1].any()
    assert not confidence[1].any()


def test_a_bright_pixel_is_found_where_it_went():
    f1, f2 = np.zeros((2, 1, 9, 13, 8), np.float32)
    f1[0, 4, 6, 3] = f2[0, 6, 3, 3] = 1
    displacement, confidence = match_now(
        jnp.asarray(f1, jnp.bfloat16), jnp.asarray(f2, jnp.bfloat16), patch=7, sigma=5.0, tau=0.01, amplitude=1.0
    )
    np.testing.assert_allclose(displacement[0, 4, 6], [-3, 2], atol=1e-6)
    assert confidence[0, 4, 6] == 1
    assert np.count_nonzero(confidence) == 1
    assert np.count_nonzero(displacement) == 2


def test_the_first_of_equal_scores_counts():
    """All scores within the map are equal, also those of the next strip."""
    ones = jnp.full((1, 5, 34, 8), 0.5, jnp.bfloat16)
    expected = reference.match(ones, ones, patch=5, **SETTINGS)
    assert_equal_up_to(match_now(ones, ones, patch=5), expected, 1e-5)


@pytest.mark.parametrize(
    ("shape", "patch", "dtype"),
    [
        ((1, 9, 13, 12), 5, "float32"),
        # two groups of channels, a window larger than the map
        pytest.param((2, 3, 4, 72), 11, "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_the_volume_equals_the_reference(shape, patch, dtype):
    assert_as_the_reference("correlate", *cosines(shape, dtype=dtype), patch=patch)


@pytest.mark.parametrize("patch", range(1, 33, 2))
def test_copies_into_slots_begin_at_multiples_of_128_bytes(patch):
    """Which neither the interpreter nor the assembler checks."""
    assert gpu_volume.slot_rows(patch) >= patch
    assert gpu_volume.slot_rows(patch) * line(28, 28, patch).segment * 4 % 128 == 0


@pytest.mark.slow
def test_the_volume_equals_the_reference_on_a_network_s_maps():
    assert_as_the_reference("correlate", *cosines((1, 28, 28, 64), dtype="bfloat16"), patch=15)


@pytest.mark.parametrize(
    ("operation", "dtype", "kernels"),
    [
        ("match", "bfloat16", ["match_forward", "match_backward_by_f1", "match_backward_by_f2"]),
        ("correlate", "float32", ["volume_forward", "volume_backward"]),
        ("correlate", "bfloat16", ["volume_forward", "volume_backward"]),
    ],
)
def test_the_kernels_lower_for_a_gpu_without_one(operation, dtype, kernels):
    options = SETTINGS if operation == "match" else {}
    run = partial(getattr(gpu, operation), patch=15, **options)
    maps = jax.ShapeDtypeStruct((4, 28, 28, 64), dtype)
    with warnings.catch_warnings(), jax.sharding.use_abstract_mesh(H200):
        warnings.simplefilter("error")
        lowered = values_and_gradients.trace(run, maps, maps).lower(lowering_platforms=("cuda",)).as_text()
    assert all(f"vidrec_{kernel}" in lowered for kernel in kernels)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((28, 28, 64, 15, "bfloat16", "match"), None),
        ((56, 56, 512, 29, "bfloat16", "match"), None),
        ((28, 28, 64, 15, "float32", "match"), "bfloat16 features, not float32"),
        ((28, 28, 1024, 15, "bfloat16", "match"), "1024 channels take"),
        ((28, 28, 1024, 15, "float32", "correlate"), None),
        ((28, 28, 64, 129, "float32", "correlate"), "windows of 129 x 129 take"),
    ],
)
def test_what_the_kernels_do_not_serve(arguments, reason):
    found = gpu.unsupported(*arguments)
    assert found is None if reason is None else reason in found


def test_what_is_not_served_is_refused():
    f1 = f2 = jnp.zeros((1, 3, 3, 4))
    with pytest.raises(ValueError, match="bfloat16 features, not float32; implementation='dense'"):
        gpu.match(f1, f2, patch=3, **SETTINGS)
    with pytest.raises(ValueError, match="relu=False"):
        gpu.match(f1, f2, patch=3, **SETTINGS | {"relu": False})
    with pytest.raises(ValueError, match="windows of 129 x 129"):
        gpu.correlate(f1, f2, patch=129)


@pytest.mark.parametrize("operation", ["match", pytest.param("correlate", marks=pytest.mark.slow)])
def test_vmap_is_more_pairs(operation):
    f1, f2 = (f.reshape(2, 1, 5, 6, 8) for f in cosines((2, 5, 6, 8)))
    options = {"patch": 3, **(SETTINGS if operation == "match" else {}), "interpret": interpreted()}
    function = partial(getattr(gpu, operation), **options)
    together = values_and_gradients(function, *(f[:, 0] for f in (f1, f2)))
    mapped = jax.tree.map(lambda x: x[:, 0], values_and_gradients(jax.vmap(function), f1, f2))
    jax.tree.map(np.testing.assert_array_equal, mapped, together)
