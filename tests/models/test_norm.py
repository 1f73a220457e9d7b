import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quick import jit
from vidrec.errors import UsageError, VidrecError
from vidrec.models.norm import BatchNorm, Policy, frozen_params, parse_bn
from vidrec.models.registry import create_model

X = jax.random.normal(jax.random.key(0), (8, 3, 4, 4, 5)) * 2 + 30


def step(x, bn="global", **fields):
    """(output, running statistics) of one training step from the initial statistics."""
    norm = BatchNorm(parse_bn(bn), train=True, **fields)
    variables = norm.init(jax.random.key(1), x)
    y, state = jit(lambda v: norm.apply(v, x, mutable=["batch_stats"]))(variables)
    return y, state["batch_stats"]


def test_normalises_by_the_biased_and_keeps_the_unbiased_variance():
    y, stats = step(X)
    x = np.asarray(X, np.float64).reshape(-1, 5)
    np.testing.assert_allclose(y.reshape(-1, 5), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), atol=5e-4)
    np.testing.assert_allclose(stats["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * x.var(0, ddof=1), rtol=5e-4)


def test_statistics_stay_accurate_far_from_zero():
    far = X + 3e4
    norm = BatchNorm(Policy("global"), train=True)
    variables = norm.init(jax.random.key(1), far)
    near = {**variables, "batch_stats": {"mean": jnp.full(5, 3.003e4), "var": jnp.ones(5)}}
    y, _ = norm.apply(near, far, mutable=["batch_stats"])
    x = np.asarray(far, np.float64).reshape(-1, 5)
    np.testing.assert_allclose(y.reshape(-1, 5), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), atol=1e-2)


def test_gradient_runs_through_the_statistics():
    y, _ = step(X)
    norm = BatchNorm(Policy("global"), train=True)
    variables = norm.init(jax.random.key(1), X)
    gradient = jit(jax.grad(lambda x: jnp.sum(norm.apply(variables, x, mutable=["batch_stats"])[0] ** 3)))(X)
    three_y2 = np.asarray(3 * y**2).reshape(-1, 5)  # the textbook backward pass, by hand
    z = np.asarray(y).reshape(-1, 5)
    expected = (three_y2 - three_y2.mean(0) - z * (three_y2 * z).mean(0)) / np.asarray(X).reshape(-1, 5).std(0)
    np.testing.assert_allclose(gradient.reshape(-1, 5), expected, atol=2e-3)


def test_a_group_is_a_batch_of_its_own():
    y, stats = step(X, "group:4")
    halves = [step(X[:4]), step(X[4:])]
    np.testing.assert_allclose(y, jnp.concatenate([half for half, _ in halves]), atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(stats[name], (halves[0][1][name] + halves[1][1][name]) / 2, rtol=1e-6)


def test_one_group_is_the_global_batch():
    for a, b in zip(jax.tree.leaves(step(X, "group:8")), jax.tree.leaves(step(X)), strict=True):
        assert np.array_equal(a, b)


def test_batch_that_is_no_whole_number_of_groups():
    with pytest.raises(VidrecError, match=r"bn='group:3' .* multiple of 3 clips, but it has 8"):
        step(X, "group:3")


def test_momentum_is_the_part_kept():
    assert np.allclose(step(X, momentum=0.8)[1]["mean"], 2 * step(X, momentum=0.9)[1]["mean"])


def test_bfloat16_is_normalised_in_float32():
    y, stats = step(X.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    assert stats["mean"].dtype == jnp.float32
    np.testing.assert_allclose(y, step(X.astype(jnp.bfloat16).astype(jnp.float32))[0], atol=0.02)


def test_evaluation_uses_running_statistics_and_a_batch_of_any_size():
    norm = BatchNorm(Policy("group", 4))
    variables = norm.init(jax.random.key(0), X)
    np.testing.assert_allclose(norm.apply(variables, X[:3]), X[:3] / np.sqrt(1 + 1e-5), rtol=1e-6)


@pytest.mark.parametrize("text", ["", "globl", "group", "group:", "group:0", "group:-2", "group:x", "frozen:2"])
def test_unknown_policy(text):
    with pytest.raises(UsageError, match=r"^bn="):
        parse_bn(text)


SMALL = {"num_classes": 3, "num_frames": 2, "stem_width": 4, "widths": (4, 4), "stage_sizes": (1, 1), "strides": (1, 2)}


def train_step(bn):
    """(frozen paths, gradients, statistics before, after) of a small STM network under a policy."""
    model = create_model("stm_resnet18", **SMALL, bn=bn, stem="small", dropout=0.0)
    clips = jax.random.normal(jax.random.key(0), (2, 2, 8, 8, 3))
    variables = jit(lambda: model.init(jax.random.key(1), clips, train=False))()

    def loss(params):
        output, state = model.apply({**variables, "params": params}, clips, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(output.logits)), state["batch_stats"]

    gradients, after = jit(jax.grad(loss, has_aux=True))(variables["params"])
    return frozen_params(bn, variables), gradients, variables["batch_stats"], after


@pytest.mark.parametrize(
    ("bn", "trained"), [("global", "all"), ("group:2", "all"), ("partial", "first"), ("frozen", "none")]
)
def test_what_a_policy_freezes(bn, trained):
    frozen, gradients, before, after = train_step(bn)
    for norm in ("bn1", "layer1_0/bn1", "layer1_0/cmm/reduce_bn", "layer2_0/downsample_bn"):
        path = tuple(norm.split("/"))
        is_trained = trained == "all" or (trained == "first" and norm == "bn1")
        gradient, old, new = (functools.reduce(dict.__getitem__, path, tree) for tree in (gradients, before, after))
        assert ((*path, "scale") in frozen) == ((*path, "bias") in frozen) == (not is_trained)
        assert bool(gradient["scale"].any()) == is_trained
        assert np.array_equal(old["mean"], new["mean"]) == (not is_trained)
    assert not any(path[-1] == "kernel" or path[0] == "fc" for path in frozen)


SHARDED = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from vidrec.models.norm import BatchNorm, parse_bn
x = np.random.default_rng(0).normal(3, 2, (8, 2, 4, 4, 5)).astype(np.float32)
mesh = Mesh(np.array(jax.devices()), "data")
assert len(jax.devices()) == 4
for bn in ("group:2", "group:4", "global"):
    norm = BatchNorm(parse_bn(bn), train=True)
    variables = norm.init(jax.random.key(0), x)
    apply = jax.jit(lambda x: norm.apply(variables, x, mutable=["batch_stats"]))
    spread = jax.device_put(x, NamedSharding(mesh, P("data")))
    for a, b in zip(jax.tree.leaves(apply(x)), jax.tree.leaves(apply(spread)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
"""


def test_result_does_not_depend_on_the_number_of_devices():
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", SHARDED], env=environment, check=True, timeout=120)
