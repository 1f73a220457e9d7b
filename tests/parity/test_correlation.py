"""Correlation and match estimation against the public correlation kernel and TCM's own functions.

`*_small` hold the smaller cases of the files without it, which are too large for the repository.
"""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.goldens import assert_near, load
from tests.quick import jit
from vidrec.ops.correlation import local_correlation, reference
from vidrec.ops.correlation.api import unit_length


def maps(x):
    """torch's [N, C, H, W] to [N, H, W, C]."""
    return jnp.asarray(x.transpose(0, 2, 3, 1))


def windows(x):
    """torch's [N, P, P, H, W] to [N, H, W, P, P]."""
    return jnp.asarray(x.transpose(0, 3, 4, 1, 2))


def check(function, golden, case):
    """Values, and gradients of sum(values * cotangent)."""
    f1, f2 = maps(golden[f"{case}_f1"]), maps(golden[f"{case}_f2"])
    patch = round((golden[f"{case}_out"].size / f1[..., 0].size) ** 0.5)
    out, cotangent = (
        windows(golden[f"{case}_{key}"].reshape(len(f1), patch, patch, *f1.shape[1:3])) for key in ("out", "cot")
    )
    values, pullback = jax.vjp(lambda f1, f2: function(f1, f2, patch), f1, f2)
    assert_near(values, out, 1e-5)
    for gradient, key in zip(pullback(cotangent), ("gf1", "gf2"), strict=True):
        assert_near(gradient, maps(golden[f"{case}_{key}"]), 5e-5)


def correlation_cases(golden):
    """Settings of each case that the file holds, and whether they are those of a network."""
    for case, settings in json.loads(bytes(golden["meta_json"]).decode()).items():
        if f"{case}_f1" in golden:
            options = {key: settings[key] for key in ("dilation_patch", "kernel", "stride", "padding", "dilation")}
            yield case, options, options == dict.fromkeys(options, 1) | {"padding": 0}


@pytest.mark.parametrize("name", ["correlation_small", "correlation"])
@pytest.mark.parametrize("implementation", ["dense", "gather", "reference"])
def test_correlation(name, implementation):
    golden = load(name)
    plain = [case for case, _, is_plain in correlation_cases(golden) if is_plain]

    def correlate(f1, f2, patch):
        return local_correlation(f1, f2, patch=patch, implementation=implementation)

    for case in plain:
        check(jit(correlate, static_argnums=2), golden, case)
    assert len(plain) >= 2


@pytest.mark.parametrize("name", ["correlation_small", "correlation"])
def test_correlation_with_other_spacings(name):
    golden, seen = load(name), 0
    for case, options, is_plain in correlation_cases(golden):
        if is_plain:
            continue
        f1, f2, seen = maps(golden[f"{case}_f1"]), maps(golden[f"{case}_f2"]), seen + 1
        patch = golden[f"{case}_out"].shape[1]
        correlate = partial(reference.correlate, patch=patch, **options)
        values, pullback = jax.vjp(jit(correlate), f1, f2)
        assert_near(values, windows(golden[f"{case}_out"]), 1e-5)
        for gradient, key in zip(pullback(windows(golden[f"{case}_cot"])), ("gf1", "gf2"), strict=True):
            assert_near(gradient, maps(golden[f"{case}_{key}"]), 5e-5)
    assert seen == 2


@pytest.mark.parametrize("name", ["matching_layer_small", "matching_layer"])
@pytest.mark.parametrize("implementation", ["dense", "gather", "reference"])
def test_matching_layer(name, implementation):
    golden = load(name)

    def matching(f1, f2, patch):
        scores = local_correlation(unit_length(f1), unit_length(f2), patch=patch, implementation=implementation)
        return jax.nn.relu(scores)

    for case in sorted({key[0] for key in golden}):
        check(jit(matching, static_argnums=2), golden, case)


@pytest.mark.parametrize("name", ["match_estimation_small", "match_estimation"])
def test_match_estimation(name):
    golden = load(name)
    for case in sorted({key.rpartition("_match")[0] for key in golden if key.endswith("_match")} - {""}):
        if case.endswith("_gauss_times"):
            continue
        height, width = golden[f"{case}_conf"].shape[-2:]
        patch = round(golden[f"{case}_match"].shape[1] ** 0.5)

        def volume(key, case=case, patch=patch, height=height, width=width):
            return windows(golden[f"{case}_{key}"].reshape(-1, patch, patch, height, width))

        def flat(key, case=case, height=height, width=width):
            return golden[f"{case}_{key}"].reshape(-1, height, width)

        def estimate(scores, tau, reach=patch // 2):
            displacement, confidence = reference.estimate(scores, sigma=5.0, tau=tau)
            return displacement[..., 0] / reach, displacement[..., 1] / reach, confidence

        scores = volume("match")
        found, pullback = jax.vjp(jit(lambda s, f=estimate: f(s, 0.01)), scores)
        for value, key in zip(found, ("u", "v", "conf"), strict=True):
            assert_near(value, flat(key), 1e-5)
        (gradient,) = pullback(tuple(jnp.asarray(flat(f"cot_{key}")) for key in ("u", "v", "conf")))
        assert_near(gradient, volume("gmatch"), 5e-5)
        for value, key in zip(estimate(scores, 1.0)[:2], ("u_t1", "v_t1"), strict=True):
            assert_near(value, flat(key), 1e-5)
        if f"{case}_gauss_times_match" in golden:
            assert_near(reference.around_peak(scores, 5.0), volume("gauss_times_match"), 1e-6)
        assert not np.any([value[0, 0, 0] for value in found])  # all scores are zero there
