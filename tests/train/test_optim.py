"""The optimizer does the published arithmetic, the schedule drops when an epoch begins."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidrec.config import TCM_GROUPS, TSM_GROUPS, base
from vidrec.errors import UsageError
from vidrec.train.optim import learning_rate, make_optimizer, multipliers


def tree(kernel, scale, bias):
    return {
        "conv1": {"kernel": np.array([kernel])},
        "bn1": {"scale": np.array([scale])},
        "fc": {"bias": np.array([bias])},
    }


PARAMS = tree([1.0, -2.0], 3.0, 4.0)
GRADIENTS = tree([0.3, 0.4], 1.2, 0.0)


def settings(**values):
    optim = base().optim
    optim.update(values)
    return optim


def run(optim, steps, frozen=frozenset()):
    optimizer = make_optimizer(optim, lambda step: optim.lr, frozen)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, GRADIENTS), state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
    return params


def published_sgd(steps, *, lr, momentum, decay, clip, nesterov, lr_mult, decay_mult):
    """min(1, clip / norm) * g + wd * p; m = momentum * m + d; p -= lr * (d + momentum * m) or lr * m."""
    norm = np.sqrt(sum((g**2).sum() for group in GRADIENTS.values() for g in group.values()))
    out = {}
    for name, group in PARAMS.items():
        for leaf, p in group.items():
            g = GRADIENTS[name][leaf] * min(1, clip / norm)
            m = np.zeros_like(p)
            for _ in range(steps):
                d = g + decay * decay_mult[name] * p
                m = momentum * m + d
                p = p - lr * lr_mult[name] * (d + momentum * m if nesterov else m)
            out[name] = p
    return out


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_the_published_arithmetic(nesterov):
    optim = settings(lr=0.1, nesterov=nesterov, weight_decay=0.01, clip_norm=1.0, groups=TSM_GROUPS)
    expected = published_sgd(
        3, lr=0.1, momentum=0.9, decay=0.01, clip=1.0, nesterov=nesterov,
        lr_mult={"conv1": 1, "bn1": 1, "fc": 10}, decay_mult={"conv1": 1, "bn1": 0, "fc": 0},
    )  # fmt: skip
    params = run(optim, 3)
    for name, group in params.items():
        np.testing.assert_allclose(next(iter(group.values())), expected[name], rtol=1e-6)


def test_frozen_parameters_stay():
    params = run(settings(lr=0.1), 2, frozenset({"bn1/scale"}))
    assert params["bn1"]["scale"] == PARAMS["bn1"]["scale"]
    assert (params["conv1"]["kernel"] != PARAMS["conv1"]["kernel"]).all()


@pytest.mark.parametrize("name", ["adamw", "nadamw"])
def test_adam_decays_kernels_only_when_asked(name):
    plain = run(settings(name=name, lr=0.1, weight_decay=0.0), 1)
    decayed = run(settings(name=name, lr=0.1, weight_decay=0.5, decay="kernels"), 1)
    np.testing.assert_allclose(
        decayed["conv1"]["kernel"], plain["conv1"]["kernel"] - 0.1 * 0.5 * PARAMS["conv1"]["kernel"], rtol=1e-6
    )
    np.testing.assert_array_equal(decayed["bn1"]["scale"], plain["bn1"]["scale"])


def test_lars_is_the_published_arithmetic():
    """Algorithm 1: m = momentum * m + lr * trust * |w| / (|g| + decay * |w|) * (g + decay * w); w -= m."""
    optim = settings(name="lars", lr=2.0, weight_decay=0.01, clip_norm=0.0, trust=0.1, groups=((r"bias$", 3.0, 0.0),))
    w, g, m = PARAMS["conv1"]["kernel"], GRADIENTS["conv1"]["kernel"], 0
    for _ in range(3):
        norm = np.linalg.norm(w)
        m = 0.9 * m + 2.0 * 0.1 * norm / (np.linalg.norm(g) + 0.01 * norm) * (g + 0.01 * w)
        w = w - m
    params = run(optim, 3)
    np.testing.assert_allclose(params["conv1"]["kernel"], w, rtol=1e-5)
    scale, m = PARAMS["bn1"]["scale"], 0  # a norm, like a bias, moves by its gradient
    for _ in range(3):
        m = 0.9 * m + 2.0 * (1.2 + 0.01 * scale)
        scale = scale - m
    np.testing.assert_allclose(params["bn1"]["scale"], scale, rtol=1e-5)


def test_lars_moves_zeros():
    optimizer = make_optimizer(settings(name="lars", lr=1.0), lambda step: 1.0)
    params = {"fc": {"kernel": jnp.zeros((2, 2))}}
    updates: Any
    updates, _ = optimizer.update({"fc": {"kernel": jnp.full((2, 2), 0.5)}}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["fc"]["kernel"], -0.5)


def test_trust_is_of_lars_alone():
    with pytest.raises(UsageError, match=r"optim\.trust has no effect here: optim\.name=sgd"):
        make_optimizer(settings(trust=0.01), lambda step: 1.0)


def test_groups_of_the_published_codes():
    tsm, tsm_decay = multipliers(TSM_GROUPS, "all")
    tcm, tcm_decay = multipliers(TCM_GROUPS, "all")
    values = {
        "layer1_0/conv1/kernel": (1, 1), "layer1_0/bn2/scale": (1, 0), "layer1_0/bn2/bias": (1, 0),
        "layer1_0/downsample_bn/bias": (1, 0), "layer1_0/conv1/bias": (2, 0), "fc/kernel": (5, 1), "fc/bias": (10, 0),
    }  # fmt: skip
    for path, (lr, decay) in values.items():
        assert (tsm(path, np.zeros(1)), tsm_decay(path, np.zeros(1))) == (lr, decay), path
    assert (tcm("fc/kernel", None), tcm("fc/bias", None), tcm_decay("fc/bias", np.zeros(1))) == (1, 2, 0)


def test_step_schedule_drops_with_the_epoch():
    # 100 records in batches of 8: step 12 begins with clip 96, in epoch 0; step 13 lies in epoch 1.
    rate = learning_rate(settings(lr=1.0, boundaries=(1, 3)), total_steps=60, steps_per_epoch=100 / 8)
    epochs = np.arange(60) * 8 // 100
    expected = 0.1 ** ((epochs >= 1) + (epochs >= 3) * 1.0)
    np.testing.assert_allclose([rate(step) for step in range(60)], expected, rtol=1e-6)


def test_boundaries_that_fall_on_one_step_all_count():
    rate = learning_rate(settings(lr=1.0, boundaries=(1.1, 1.2, 3)), total_steps=12, steps_per_epoch=3)
    np.testing.assert_allclose([rate(step) for step in (3, 4, 8, 9)], [1, 0.01, 0.01, 0.001], rtol=1e-6)


def test_warm_up_and_cosine():
    rate = learning_rate(
        settings(lr=1.0, schedule="cosine", warmup_steps=4, final=0.01), total_steps=104, steps_per_epoch=10
    )
    np.testing.assert_allclose([rate(step) for step in range(5)], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
    np.testing.assert_allclose(rate(54), 0.01 + 0.99 / 2, rtol=1e-5)
    np.testing.assert_allclose(rate(104), 0.01, rtol=1e-5)


@pytest.mark.parametrize("field", ["name", "schedule", "decay"])
def test_unknown_choices_are_told(field):
    optim = settings(**{field: "magic"})
    with pytest.raises(UsageError, match=rf"optim\.{field}"):
        make_optimizer(optim, learning_rate(optim, total_steps=1, steps_per_epoch=1))
